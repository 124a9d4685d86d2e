#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: disk_mount
short_description: A file system on a disk of the network, mounted now and at boot
version_added: 0.2.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Makes a file system on a disk that is empty, and mounts it by its UUID, which is the same by every path and after
    every boot, with a line in F(/etc/fstab).
  - Nothing on a disk is ever overwritten. A disk with another file system, a partition table, or data without a known
    signature is refused.
  - Where the disk is a path of a multipath map, the map is used.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.initiator
attributes:
  check_mode:
    support: full
    details:
      - The UUID of a file system that is to be made is not known before.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  device:
    description:
      - The disk, by a name that stays, such as those in RV(openlun.iscsi.session#module:sessions[].luns[].by_path).
      - This or O(target) is needed with O(state=present).
    type: path
  target:
    description:
      - Instead of O(device), the full name of a target that this host is logged in to, by whatever portal.
    type: str
  lun:
    description:
      - Number of the LUN of O(target).
      - Default is 0, and all LUNs with O(state=absent).
    type: int
  state:
    description:
      - V(present) makes and mounts it.
      - V(absent) unmounts O(path), or wherever the disk is mounted, and removes the line from F(/etc/fstab) that the
        module wrote. The file system and the mount point stay.
    type: str
    choices: [present, absent]
    default: present
  filesystem:
    description:
      - Type of the file system to make on an empty disk, such as V(ext4) or V(xfs). C(mkfs.TYPE) has to be installed.
      - By default none is made, and the disk has to have one for O(path).
    type: str
  mkfs_options:
    description: More arguments for C(mkfs).
    type: list
    elements: str
    default: []
  path:
    description:
      - Where to mount it. The directory is made when it is missing, and has to be empty.
      - By default it is not mounted.
    type: path
  options:
    description:
      - Options of the mount. V(_netdev) makes the system mount it after the network is up, and unmount it before that
        goes.
    type: str
    default: defaults,_netdev
  force:
    description:
      - Unmount it although processes use it, or mount it over a directory that is not empty.
    type: bool
    default: false
requirements:
  - blkid, mount and umount, from util-linux
seealso:
  - module: openlun.iscsi.session
"""

EXAMPLES = r"""
- name: Log in
  openlun.iscsi.session:
    target: iqn.2016-06.io.spdk:pgdata
    portals: [192.168.0.22:3260]
    startup: automatic
  become: true

- name: A database's directory
  openlun.iscsi.disk_mount:
    target: iqn.2016-06.io.spdk:pgdata
    filesystem: ext4
    path: /var/lib/postgresql
    options: noatime,_netdev
  become: true

- name: Not any more
  openlun.iscsi.disk_mount:
    path: /var/lib/postgresql
    state: absent
  become: true
"""

RETURN = r"""
device:
  description: The disk or the multipath map that was used; V(null) when it is not there, or with O(state=absent).
  returned: success
  type: str
  sample: /dev/mapper/mpatha
uuid:
  description: UUID of the file system; V(null) when there is none.
  returned: success
  type: str
  sample: 0f3b7ef8-3a0f-4bd7-8a4f-9a4f5c8c1d2e
filesystem:
  description: Its type; V(null) when there is none.
  returned: success
  type: str
  sample: ext4
actions:
  description: What was done, or what would be done in check mode, in this order.
  returned: success
  type: list
  elements: dict
  sample:
    - action: mount
      object: /var/lib/postgresql
      why: it was not
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.module import run
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.mounting import Mounting, wanted
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.options import MOUNT


def main() -> None:
    module = AnsibleModule(argument_spec=MOUNT, mutually_exclusive=[("device", "target")], supports_check_mode=True)
    apply = not module.check_mode
    run(module, lambda host, command: Mounting(host, command).bring(wanted(module.params), apply))


if __name__ == "__main__":
    main()
