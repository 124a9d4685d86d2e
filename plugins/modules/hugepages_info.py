#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hugepages_info
short_description: Which hugepages a host has
version_added: 0.2.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Reads the hugepages of a host by size and NUMA node, the mounts of hugetlbfs, and what
    M(openlun.iscsi.hugepages) declared for the next boot.
  - A host without hugepages is no failure.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.host
  - openlun.iscsi._attributes.info
seealso:
  - module: openlun.iscsi.hugepages
"""

EXAMPLES = r"""
- name: Look at the hugepages
  openlun.iscsi.hugepages_info:
  register: hugepages

- name: Show how many are free
  ansible.builtin.debug:
    msg: "{{ hugepages.sizes | items2dict(key_name='size', value_name='free') }}"
"""

RETURN = r"""
supported:
  description: Whether the kernel has hugepages.
  returned: success
  type: bool
  sample: true
default_size:
  description: The size that a program gets when it names none; V(null) without hugepages.
  returned: success
  type: str
  sample: 2M
available:
  description: Bytes of memory that could be used without swapping, as the kernel estimates.
  returned: success
  type: int
  sample: 8455716864
sizes:
  description: The pages that there are.
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
  description: All mounts of hugetlbfs.
  returned: success
  type: list
  elements: dict
  sample: [{path: /dev/hugepages, page_size: 2M, mode: "0755", gid: 0, size: null}]
declared:
  description: What the files of M(openlun.iscsi.hugepages) reserve at boot, in the form of its option C(pages).
  returned: success
  type: dict
  sample: {2M: 1024}
files:
  description: The files that M(openlun.iscsi.hugepages) wrote.
  returned: success
  type: list
  elements: str
  sample: [/etc/sysctl.d/60-openlun-iscsi-hugepages.conf]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.reservation import Reservation
from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    try:
        found = Reservation(Host(), module.run_command).look()
    except HostError as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
