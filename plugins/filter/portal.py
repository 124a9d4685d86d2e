# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: portal
short_description: A portal as text, safe for IPv6
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Joins an address and a port, with brackets around an IPv6 address.
positional: port
options:
  _input:
    description: An IP address with or without brackets, or V(*) or V([*]) for all addresses of a family.
    type: str
    required: true
  port:
    description: Port of the portal.
    type: int
    default: 3260
"""

EXAMPLES = r"""
- name: Show [fd00::1]:3260
  ansible.builtin.debug:
    msg: "{{ 'fd00::1' | openlun.iscsi.portal }}"

- name: Show 10.0.0.1:3261
  ansible.builtin.debug:
    msg: "{{ '10.0.0.1' | openlun.iscsi.portal(3261) }}"
"""

RETURN = r"""
_value:
  description: The portal, in the spelling in which the modules return it.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.facts import DEFAULT_ISCSI_PORT
from ansible_collections.openlun.iscsi.plugins.module_utils._state.portals import canonical_host, parse_portal


def portal(host: object, port: int | str = DEFAULT_ISCSI_PORT) -> str:
    """Raises AnsibleFilterError."""
    try:
        text = canonical_host(str(host).strip())
    except ValueError as error:
        raise AnsibleFilterError(f"openlun.iscsi.portal: {host} is not an IP address.") from error
    try:
        return str(parse_portal(f"{text}:{port}"))
    except ValueError as error:
        raise AnsibleFilterError(f"openlun.iscsi.portal: {error}") from error


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"portal": portal}
