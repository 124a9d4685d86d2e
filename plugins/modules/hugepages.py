#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hugepages
short_description: Hugepages of a host, now and after every boot
version_added: 0.2.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Reserves hugepages of every size the kernel offers, for the whole host or for single NUMA nodes, and reads back what
    the kernel really gave. When that is too little, memory is compacted and the kernel asked again. If that does not
    help, the module fails, and the pages are as they were before.
  - Makes the kernel reserve them again at boot, mounts hugetlbfs, and lets a user lock memory.
  - Files that the module writes begin with a line that says so. Files of others are never changed.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.host
attributes:
  check_mode:
    support: full
    details:
      - Whether the kernel finds enough memory in one piece is only known when it is asked.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) brings the host into the declared state. What is left out stays as it is.
      - V(absent) removes the files that the module wrote, and unmounts what it mounted, with the mount point when that
        is empty then. Pages are given back only with O(allow_shrink), all of those sizes and nodes that the files or
        O(pages) name.
    type: str
    choices: [present, absent]
    default: present
  pages:
    description:
      - Pages by their size, such as V(2M), V(2MiB) or V(2048kB). All units count in 1024. A size that is left out stays
        as it is.
      - The value is the number of pages on the host, or an amount of memory such as V(256MiB), or a dictionary of these
        by the number of the NUMA node. A node that is left out stays as it is.
      - Pages of V(1G) can hardly be had from a running kernel. See RV(boot_parameters).
    type: dict
    default: {}
  allow_shrink:
    description:
      - Whether pages are given back when there are more than declared. Otherwise they stay, with a warning.
      - Pages that are in use or reserved by a process are never given back. The module fails and says how many.
    type: bool
    default: false
  persistent:
    description:
      - Whether O(pages) and O(mount) are there again after a boot.
      - A total of the kernel's default size is written to F(/etc/sysctl.d), other sizes and single nodes to
        F(/etc/tmpfiles.d), and a mount to F(/etc/systemd/system). The latter two need systemd at boot, not now.
      - V(false) removes what the module wrote for the sizes and the mount that are named.
    type: bool
    default: true
  mount:
    description:
      - Where hugetlbfs is mounted. A mount that is left out stays.
      - Mode and group of a mount that is there are changed in place. For another page size or limit it is made again,
        when nothing is in it and the module made it.
    type: dict
    suboptions:
      path:
        description: Directory to mount at. It is made when it is missing, and has to be empty.
        type: path
        required: true
      page_size:
        description:
          - Size of its pages.
          - Default is the kernel's default size.
        type: str
      mode:
        description: Mode of the directory, in octal and in quotes.
        type: raw
        default: '0770'
      group:
        description:
          - Name or number of the group of the directory.
          - By default a new mount belongs to root's group, and another one keeps its group.
        type: str
        aliases: [gid]
      size:
        description:
          - How much memory its files may take, such as V(256MiB).
          - By default all pages.
        type: str
  memlock_user:
    description:
      - A user whose processes may lock memory, by a file in F(/etc/security/limits.d). It counts for sessions that
        begin later. A service of systemd needs C(LimitMEMLOCK) in its unit instead.
    type: str
  memlock:
    description:
      - How much O(memlock_user) may lock, V(unlimited) or an amount such as V(1GiB).
    type: str
    default: unlimited
seealso:
  - module: openlun.iscsi.hugepages_info
"""

EXAMPLES = r"""
- name: 1024 pages of 2 MiB, wherever there is room
  openlun.iscsi.hugepages:
    pages: {2M: 1024}
  become: true

- name: 1 GiB on each of two NUMA nodes, and a place for files in them
  openlun.iscsi.hugepages:
    pages:
      2M: {0: 1GiB, 1: 1GiB}
    mount:
      path: /dev/hugepages-iscsi
      group: openlun-iscsi
  become: true

- name: Large pages
  openlun.iscsi.hugepages:
    pages: {1G: 4}
  become: true
  register: large
  ignore_errors: true

- name: What has to be added to the kernel's command line for them
  ansible.builtin.debug:
    var: large.boot_parameters

- name: Give everything back
  openlun.iscsi.hugepages:
    state: absent
    allow_shrink: true
  become: true
"""

RETURN = r"""
sizes:
  description: The pages that there are now, also in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    size:
      description: Size of the pages.
      type: str
      returned: always
    bytes:
      description: The same in bytes.
      type: int
      returned: always
    total:
      description: Pages that are reserved for whoever wants hugepages.
      type: int
      returned: always
    free:
      description: Pages that nobody uses.
      type: int
      returned: always
    reserved:
      description: Those of the free pages that a process has been promised.
      type: int
      returned: always
    surplus:
      description: Pages beyond the total that go back to the kernel once they are not used.
      type: int
      returned: always
    nodes:
      description: Numbers of total, free and surplus pages by NUMA node.
      type: dict
      returned: always
  sample:
    - size: 2M
      bytes: 2097152
      total: 1024
      free: 1000
      reserved: 8
      surplus: 0
      nodes: {"0": {total: 1024, free: 1000, surplus: 0}}
mounts:
  description: All mounts of hugetlbfs that there are now.
  returned: success
  type: list
  elements: dict
  sample: [{path: /dev/hugepages-iscsi, page_size: 2M, mode: "0770", gid: 990, size: null}]
files:
  description: The files that the module wrote and that there are now.
  returned: success
  type: list
  elements: str
  sample: [/etc/sysctl.d/60-openlun-iscsi-hugepages.conf]
boot_parameters:
  description:
    - What the kernel's command line lacks for O(pages) of V(1G) and more, in this order. Only there they are sure to be
      had. The module does not change the configuration of a boot loader.
  returned: success, and when the kernel gave too few pages
  type: list
  elements: str
  sample: [hugepagesz=1G, hugepages=4]
overrides:
  description: Settings in files of others that make it another number at boot. Each is a warning, too.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The file.
      type: str
      returned: always
    setting:
      description: What it sets.
      type: str
      returned: always
    value:
      description: The number of pages it sets.
      type: int
      returned: always
  sample: [{path: /etc/sysctl.d/90-database.conf, setting: vm.nr_hugepages, value: 512}]
shortage:
  description: What the kernel did not give.
  returned: when the kernel gave too few pages
  type: dict
  contains:
    size:
      description: Size of the pages.
      type: str
      returned: always
    node:
      description: The NUMA node; V(null) for the whole host.
      type: int
      returned: always
    requested:
      description: How many pages there should have been.
      type: int
      returned: always
    got:
      description: How many pages there were, before they were given back.
      type: int
      returned: always
  sample: {size: 1G, node: null, requested: 4, got: 0}
actions:
  description: What was done, or what would be done in check mode, in this order.
  returned: success
  type: list
  elements: dict
  contains:
    action:
      description: Such as V(grow), V(shrink), V(create), V(edit), V(remove), V(mount) and V(unmount).
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
    - action: grow
      object: hugepages 2M
      why: 0 → 1024 pages
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.reservation import Request, Reservation
from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "pages": {"type": "dict", "default": {}},
            "allow_shrink": {"type": "bool", "default": False},
            "persistent": {"type": "bool", "default": True},
            "mount": {
                "type": "dict",
                "options": {
                    "path": {"type": "path", "required": True},
                    "page_size": {"type": "str"},
                    "mode": {"type": "raw", "default": "0770"},
                    "group": {"type": "str", "aliases": ["gid"]},
                    "size": {"type": "str"},
                },
            },
            "memlock_user": {"type": "str"},
            "memlock": {"type": "str", "default": "unlimited"},
        },
        supports_check_mode=True,
    )
    options = dict(module.params)
    request = Request(absent=options.pop("state") == "absent", **options)
    try:
        result = Reservation(Host(), module.run_command).bring(request, apply=not module.check_mode)
    except HostError as error:
        module.fail_json(msg=str(error), **error.details)
    else:
        for warning in result.pop("warnings"):
            module.warn(warning)
        module.exit_json(**result)


if __name__ == "__main__":
    main()
