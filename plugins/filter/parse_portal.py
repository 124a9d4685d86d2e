# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: parse_portal
short_description: Address and port of a portal
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Takes a portal apart, as the modules read it.
options:
  _input:
    description: A portal as C(ADDRESS:PORT), C([IPV6-ADDRESS]:PORT) or an address alone for port 3260.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show fd00::1
  ansible.builtin.debug:
    msg: "{{ ('[fd00::1]:3261' | openlun.iscsi.parse_portal).host }}"
"""

RETURN = r"""
_value:
  description: The C(host), without brackets, and the C(port).
  type: dict
  sample: {host: "fd00::1", port: 3261}
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.openlun.iscsi.plugins.module_utils._state.portals import parse_portal as parse


def parse_portal(text: object) -> dict[str, str | int]:
    """Raises AnsibleFilterError."""
    try:
        portal = parse(str(text))
    except ValueError as error:
        raise AnsibleFilterError(f"openlun.iscsi.parse_portal: {error}") from error
    return {"host": portal.host.strip("[]"), "port": portal.port}


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"parse_portal": parse_portal}
