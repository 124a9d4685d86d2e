#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pci_device_info
short_description: Which NVMe and other storage controllers a host has, and what their disks are used for
version_added: 0.2.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Lists the storage controllers on the PCI bus, with everything that would speak against taking one from the kernel by
    M(openlun.iscsi.pci_driver). Nothing is changed.
  - Without root it sees neither the content of disks nor what processes have open.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.host
  - openlun.iscsi._attributes.info
options:
  devices:
    description:
      - Only these. An element selects those devices for which all that it names is true.
      - By default all storage controllers.
    type: list
    elements: dict
    default: []
    suboptions:
      address:
        description: PCI address, such as V(0000:03:00.0) or V(03:00.0).
        type: str
      serial:
        description: Serial number of the disk.
        type: str
      model:
        description: Model of the disk.
        type: str
      wwid:
        description: WWID of a disk or a namespace of it.
        type: str
      class:
        description:
          - Class of the device, V(nvme), V(sata), V(sas), V(storage), or the first digits of its code, such as V(0108).
        type: str
seealso:
  - module: openlun.iscsi.pci_driver
"""

EXAMPLES = r"""
- name: Look at the disks
  openlun.iscsi.pci_device_info:
    devices:
      - class: nvme
  become: true
  register: nvme

- name: Show those that are free
  ansible.builtin.debug:
    msg: "{{ nvme.devices | rejectattr('in_use') | map(attribute='address') }}"
"""

RETURN = r"""
devices:
  description: The devices.
  returned: success
  type: list
  elements: dict
  contains:
    address:
      description: PCI address.
      type: str
      returned: always
    id:
      description: Codes of vendor and device.
      type: str
      returned: always
    class:
      description: Code of its class.
      type: str
      returned: always
    driver:
      description: Driver that it has; V(null) for none.
      type: str
      returned: always
    driver_override:
      description: Driver that alone may have it; V(null) if all may.
      type: str
      returned: always
    controller:
      description: What the kernel calls the NVMe controller; V(null) when its driver does not have it.
      type: str
      returned: always
    serial:
      description: Serial number of the disk; V(null) when nobody knows it.
      type: str
      returned: always
    model:
      description: Model of the disk; V(null) when nobody knows it.
      type: str
      returned: always
    wwids:
      description: WWIDs of the disk or its namespaces.
      type: list
      elements: str
      returned: always
    disks:
      description: Block devices.
      type: list
      elements: str
      returned: always
    numa_node:
      description: NUMA node; V(null) when the host does not say.
      type: int
      returned: always
    iommu_group:
      description: Number of its IOMMU group; V(null) without IOMMU.
      type: str
      returned: always
    iommu_translates:
      description: Whether an IOMMU translates the addresses it uses.
      type: bool
      returned: always
    at_boot:
      description: Driver that it was given by M(openlun.iscsi.pci_driver); V(null) if it was not.
      type: str
      returned: always
    in_use:
      description: What speaks against taking it from the kernel.
      type: list
      elements: str
      returned: always
    driven_by:
      description: Processes that drive it from user space.
      type: list
      elements: str
      returned: always
  sample:
    - address: "0000:03:00.0"
      id: 15ad:07f0
      class: "010802"
      driver: nvme
      driver_override: null
      controller: nvme1
      serial: S5GXNX0R300001
      model: SAMSUNG MZQL21T9HCJR-00A07
      wwids: [eui.36344830528000010025385800000001]
      disks: [/dev/nvme1n1]
      numa_node: 0
      iommu_group: "15"
      iommu_translates: true
      at_boot: null
      in_use: [/dev/nvme1n1p2 is an LVM physical volume of vg_data]
      driven_by: []
drivers:
  description: Drivers for programs in user space, which are V(loaded), V(available) or V(missing).
  returned: success
  type: dict
  sample: {vfio-pci: available, uio_pci_generic: loaded, igb_uio: missing}
iommu:
  description: Whether the host has an IOMMU that is on.
  returned: success
  type: bool
  sample: true
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openlun.iscsi.plugins.module_utils._host.commands import runner
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci import PciDevices
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_wishes import SELECTORS
from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "devices": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "address": {"type": "str"},
                    "serial": {"type": "str"},
                    "model": {"type": "str"},
                    "wwid": {"type": "str"},
                    "class": {"type": "str"},
                },
                "required_one_of": [list(SELECTORS)],
            },
        },
        supports_check_mode=True,
    )
    try:
        found = PciDevices(Host(), runner(module)).look(module.params["devices"])
    except HostError as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
