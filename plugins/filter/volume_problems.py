# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: volume_problems
short_description: What is wrong with volumes and their hosts
version_added: 0.2.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Everything that would make P(openlun.iscsi.volumes#filter) refuse, one sentence each, with its path in the
    variables. An empty list if it would not refuse.
  - No sentence repeats a secret.
positional: hosts, taken
options:
  _input:
    description: The volumes.
    type: list
    elements: dict
    required: true
  hosts:
    description: The hosts, as for P(openlun.iscsi.volumes#filter).
    type: dict
    required: true
  taken:
    description: Tags of other initiator groups and auth groups.
    type: list
    elements: int
    default: []
seealso:
  - plugin: openlun.iscsi.volumes
    plugin_type: filter
"""

EXAMPLES = r"""
- name: The volumes can be served
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems }}"
  vars:
    hosts: "{{ hostvars | openlun.iscsi.volume_hosts(iscsi_volumes) }}"
    problems: "{{ iscsi_volumes | openlun.iscsi.volume_problems(hosts) }}"
"""

RETURN = r"""
_value:
  description: The sentences.
  type: list
  elements: str
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ansible_collections.openlun.iscsi.plugins.module_utils._state.volumes import BadVolumes, expand


def volume_problems(
    declared: Sequence[Mapping[str, Any]], hosts: Mapping[str, Mapping[str, Any]], taken: Collection[int] = ()
) -> list[str]:
    """The sentences."""
    try:
        expand(declared, hosts, taken=taken)
    except BadVolumes as bad:
        return bad.problems
    return []


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"volume_problems": volume_problems}
