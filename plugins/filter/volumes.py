# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: volumes
short_description: Volumes for hosts as the options of target_config
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Expands a list of volumes into the bdevs, auth groups, initiator groups and target nodes that serve them.
  - All that is made for a volume is called by its name, or by a tag that comes of its name. Neither the order of the
    volumes nor other volumes change it.
  - A volume has a C(name), C(hosts), a C(size) and optionally a C(path), and C(chap). The file is
    O(directory) and the name with C(.img) if there is no path; a path under C(/dev) needs no size. Instead of both it
    can have a C(bdev) that is declared elsewhere, such as a namespace of an NVMe controller.
  - C(chap) is V(false), V(true) for V(required), or a policy such as V(mutual).
  - C(sparse), C(readonly) and C(block_size) are those of M(openlun.iscsi.bdev), C(alias) and C(queue_depth) those of
    M(openlun.iscsi.target_node). With C(state=absent) all that the volume is made of goes, but not its file.
  - C(tag) replaces the tag that comes of the name, for the rare case that it is the one of another group. The filter
    fails then, and says so.
  - C(filesystem), C(mount) and C(mount_options) are left to the hosts. Anything else is refused.
positional: hosts, portal_group, directory, taken
options:
  _input:
    description: The volumes.
    type: list
    elements: dict
    required: true
  hosts:
    description:
      - The hosts by the names that the volumes give them.
      - Each has the name of its C(initiator), and may have the C(addresses) it comes from, without which it may come
        from anywhere. For CHAP it has C(user) and C(secret), and C(muser) and C(msecret) for mutual CHAP.
      - The filter P(openlun.iscsi.volume_hosts#filter) makes it of the inventory.
    type: dict
    required: true
  portal_group:
    description: Tag of the portal group by which the volumes are reached.
    type: int
    default: 1
  directory:
    description: Where the files are that hold the volumes.
    type: path
    default: /srv/iscsi
  taken:
    description: Tags of other initiator groups and auth groups, which no volume gets.
    type: list
    elements: int
    default: []
"""

EXAMPLES = r"""
- name: A volume for two hosts
  openlun.iscsi.target_config:
    portal_groups: [{tag: 1, portals: ["10.0.0.1:3260"]}]
    bdevs: "{{ expanded.bdevs }}"
    auth_groups: "{{ expanded.auth_groups }}"
    initiator_groups: "{{ expanded.initiator_groups }}"
    target_nodes: "{{ expanded.target_nodes }}"
  vars:
    expanded: "{{ iscsi_volumes | openlun.iscsi.volumes(hosts) }}"
    iscsi_volumes:
      - {name: pgdata, size: 20GiB, hosts: [db1, db2], chap: true}
    hosts:
      db1: {initiator: "iqn.2020-01.com.example:db1", addresses: [10.0.0.5], user: db1, secret: "{{ vault_db1 }}"}
      db2: {initiator: "iqn.2020-01.com.example:db2", addresses: [10.0.0.6], user: db2, secret: "{{ vault_db2 }}"}
"""

RETURN = r"""
_value:
  description: The options C(bdevs), C(auth_groups), C(initiator_groups) and C(target_nodes) of
    M(openlun.iscsi.target_config).
  type: dict
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.openlun.iscsi.plugins.module_utils._state.volumes import DEFAULT_DIRECTORY, BadVolumes, expand


def volumes(
    declared: Sequence[Mapping[str, Any]],
    hosts: Mapping[str, Mapping[str, Any]],
    portal_group: int = 1,
    directory: str = DEFAULT_DIRECTORY,
    taken: Collection[int] = (),
) -> dict[str, Any]:
    """Raises AnsibleFilterError with every problem."""
    try:
        return expand(declared, hosts, portal_group=portal_group, directory=directory, taken=taken)
    except BadVolumes as bad:
        raise AnsibleFilterError(f"openlun.iscsi.volumes: {' '.join(bad.problems)}") from bad


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"volumes": volumes}
