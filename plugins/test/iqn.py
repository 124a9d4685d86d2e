# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: iqn
short_description: Whether a text is a complete iSCSI name
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - True for a name that begins with C(iqn.), C(eui.) or C(naa.) and has the form of that kind of name.
options:
  _input:
    description: What is looked at.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Refuse what is no name
  ansible.builtin.assert:
    that: initiator is openlun.iscsi.iqn
"""

RETURN = r"""
_value:
  description: Whether it is an iSCSI name.
  type: bool
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.openlun.iscsi.plugins.module_utils._state.names import check_name


def iqn(name: object) -> bool:
    try:
        check_name(str(name))
    except ValueError:
        return False
    return isinstance(name, str)


class TestModule:
    """What Ansible loads."""

    def tests(self) -> dict[str, Callable[..., Any]]:
        return {"iqn": iqn}
