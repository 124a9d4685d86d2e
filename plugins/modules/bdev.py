#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bdev
short_description: Block devices of an iSCSI target
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Creates, grows, replaces and removes the block devices (bdevs) that target nodes serve as LUNs.
  - A bdev that a target node serves is not removed. When a bdev has to be replaced, its LUNs go and come again; with
    SPDK its target nodes are replaced around it.
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
      - Name of the bdev.
    type: str
    required: true
  type:
    description:
      - V(malloc) is a disk in memory, which is empty after every start of the engine.
      - V(aio) is a file or a block device of the target host, V(uring) the same by another way to the kernel.
      - V(nvme) is an NVMe controller. It gives a bdev for each namespace, such as C(NVMe1n1).
      - V(rbd) is an image of a Ceph cluster.
      - V(null) forgets what is written to it, and is for measuring.
      - V(split) cuts another bdev into parts of the same size. That of C(disk0) is called C(disk0p), and gives
        C(disk0p0), C(disk0p1) and so on.
      - V(raid) joins bdevs. V(passthru) hands everything on to another bdev, V(delay) does it later, and V(error),
        which is called C(EE_disk0) on C(disk0), fails when it is told to; these three are for tests.
      - Needed when the bdev is created. An engine that lacks the type is named before anything changes.
    type: str
    choices: [malloc, aio, nvme, 'null', uring, split, delay, error, passthru, raid, rbd]
  size:
    description:
      - Size in bytes or with a unit, such as V(64MiB), V(10GiB) or V(1.5TiB). K, M, G and T alone count in 1024.
      - Needed for a new V(malloc) bdev. A file is created in this size when it does not exist, and grows to it.
      - A file is never made smaller. A V(malloc) bdev of another size is a new one, which needs O(force).
      - Without it a file has the size it has. A block device has its own size.
      - SPDK serves files as they are. There the module makes, grows and removes them, and has to reach the engine
        by O(socket).
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
      - Absolute path of the file or block device, for V(aio) and V(uring).
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
  address:
    description:
      - PCI address of the controller, for V(nvme), such as V(0000:03:00.0). Needed when it is attached.
      - Another address puts another device in its place, which needs O(force).
    version_added: 0.2.0
    type: str
  base_bdevs:
    description:
      - The bdevs that it is made of, one for V(split), V(delay), V(error) and V(passthru), and at least one for
        V(raid).
      - They have to exist, or to be declared in the same run. Nothing else can use or serve them.
      - Other ones put another device in its place, which needs O(force).
      - A V(raid1) that keeps one of its bdevs goes on with another one, which B(is overwritten) in the
        background with what the mirror has. In the place of a lost one it is put without O(force), in that of one
        that has the data only with it.
      - One bdev is exchanged at a time.
    version_added: 0.2.0
    type: list
    elements: str
  count:
    description:
      - Number of parts, for V(split). O(size) is that of one part; without it they fill the bdev.
      - Another number cuts the bdev anew, which needs O(force).
    version_added: 0.2.0
    type: int
  latency:
    description:
      - Microseconds by which V(delay) answers later. What is left out stays, and is 0 at first.
    version_added: 0.2.0
    type: dict
    suboptions:
      read:
        description: For reads.
        type: int
      read_p99:
        description: For one in a hundred reads. At least as much as for the others, which is the default.
        type: int
      write:
        description: For writes.
        type: int
      write_p99:
        description: For one in a hundred writes. At least as much as for the others, which is the default.
        type: int
  level:
    description:
      - How V(raid) joins its bdevs. V(raid1) mirrors them, V(concat) puts one behind the other.
    version_added: 0.2.0
    type: str
    choices: [raid0, raid1, raid5f, concat]
  strip_size:
    description:
      - How much V(raid) writes to one of its bdevs before it goes to the next, a power of two such as V(64KiB), which
        is the default. V(raid1) has none.
    version_added: 0.2.0
    type: str
  pool:
    description:
      - Pool of the image, for V(rbd).
    version_added: 0.2.0
    type: str
  image:
    description:
      - Name of the image, for V(rbd). It has to exist.
    version_added: 0.2.0
    type: str
  ceph_user:
    description:
      - Name of the Ceph user, without C(client.), for V(rbd). Its key is where Ceph looks for it on the target host.
    version_added: 0.2.0
    type: str
  cluster:
    description:
      - Name of a Ceph cluster that was registered with C(bdev_rbd_register_cluster), for V(rbd). It has a user of its
        own.
    version_added: 0.2.0
    type: str
  qos:
    description:
      - Limits of the bdev, whoever uses it. A limit that is left out stays, V(0) is no limit.
      - Those of an NVMe namespace such as C(NVMe1n1) are set by its name, without a type.
    version_added: 0.2.0
    type: dict
    suboptions:
      rw_ios_per_sec:
        description: Reads and writes in a second, rounded up to whole thousands.
        type: int
      rw_mbytes_per_sec:
        description: MiB read and written in a second.
        type: int
      r_mbytes_per_sec:
        description: MiB read in a second.
        type: int
      w_mbytes_per_sec:
        description: MiB written in a second.
        type: int
  remove_file:
    description:
      - With O(state=absent), whether the file goes with the bdev. Otherwise it stays.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: A disk of 10 GiB in a file
  openlun.iscsi.bdev:
    name: disk0
    type: aio
    path: /srv/iscsi/disk0.img
    size: 10GiB

- name: The same disk, grown while it is served
  openlun.iscsi.bdev:
    name: disk0
    size: 20GiB

- name: A disk in memory
  openlun.iscsi.bdev:
    name: Malloc0
    type: malloc
    size: 64MiB

- name: All of an NVMe device, and a limit for its first namespace
  openlun.iscsi.target_config:
    bdevs:
      - {name: NVMe1, type: nvme, address: "0000:03:00.0"}
      - {name: NVMe1n1, qos: {rw_ios_per_sec: 20000}}

- name: A mirror of two disks, cut into four, mirrorp0 to mirrorp3
  openlun.iscsi.target_config:
    bdevs:
      - {name: mirror, type: raid, level: raid1, base_bdevs: [NVMe1n1, NVMe2n1]}
      - {name: mirrorp, type: split, base_bdevs: [mirror], count: 4}

- name: A new disk in the place of the one that the mirror has lost
  openlun.iscsi.bdev:
    name: mirror
    base_bdevs: [NVMe1n1, NVMe3n1]

- name: Remove the disk and its file
  openlun.iscsi.bdev:
    name: disk0
    state: absent
    remove_file: true
"""

RETURN = r"""
bdev:
  description: The bdev as it is now, V(null) when it is absent. In check mode as it would be.
  returned: success
  type: dict
  sample:
    name: disk0
    type: aio
    size: 10737418240
    block_size: 512
    uuid: 2b6601ba-eada-44fb-9a83-a20eb9eb9e90
    path: /srv/iscsi/disk0.img
    readonly: false
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
    - "size: bdev disk0 has 10GiB and is not made smaller, because that cuts off data."
"""

from ansible_collections.openlun.iscsi.plugins.module_utils._state.base import BDEV
from ansible_collections.openlun.iscsi.plugins.module_utils._state.run import run_object


def main() -> None:
    run_object(BDEV)


if __name__ == "__main__":
    main()
