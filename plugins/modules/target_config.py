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
          - V(aio) is a file or a block device of the target host, V(uring) the same by another way to the kernel.
          - V(nvme) is an NVMe controller. It gives a bdev for each namespace, such as C(NVMe1n1).
          - V(rbd) is an image of a Ceph cluster.
          - V(null) forgets what is written to it, and is for measuring.
          - V(split) cuts another bdev into parts of the same size. That of C(disk0) is called C(disk0p), and gives
            C(disk0p0), C(disk0p1) and so on.
          - V(raid) joins bdevs. V(passthru) hands everything on to another bdev, V(delay) does it later, and
            V(error), which is called C(EE_disk0) on C(disk0), fails when it is told to; these three are for tests.
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
          - Number of parts, for V(split). O(bdevs[].size) is that of one part; without it they fill the bdev.
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
          - How much V(raid) writes to one of its bdevs before it goes to the next, a power of two such as V(64KiB),
            which is the default. V(raid1) has none.
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
          - Name of the Ceph user, without C(client.), for V(rbd). Its key is where Ceph looks for it on the target
            host.
        version_added: 0.2.0
        type: str
      cluster:
        description:
          - Name of a Ceph cluster that was registered with C(bdev_rbd_register_cluster), for V(rbd). It has a user of
            its own.
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
          - With O(bdevs[].state=absent), whether the file goes with the bdev. Otherwise it stays.
        type: bool
        default: false
      state:
        description:
          - Whether the object shall be there.
        type: str
        choices: [present, absent]
        default: present
  auth_groups:
    description:
      - Auth groups; see M(openlun.iscsi.auth_group).
    version_added: 0.1.0
    type: list
    elements: dict
    suboptions:
      tag:
        description:
          - Number of the group, at least 1.
        type: int
        required: true
      secrets:
        description:
          - Who can prove themselves, one entry for every user name. The list is complete; a user who is not in it is
            taken out. Needed when the group is created.
        type: list
        elements: dict
        suboptions:
          user:
            description: Name that an initiator gives.
            type: str
            required: true
          secret:
            description:
              - What the initiator proves to know, at most 255 bytes. Many initiators want 12 to 16.
              - Needed for a user who is new. Left out, or masked as in the results of the modules, it stays what it is.
            type: str
          muser:
            description: Name that the target gives in return, for mutual CHAP.
            type: str
          msecret:
            description:
              - What the target proves to know. It has to differ from the secret of the initiator.
              - Needed for a muser that is new.
            type: str
      update_secret:
        description:
          - V(always) sets every secret that differs. Of an engine that does not show its secrets nobody knows, so there
            they are set in every run, which counts as a change.
          - V(on_create) leaves users who are there alone, whatever their secret is.
        type: str
        choices: [always, on_create]
        default: always
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
      chap:
        description:
          - Whether initiators that come by this group to ask which target nodes there are have to prove who they are.
          - V(inherit) is what M(openlun.iscsi.discovery_auth) says. V(none) asks nobody, V(auto) who offers it,
            V(required) everybody, and with V(mutual) the target proves itself, too.
          - Default is V(inherit), or V(required) if an auth group is given. SPDK knows V(inherit) only.
        version_added: 0.2.0
        type: str
        choices: [inherit, none, auto, required, mutual]
      auth_group:
        description:
          - Tag of the auth group that has the secrets. It has to exist, or to be declared in the same run.
        version_added: 0.2.0
        type: int
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
          - C(0.0.0.0/0) and C([::]/0) are all addresses of their family. SPDK has only V(ANY) for that.
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
          - Default is V(none), or V(required) if O(target_nodes[].auth_group) is given.
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
          - The portal group is one of O(target_nodes[].maps) and not private. SPDK does not tell its redirects, so they
            cannot be declared for it.
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
      state:
        description:
          - Whether the object shall be there.
        type: str
        choices: [present, absent]
        default: present
  discovery_auth:
    description:
      - Who may see which target nodes there are; see M(openlun.iscsi.discovery_auth).
    version_added: 0.1.0
    type: dict
    suboptions:
      chap:
        description:
          - Whether initiators that ask which target nodes there are have to prove who they are.
          - V(none) asks nobody, V(auto) only those who offer it, V(required) everybody, and with V(mutual) the target
            proves itself, too.
          - An engine begins with V(auto).
        type: str
        choices: [none, auto, required, mutual]
      auth_group:
        description:
          - Tag of the auth group that has the secrets. It has to exist, or to be declared in the same run.
        type: int
  target_options:
    description:
      - Options of the target as a whole; see M(openlun.iscsi.target_options).
      - They are set if the engine was started with C(--wait-for-rpc), and otherwise only compared.
    version_added: 0.1.0
    type: dict
    suboptions:
      node_base:
        description: What short names of target nodes are put behind.
        type: str
      immediate_data:
        description: Whether initiators may send data together with a write (ImmediateData).
        type: bool
      allow_duplicated_isid:
        description: Whether a session with the ISID of one that exists leaves that alone, instead of taking its place.
        type: bool
      max_sessions:
        description: How many sessions the target has at most.
        type: int
      max_connections_per_session:
        description: How many connections a session has at most.
        type: int
      max_queue_depth:
        description: The largest queue depth that a target node may have.
        type: int
      default_time2wait:
        description: Seconds an initiator waits before it comes back to a session that broke (DefaultTime2Wait).
        type: int
      default_time2retain:
        description: Seconds in which it can do so (DefaultTime2Retain).
        type: int
      first_burst_length:
        description: Bytes an initiator may send with a write before it is asked (FirstBurstLength).
        type: int
      error_recovery_level:
        description: The highest error recovery level that is offered.
        type: int
      nop_timeout:
        description: Seconds after which an initiator that does not answer a ping is dropped.
        type: int
      nop_in_interval:
        description: Seconds between pings, V(0) for none.
        type: int
      max_large_datain_per_connection:
        description: How many large reads a connection has under way at most.
        type: int
      max_r2t_per_connection:
        description: How many requests for the data of writes a connection has under way at most.
        type: int
      pdu_pool_size:
        description: Number of PDUs in SPDK's pool.
        type: int
      immediate_data_pool_size:
        description: Number of buffers in SPDK's pool for immediate data.
        type: int
      data_out_pool_size:
        description: Number of buffers in SPDK's pool for the data of writes.
        type: int
  prune:
    description:
      - Whether live objects that are not declared are removed, except those that match O(ignore).
      - What a remaining object needs stays too, as do bdevs of types that M(openlun.iscsi.bdev) does not know.
      - An NVMe namespace and a part of a split go only with their controller or split. One that stays and is not
        declared loses its limits (O(bdevs[].qos)), unless it, what gives it or what uses it matches O(ignore).
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
  persist:
    description:
      - File on the host to which the configuration is saved when the file has another one, in the form that SPDK's
        C(save_config) writes and C(iscsi_tgt -c) loads.
      - SPDK forgets everything when it ends, unless somebody saves it. The engine of this collection saves every change
        by itself and needs no such file.
      - The file has the secrets of CHAP in clear text; only its owner may read it. Its directory must exist.
    type: path
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

- name: A target that asks for secrets
  openlun.iscsi.target_config:
    auth_groups:
      - tag: 1
        secrets:
          - {user: db1, secret: "{{ vault_db1 }}"}
    discovery_auth: {chap: required, auth_group: 1}
    target_nodes:
      - {name: disk1, chap: required, auth_group: 1}

- name: Only what is declared, and what another team made
  openlun.iscsi.target_config:
    bdevs: "{{ iscsi_target_bdevs }}"
    portal_groups: "{{ iscsi_target_portal_groups }}"
    initiator_groups: "{{ iscsi_target_initiator_groups }}"
    target_nodes: "{{ iscsi_target_nodes }}"
    prune: true
    ignore: ["target_node/iqn.2020-01.com.example:*"]

- name: Let SPDK remember it, too
  openlun.iscsi.target_config:
    socket: /var/tmp/spdk.sock
    bdevs: "{{ iscsi_target_bdevs }}"
    persist: /etc/spdk/iscsi.json
"""

RETURN = r"""
bdevs:
  description: All block devices there are now, or would be in check mode, in the form in which they are declared.
  returned: success
  type: list
  elements: dict
auth_groups:
  description: All auth groups there are now, or would be in check mode, with masked secrets.
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
discovery_auth:
  description: The policy for discovery as it is now, or would be in check mode.
  returned: success
  type: dict
target_options:
  description: The options of the target as a whole.
  returned: success
  type: dict
actions:
  description: What was done, or what would be done in check mode, in this order.
  returned: always
  type: list
  elements: dict
  contains:
    action:
      description: One of V(create), V(edit), V(replace), V(delete) and V(save).
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
    - "target_nodes[3].luns[0].bdev: no bdev named disk7. Known bdevs: disk0."
"""

from ansible_collections.openlun.iscsi.plugins.module_utils._state.run import run_config


def main() -> None:
    run_config()


if __name__ == "__main__":
    main()
