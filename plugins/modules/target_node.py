#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: target_node
short_description: Target nodes of an iSCSI target
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Creates, edits, replaces and removes the iSCSI target nodes to which initiators log in.
  - Everything about a node changes while initiators are logged in; alias, queue depth and digests count from the next
    login on. What takes a LUN from somebody or logs them out needs O(force).
  - SPDK changes maps, additional LUNs and CHAP like this. For everything else it replaces the node, which drops its
    sessions and needs O(force), too.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.target
  - openlun.iscsi._target
  - openlun.iscsi._target.object
attributes:
  check_mode:
    support: full
    details:
      - When no engine answers yet, the module warns and plans for a new and empty one.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description:
      - Name of the target node.
      - A name that does not begin with C(iqn.), C(eui.) or C(naa.) is put behind the engine's base, so that
        C(disk1) becomes C(iqn.2016-06.io.spdk:disk1).
    type: str
    required: true
  alias:
    description:
      - Text that describes the target node to people.
      - Default is no alias.
    type: str
  luns:
    description:
      - The disks that the node serves. The list is complete, and has LUN 0. Needed when the node is created.
      - LUNs come and go while initiators are logged in. To take one away that somebody sees, or to exchange its
        bdev, needs O(force). SPDK only adds LUNs, while nobody is logged in; else it replaces the node.
    type: list
    elements: dict
    suboptions:
      id:
        description: Number of the LUN.
        type: int
        default: 0
      bdev:
        description: Name of the bdev.
        type: str
        required: true
      initiator_groups:
        description:
          - Tags of the initiator groups that see the LUN, all mapped to the node. An empty list shows it to all.
          - Left out, it stays as it is; a new LUN is shown to all.
          - Hiding it from somebody who is logged in needs O(force). SPDK shows every LUN to all.
        version_added: 0.2.0
        type: list
        elements: int
      readonly:
        description:
          - Whether initiators can only read, whatever the bdev allows.
          - Left out, it stays as it is; a new LUN can be written. To change it, the LUN goes and comes again.
          - SPDK has no such LUNs.
        version_added: 0.2.0
        type: bool
      removable:
        description:
          - Whether the LUN tells initiators that its medium can be ejected.
          - Left out, it stays as it is; a new LUN is fixed. To change it, the LUN goes and comes again.
          - SPDK has no such LUNs.
        version_added: 0.2.0
        type: bool
  maps:
    description:
      - Who may come in and where. The list is complete. Needed when the node is created.
    type: list
    elements: dict
    suboptions:
      portal_group:
        description: Tag of the portal group by whose portals the node is reached.
        type: int
        required: true
      initiator_group:
        description: Tag of the initiator group that may log in there.
        type: int
        required: true
  queue_depth:
    description:
      - How many commands a session may have outstanding, from 1 to the engine's maximum.
      - Default is V(64).
    type: int
  header_digest:
    description:
      - Whether connections must protect PDU headers with a CRC32C digest.
      - Default is V(false), which leaves it to the initiator.
    type: bool
  data_digest:
    description:
      - Whether connections must protect data with a CRC32C digest.
      - Default is V(false), which leaves it to the initiator.
    type: bool
  chap:
    description:
      - Whether initiators that log in have to prove who they are.
      - V(none) asks nobody, V(auto) only those who offer it, V(required) everybody, and with V(mutual) the target
        proves itself, too.
      - Default is V(none), or V(required) if O(auth_group) is given.
      - Changes while initiators are logged in; it counts from the next login on.
    version_added: 0.1.0
    type: str
    choices: [none, auto, required, mutual]
  auth_group:
    description:
      - Tag of the auth group that has the secrets. It has to exist, or to be declared in the same run.
    version_added: 0.1.0
    type: int
  redirects:
    description:
      - Where initiators are sent that come by a portal group, instead of being let in. The list is complete.
      - The portal group is one of O(maps) and not private. SPDK does not tell its redirects, so they cannot be
        declared for it.
    version_added: 0.1.0
    type: list
    elements: dict
    suboptions:
      portal_group:
        description: Tag of the portal group.
        type: int
        required: true
      address:
        description: Portal to go to, as C(ADDRESS:PORT), C([IPV6-ADDRESS]:PORT) or an address alone for port 3260.
        type: str
        required: true
      permanent:
        description: Whether initiators may remember the new address; otherwise they come to the old one first.
        version_added: 0.2.0
        type: bool
        default: false
  enabled:
    description:
      - Whether initiators may log in and find the node by discovery.
      - Default is V(true). To disable a node logs out who is there, which needs O(force). SPDK cannot do it.
    version_added: 0.2.0
    type: bool
"""

EXAMPLES = r"""
- name: Serve a disk
  openlun.iscsi.target_node:
    name: disk1
    alias: Disk 1
    luns:
      - id: 0
        bdev: disk0
    maps:
      - portal_group: 1
        initiator_group: 2

- name: Add a second disk, with the initiators logged in
  openlun.iscsi.target_node:
    name: disk1
    luns:
      - {id: 0, bdev: disk0}
      - {id: 1, bdev: Malloc0}

- name: Ask for a secret from now on
  openlun.iscsi.target_node:
    name: disk1
    chap: required
    auth_group: 1

- name: Send initiators elsewhere before maintenance
  openlun.iscsi.target_node:
    name: disk1
    redirects:
      - portal_group: 1
        address: "[fd00::2]:3260"

- name: Let nobody in for now, and log out who is there
  openlun.iscsi.target_node:
    name: disk1
    enabled: false
    force: true

- name: Serve it no more, whoever is logged in
  openlun.iscsi.target_node:
    name: disk1
    state: absent
    force: true
"""

RETURN = r"""
target_node:
  description: The target node as it is now, V(null) when it is absent. In check mode as it would be.
  returned: success
  type: dict
  sample:
    name: iqn.2016-06.io.spdk:disk1
    alias: Disk 1
    luns: [{id: 0, bdev: disk0}]
    maps: [{portal_group: 1, initiator_group: 2}]
    queue_depth: 64
    header_digest: false
    data_digest: false
    chap: required
    auth_group: 1
    redirects: []
    enabled: true
actions:
  description: What was done, or what would be done in check mode, in this order.
  returned: always
  type: list
  elements: dict
  contains:
    action:
      description: One of V(create), V(edit), V(replace) and V(delete).
      type: str
      returned: always
    object:
      description: Kind and key of the object.
      type: str
      returned: always
    why:
      description: What differs, or why the object goes.
      type: str
      returned: always
    sessions:
      description: The initiators whose sessions the action drops, whose portal it closes or from whom it takes a LUN.
      type: list
      elements: str
      returned: always
  sample:
    - action: replace
      object: portal group 1
      why: portals 10.0.0.1:3260 → 10.0.0.2:3260
      sessions: ["iqn.1993-08.org.debian:01:5f3a (10.0.0.7)"]
problems:
  description:
    - Everything that is wrong with the options, each with its path, or every step that needs O(force).
    - Nothing was changed.
  returned: when the module refuses
  type: list
  elements: str
  sample:
    - "luns[0].bdev: no bdev named disk7. Declare it in bdevs or create it first. Known bdevs: disk0, disk1."
"""

from ansible_collections.openlun.iscsi.plugins.module_utils._state.base import TARGET_NODE
from ansible_collections.openlun.iscsi.plugins.module_utils._state.run import run_object


def main() -> None:
    run_object(TARGET_NODE)


if __name__ == "__main__":
    main()
