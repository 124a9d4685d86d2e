# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: iqn
short_description: The complete name of a target node
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Puts a short name behind a base, as the engine does it, and checks that the result is an iSCSI name.
  - A name that begins with C(iqn.), C(eui.) or C(naa.) is complete and stays what it is.
positional: base
options:
  _input:
    description: A name, short or complete.
    type: str
    required: true
  base:
    description: What a short name is put behind. The default is that of the engines.
    type: str
    default: iqn.2016-06.io.spdk
"""

EXAMPLES = r"""
- name: Show iqn.2016-06.io.spdk:disk1
  ansible.builtin.debug:
    msg: "{{ 'disk1' | openlun.iscsi.iqn }}"

- name: Show iqn.2020-01.com.example:disk1
  ansible.builtin.debug:
    msg: "{{ 'disk1' | openlun.iscsi.iqn('iqn.2020-01.com.example') }}"
"""

RETURN = r"""
_value:
  description: The complete name.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.facts import DEFAULT_NODE_BASE
from ansible_collections.openlun.iscsi.plugins.module_utils._state.names import check_name, full_name


def iqn(name: object, base: str = DEFAULT_NODE_BASE) -> str:
    """Raises AnsibleFilterError."""
    complete = full_name(str(name), base)
    try:
        check_name(complete)
    except ValueError as error:
        raise AnsibleFilterError(f"openlun.iscsi.iqn: {error}") from error
    return complete


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"iqn": iqn}
