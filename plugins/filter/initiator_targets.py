# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: initiator_targets
short_description: What a host is to be logged in to, as the inventory describes it
version_added: 0.2.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Finds the volumes that storage hosts serve to a host, and where and how it logs in to them.
  - Volumes are C(iscsi_target_volumes) of the storage hosts, or C(iscsi_volumes). Their portals are those of the portal
    group that serves volumes. Where that listens everywhere, the address is C(iscsi_target_addresses), the address of
    the default route in the host's facts, or C(ansible_host).
  - Secrets are C(iscsi_initiator_chap) of the host that logs in.
positional: host, storage, declared, defaults
options:
  _input:
    description: The variables of all hosts, C(hostvars).
    type: dict
    required: true
  host:
    description: The host that logs in.
    type: str
    required: true
  storage:
    description: The hosts that serve volumes.
    type: list
    elements: str
    required: true
  declared:
    description:
      - More targets, as O(openlun.iscsi.iscsi_initiator#role:main:iscsi_initiator_targets). One with the name of a
        volume's target changes what the volume says.
    type: list
    elements: dict
    default: []
  defaults:
    description: Options of M(openlun.iscsi.session) for all targets that do not say otherwise.
    type: dict
    default: {}
seealso:
  - plugin: openlun.iscsi.volume_hosts
    plugin_type: filter
"""

EXAMPLES = r"""
- name: What this host is to be logged in to
  ansible.builtin.debug:
    msg: "{{ derived.targets.keys() }}"
  vars:
    derived: "{{ hostvars | openlun.iscsi.initiator_targets(inventory_hostname, groups['iscsi_targets']) }}"
"""

RETURN = r"""
_value:
  description:
    - The C(targets) by their names, with the options of M(openlun.iscsi.session); the C(mounts), with the options of
      M(openlun.iscsi.disk_mount); the storage hosts of which the address is not known (C(strangers)); and C(problems),
      one sentence each, none of which repeats a secret.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.inventory import derive


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"initiator_targets": derive}
