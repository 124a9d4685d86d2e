#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: target_config
short_description: The whole configuration of an iSCSI target
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Compares everything that is declared with what the engine has, and brings the engine there in one run, in an order
    that works, what is new before what is old goes.
  - All options are checked before anything is sent. What is not declared is left alone unless O(prune) is set.
  - Interrupted halfway, the next run finishes the job.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.target
  - openlun.iscsi._target
  - openlun.iscsi._target.force
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
  bdevs:
    description:
      - Block devices; see M(openlun.iscsi.bdev).
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the bdev.
        type: str
        required: true
      type:
        description:
          - V(malloc) is a disk in memory, which is empty after every start of the engine.
          - V(aio) is a file or a block device of the target host.
          - Needed when the bdev is created.
        type: str
        choices: [malloc, aio]
      size:
        description:
          - Size in bytes or with a unit, such as V(64MiB), V(10GiB) or V(1.5TiB). K, M, G and T alone count in 1024.
          - Needed for a new V(malloc) bdev. A file is created in this size when it does not exist, and grows to it.
          - A file is never made smaller. A V(malloc) bdev of another size is a new one, which needs O(force).
          - Without it a file has the size it has. A block device has its own size.
        type: str
      block_size:
        description:
          - Bytes in a block, as initiators see it.
          - Default is V(512), and what the device itself has for a path under C(/dev).
        type: int
        choices: [512, 4096]
      uuid:
        description:
          - UUID by which initiators recognise the disk. The engine chooses one when it is left out.
        type: str
      path:
        description:
          - Absolute path of the file or block device, for V(aio).
        type: path
      readonly:
        description:
          - Whether initiators can only read, for V(aio).
          - Default is V(false).
        type: bool
      sparse:
        description:
          - Whether a file that is created or grown takes its space only when it is written to.
          - By default the space is taken at once, so that a full disk shows now and not later.
          - Counts only when a file is made; what is there is not changed.
        type: bool
      remove_file:
        description:
          - With O(bdevs[].state=absent), whether the file goes with the bdev. Otherwise it stays.
        type: bool
        default: false
      state:
        description:
          - Whether the object shall be there.
        type: str
        choices: [present, absent]
        default: present
  portal_groups:
    description:
      - Portal groups; see M(openlun.iscsi.portal_group).
    type: list
    elements: dict
    suboptions:
      tag:
        description:
          - Number of the group (target portal group tag), from 1 to 65535.
        type: int
        required: true
      portals:
        description:
          - Where the target listens, as C(ADDRESS:PORT), C([IPV6-ADDRESS]:PORT) or an address alone for port 3260.
          - V(*) stands for all IPv4 addresses of the host and V([*]) for all IPv6 addresses.
          - The list is complete; portals that are not in it are closed. Needed when the group is created.
        type: list
        elements: str
      private:
        description:
          - Whether discovery hides the portals of the group.
          - Default is V(false).
        type: bool
      state:
        description:
          - Whether the object shall be there.
        type: str
        choices: [present, absent]
        default: present
  initiator_groups:
    description:
      - Initiator groups; see M(openlun.iscsi.initiator_group).
    type: list
    elements: dict
    suboptions:
      tag:
        description:
          - Number of the group, at least 1.
        type: int
        required: true
      initiators:
        description:
          - Names of the initiators, V(ANY) for all, or V(!NAME) to deny one; the first match decides.
          - The list is complete; who is not in it is taken out.
          - Default is V(ANY) if O(initiator_groups[].netmasks) is given.
        type: list
        elements: str
      netmasks:
        description:
          - Addresses from which initiators may come, as V(ANY), C(10.0.0.0/24), C(10.0.0.7) or C([fd00::]/64).
          - The list is complete. Default is V(ANY) if O(initiator_groups[].initiators) is given.
        type: list
        elements: str
      state:
        description:
          - Whether the object shall be there.
        type: str
        choices: [present, absent]
        default: present
  target_nodes:
    description:
      - Target nodes; see M(openlun.iscsi.target_node).
    type: list
    elements: dict
    suboptions:
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
          - A LUN is added while initiators are logged in. To take one away or exchange its bdev, the node is replaced.
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
      state:
        description:
          - Whether the object shall be there.
        type: str
        choices: [present, absent]
        default: present
  prune:
    description:
      - Whether live objects that are not declared are removed, except those that match O(ignore).
      - What a remaining object needs stays too, as do bdevs of types that M(openlun.iscsi.bdev) does not know.
    type: bool
    default: false
  ignore:
    description:
      - Shell patterns of objects that O(prune) leaves alone.
      - A pattern is compared with the name or tag of every object, or with kind and key if it has a slash, such as
        V(portal_group/9) or V(target_node/iqn.2020-01.com.example:*).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Everything that this host serves
  openlun.iscsi.target_config:
    bdevs:
      - name: disk0
        type: aio
        path: /srv/iscsi/disk0.img
        size: 10GiB
      - name: Malloc0
        type: malloc
        size: 64MiB
    portal_groups:
      - tag: 1
        portals: ["{{ ansible_facts.default_ipv4.address }}:3260"]
    initiator_groups:
      - tag: 2
        initiators: [ANY]
        netmasks: [192.168.0.0/24]
    target_nodes:
      - name: disk1
        alias: Disk 1
        luns:
          - {id: 0, bdev: disk0}
        maps:
          - {portal_group: 1, initiator_group: 2}
        queue_depth: 64

- name: Only what is declared, and what another team made
  openlun.iscsi.target_config:
    bdevs: "{{ iscsi_target_bdevs }}"
    portal_groups: "{{ iscsi_target_portal_groups }}"
    initiator_groups: "{{ iscsi_target_initiator_groups }}"
    target_nodes: "{{ iscsi_target_nodes }}"
    prune: true
    ignore: ["target_node/iqn.2020-01.com.example:*"]
"""

RETURN = r"""
bdevs:
  description: All block devices there are now, or would be in check mode, in the form in which they are declared.
  returned: success
  type: list
  elements: dict
portal_groups:
  description: All portal groups there are now, or would be in check mode, in the form in which they are declared.
  returned: success
  type: list
  elements: dict
initiator_groups:
  description: All initiator groups there are now, or would be in check mode, in the form in which they are declared.
  returned: success
  type: list
  elements: dict
target_nodes:
  description: All target nodes there are now, or would be in check mode, in the form in which they are declared.
  returned: success
  type: list
  elements: dict
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
      description: The initiators whose sessions the action drops or whose portal it closes.
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
    - "target_nodes[3].luns[0].bdev: no bdev named disk7. Known bdevs: disk0."
"""

from ansible_collections.openlun.iscsi.plugins.module_utils._state.run import run_config


def main() -> None:
    run_config()


if __name__ == "__main__":
    main()
