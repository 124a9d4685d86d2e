#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: session
short_description: Sessions of this host with an iSCSI target
version_added: 0.2.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Logs in to a target by one portal or several, keeps the records of open-iscsi as declared, and returns when the
    disks can be opened by the names that udev gives them. Or logs out and forgets the target.
  - What a session needs to be made again at boot is in the records, which only root can read. No secret is ever on a
    command line.
  - LUNs that are new, grown or gone are taken up only when the target says that there are some. It is asked through a
    disk of the session, without a rescan.
  - A portal that fails does not keep the others from being logged in to. The module fails at its end, and says all that
    failed.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.initiator
  - openlun.iscsi._initiator
  - openlun.iscsi._initiator.chap
attributes:
  check_mode:
    support: full
    details:
      - Whether the target lets this host in is only known when it logs in. M(openlun.iscsi.probe) tries that without
        changing anything.
  diff_mode:
    support: full
    details:
      - Secrets are not shown, only that one changes.
  idempotent:
    support: full
options:
  target:
    description:
      - Full name of the target.
    type: str
    required: true
  portals:
    description:
      - Where it is reached, as C(ADDRESS:PORT), C([IPV6-ADDRESS]:PORT) or an address alone for port 3260. A comma and
        the tag of the portal group may follow, as a discovery tells it. Without one the portal is asked.
      - There is a session for each. By default those are used that open-iscsi has a record of.
    type: list
    elements: str
  state:
    description:
      - V(present) logs in.
      - V(recorded) keeps the records, for a later login, and logs out.
      - V(absent) logs out and deletes the records, of all portals and interfaces unless some are named.
    type: str
    choices: [present, recorded, absent]
    default: present
  interface:
    description:
      - The interface of open-iscsi to go through, such as one that O(binding) binds to a network card, or one of an
        adapter that offloads. By default V(default), which leaves the way to the routes of the host. With
        O(state=absent) by default all.
    type: str
  binding:
    description:
      - What O(interface) is bound to. The interface is made when it is missing.
    type: dict
    suboptions:
      net_ifacename:
        description: Name of a network card, such as V(eth1).
        type: str
      ipaddress:
        description: Address to go out from, for adapters that offload.
        type: str
      hwaddress:
        description: MAC address of a network card or adapter.
        type: str
      transport_name:
        description: The kernel's driver, such as V(tcp) or V(bnx2i).
        type: str
      initiatorname:
        description: Name of the initiator for sessions by this interface.
        type: str
  startup:
    description:
      - Whether the session is made again at boot, V(automatic), or for the root file system, V(onboot), or not.
    type: str
    choices: [manual, automatic, onboot]
  header_digest:
    description: Whether the headers carry a checksum.
    type: str
    choices: [none, crc32c, 'none,crc32c', 'crc32c,none']
  data_digest:
    description: Whether data carries a checksum.
    type: str
    choices: [none, crc32c, 'none,crc32c', 'crc32c,none']
  login_timeout:
    description: How many seconds one attempt to log in may take.
    type: int
  login_retries:
    description: How often a login is tried that finds nobody.
    type: int
  replacement_timeout:
    description:
      - How many seconds a session that broke may take to come back before reads and writes fail. With multipath it
        should be short, without it long.
    type: int
  noop_interval:
    description: Seconds between two pings to the target; 0 for none.
    type: int
  noop_timeout:
    description: Seconds until a ping without an answer ends the connection.
    type: int
  queue_depth:
    description: Commands in flight for each disk.
    type: int
  cmds_max:
    description: Commands in flight for the session.
    type: int
  params:
    description:
      - Other values of the record by their names, such as C(node.session.iscsi.InitialR2T).
      - A name that open-iscsi does not know is refused, and so is a value that it does not take.
    type: dict
  luns:
    description:
      - Numbers of the LUNs that have to be there. By default at least one, whatever its number.
      - An empty list is for targets that may have none, and waits for nothing.
    type: list
    elements: int
  wait:
    description: How many seconds the disks may take to appear.
    type: int
    default: 60
  rescan:
    description:
      - Whether a session that is there already takes up LUNs that are new or grown, and drops disks of LUNs that are
        gone. A disk that is in use is not dropped, with a warning.
    type: bool
    default: true
  relogin:
    description:
      - Whether a session is made again when its record changes in something that counts only from the next login.
        Otherwise there is a warning.
    type: bool
    default: false
  exclusive:
    description:
      - Whether O(portals) and O(interface) are all by which this host may be logged in to the target. Sessions and
        records by others end, after those that are wanted are there.
    type: bool
    default: false
  force:
    description:
      - Log out even where a disk is mounted, held by LVM, RAID or the device mapper, used as swap, or open in a
        process. Data that is not written yet may be lost.
    type: bool
    default: false
seealso:
  - module: openlun.iscsi.discovery
  - module: openlun.iscsi.initiator_info
  - module: openlun.iscsi.probe
"""

EXAMPLES = r"""
- name: A disk, now and after every boot
  openlun.iscsi.session:
    target: iqn.2016-06.io.spdk:disk1
    portals: [192.168.0.22:3260]
    startup: automatic
  become: true
  register: disk1

- name: Its name
  ansible.builtin.debug:
    var: disk1.sessions[0].luns[0].by_path[0]

- name: Two paths, mutual CHAP, checksums, and a quick change of path when one fails
  openlun.iscsi.session:
    target: iqn.2016-06.io.spdk:disk1
    portals: ["10.0.1.22:3260,1", "[fd00::22]:3260,1"]
    startup: automatic
    chap:
      user: db1
      secret: "{{ vault_db1 }}"
      muser: storage1
      msecret: "{{ vault_storage1 }}"
    header_digest: crc32c
    data_digest: crc32c
    replacement_timeout: 5
    params:
      node.session.iscsi.InitialR2T: true
  become: true

- name: By a network card of its own
  openlun.iscsi.session:
    target: iqn.2016-06.io.spdk:disk1
    portals: ["10.0.1.22:3260,1"]
    interface: storage
    binding:
      net_ifacename: eth1
  become: true

- name: Log out and forget it, unless its disk is in use
  openlun.iscsi.session:
    target: iqn.2016-06.io.spdk:disk1
    state: absent
  become: true
"""

RETURN = r"""
sessions:
  description: The sessions with the target that there are now, also in check mode.
  returned: success, and when some of it failed
  type: list
  elements: dict
  contains:
    sid:
      description: Number of the session, as the kernel counts.
      type: int
      returned: always
    target:
      description: Name of the target.
      type: str
      returned: always
    portal:
      description: The portal of the record.
      type: str
      returned: always
      sample: 192.168.0.22:3260
    current_portal:
      description: The portal that it is connected with; after a redirect it is another one.
      type: str
      returned: always
    tag:
      description: Tag of the portal group.
      type: int
      returned: always
    interface:
      description: The interface of open-iscsi.
      type: str
      returned: always
      sample: default
    transport:
      description: Its driver.
      type: str
      returned: always
      sample: tcp
    netdev:
      description: The network card that it is bound to, or nothing.
      type: str
      returned: always
    initiator:
      description: Name of the initiator.
      type: str
      returned: always
    state:
      description: State of the session, such as V(LOGGED_IN) or V(FAILED).
      type: str
      returned: always
    connection_state:
      description: State of its connection, such as V(LOGGED IN) or V(TRANSPORT WAIT).
      type: str
      returned: always
    user:
      description: The user that it proved itself with, or nothing.
      type: str
      returned: always
    negotiated:
      description: What both sides agreed upon.
      type: dict
      returned: always
      sample: {HeaderDigest: CRC32C, MaxBurstLength: "262144"}
    luns:
      description: What the kernel has of the target. A LUN that is no disk has no more than its number and its state.
      type: list
      elements: dict
      returned: always
      contains:
        lun:
          description: Number of the LUN.
          type: int
          returned: always
        state:
          description: State of the disk, such as V(running), V(blocked) or V(offline).
          type: str
          returned: always
        device:
          description: The kernel's name, which may be another one after a boot.
          type: str
          returned: for disks
          sample: /dev/sdb
        by_path:
          description: Its names by portal, target and LUN.
          type: list
          elements: str
          returned: for disks
          sample: ["/dev/disk/by-path/ip-192.168.0.22:3260-iscsi-iqn.2016-06.io.spdk:disk1-lun-0"]
        by_id:
          description: Its names by what it says it is, the same by every path.
          type: list
          elements: str
          returned: for disks
        wwid:
          description: What it says it is.
          type: str
          returned: for disks
        size:
          description: Size in bytes.
          type: int
          returned: for disks
          sample: 5368709120
        block_size:
          description: Bytes in a block.
          type: int
          returned: for disks
          sample: 512
        readonly:
          description: Whether it cannot be written.
          type: bool
          returned: for disks
        vendor:
          description: Who made it.
          type: str
          returned: for disks
        model:
          description: What it is.
          type: str
          returned: for disks
        multipath:
          description: The device of its multipath map, or V(null).
          type: str
          returned: for disks
          sample: /dev/mapper/mpatha
actions:
  description: What was done, or what would be done in check mode, in this order.
  returned: success, and when some of it failed
  type: list
  elements: dict
  contains:
    action:
      description: Such as V(create), V(edit), V(delete), V(login), V(logout), V(rescan), V(resize) and V(remove).
      type: str
      returned: always
    object:
      description: What it was done to.
      type: str
      returned: always
    why:
      description: What made it necessary.
      type: str
      returned: always
  sample:
    - action: login
      object: session of target iqn.2016-06.io.spdk:disk1 at 192.168.0.22:3260
      why: it was not logged in
problems:
  description: What failed, one sentence each.
  returned: when some of it failed
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.module import run
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.options import SESSION
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.sessions import Sessions


def main() -> None:
    module = AnsibleModule(argument_spec=SESSION, supports_check_mode=True)
    run(module, lambda host, command: Sessions(host, command).bring(module.params, apply=not module.check_mode))


if __name__ == "__main__":
    main()
