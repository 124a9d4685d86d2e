#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pci_driver
short_description: Take NVMe and other storage controllers from the kernel for drivers in user space, and give them back
version_added: 0.2.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Binds PCI devices to a driver that lets a program drive them, such as C(vfio-pci), or gives them back to the kernel.
    One task takes a list. All devices are looked at before one is touched, and when one cannot be bound, the others go
    back to where they were.
  - A device whose disk is in use is refused, with the reason. In use is what is mounted in any mount namespace, used as
    swap, below LVM, md, device-mapper, bcache or btrfs, open in a process, or claimed by the kernel in another way. So
    is what has a signature that C(wipefs) knows, and what cannot be read. Partitions count, too.
  - Nothing is written to a disk. What is on it is there when the kernel has it again.
  - A disk that was taken before, and is in the kernel's hands again because it was plugged anew, may have signatures.
    Those are of the initiators that used it.
  - For C(vfio-pci) the whole IOMMU group is considered. C(uio_pci_generic) and C(igb_uio) are refused behind an IOMMU
    that translates, and while the kernel is locked down.
  - Devices are taken again at each boot by a unit of systemd, before udev starts and anything could be mounted. It
    takes a device only if it is the same one by its serial number, and if its disk is not in use. Otherwise the unit
    fails with the reason in the journal.
  - Needs C(wipefs) of util-linux on the host, C(modprobe), and root.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.host
attributes:
  check_mode:
    support: full
    details:
      - Whether a driver accepts a device is only known when it is asked.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  devices:
    description:
      - The devices and their drivers. An element selects those devices for which all that it names is true.
      - Devices that no element selects stay as they are.
    type: list
    elements: dict
    required: true
    suboptions:
      address:
        description: PCI address, such as V(0000:03:00.0) or V(03:00.0).
        type: str
      serial:
        description:
          - Serial number of the disk. It stays known while the device is not in the kernel's hands.
        type: str
      model:
        description: Model of the disk, as in F(/sys/class/nvme/nvme0/model).
        type: str
      wwid:
        description: WWID of a disk or a namespace of it, as in F(/sys/block/nvme0n1/wwid).
        type: str
      class:
        description:
          - Class of the device, V(nvme), V(sata), V(sas), V(storage), or the first digits of its code, such as V(0108).
        type: str
      driver:
        description:
          - The driver that it shall have. V(kernel) gives it back to the kernel's own driver, and it is not taken at
            boot any more.
          - V(auto) is V(vfio-pci) where the device is in an IOMMU group, and V(uio_pci_generic) elsewhere.
          - V(igb_uio) is not part of Linux.
        type: str
        choices: [auto, vfio-pci, uio_pci_generic, igb_uio, kernel]
        default: auto
      wipe_ok_serial:
        description:
          - Serial number of the disk whose content may be lost, so that signatures on it do not speak against taking
            it. It has to be the one of the device. A disk that is mounted, held or open is refused nevertheless.
        type: str
  persistent:
    description:
      - Whether the devices are taken again at boot.
      - With V(false) they are the kernel's again after a boot.
    type: bool
    default: true
  expect:
    description:
      - What earlier tasks would have brought about, had they not been run in check mode, too. Counts in check mode
        only.
      - V(modules) are the kernel's modules of the drivers, which a package would have brought. V(idle) is the end of
        all programs that drive one of the devices.
    type: list
    elements: str
    choices: [modules, idle]
    default: []
seealso:
  - module: openlun.iscsi.pci_device_info
  - module: openlun.iscsi.hugepages
  - module: openlun.iscsi.bdev
"""

EXAMPLES = r"""
- name: A disk for the target engine
  openlun.iscsi.pci_driver:
    devices:
      - address: "0000:03:00.0"
  become: true

- name: Two disks by their serial numbers, wherever they are plugged in; what is on the second one may be lost
  openlun.iscsi.pci_driver:
    devices:
      - serial: S5GXNX0R300001
        driver: vfio-pci
      - serial: S5GXNX0R300002
        driver: vfio-pci
        wipe_ok_serial: S5GXNX0R300002
  become: true

- name: Give it back to the kernel
  openlun.iscsi.pci_driver:
    devices:
      - address: "0000:03:00.0"
        driver: kernel
  become: true
"""

RETURN = r"""
devices:
  description:
    - The devices as they are now, also in check mode.
    - What their keys mean is said by RV(openlun.iscsi.pci_device_info#module:devices). What a device is used for is not
      among them.
  returned: success
  type: list
  elements: dict
  sample:
    - address: "0000:03:00.0"
      id: 15ad:07f0
      class: "010802"
      driver: vfio-pci
      driver_override: vfio-pci
      controller: null
      serial: S5GXNX0R300001
      model: SAMSUNG MZQL21T9HCJR-00A07
      wwids: [eui.36344830528000010025385800000001]
      disks: []
      numa_node: 0
      iommu_group: "15"
      iommu_translates: true
      at_boot: vfio-pci
problems:
  description: What speaks against it, a sentence for each device.
  returned: when a device is refused
  type: list
  elements: str
  sample:
    - >-
      0000:03:00.0 (nvme1, serial S5GXNX0R): not bound to uio_pci_generic because /dev/nvme1n1p2 is an LVM physical
      volume of vg_data. If that may be lost, set wipe_ok_serial to S5GXNX0R.
actions:
  description: What was done, or what would be done in check mode, in this order.
  returned: success
  type: list
  elements: dict
  contains:
    action:
      description: Such as V(load), V(bind), V(create), V(edit), V(remove), V(enable) and V(disable).
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
    - action: bind
      object: PCI device 0000:03:00.0
      why: nvme → vfio-pci
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openlun.iscsi.plugins.module_utils._host.commands import runner
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci import PciDevices, Request
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_wishes import AUTO, DRIVERS, SELECTORS
from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "devices": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "address": {"type": "str"},
                    "serial": {"type": "str"},
                    "model": {"type": "str"},
                    "wwid": {"type": "str"},
                    "class": {"type": "str"},
                    "driver": {"type": "str", "choices": list(DRIVERS), "default": AUTO},
                    "wipe_ok_serial": {"type": "str"},
                },
                "required_one_of": [list(SELECTORS)],
            },
            "persistent": {"type": "bool", "default": True},
            "expect": {"type": "list", "elements": "str", "choices": ["modules", "idle"], "default": []},
        },
        supports_check_mode=True,
    )
    if os.geteuid() != 0:
        module.fail_json(
            msg="Only root can give PCI devices another driver, and see what disks are used for. Set become."
        )
    options = module.params
    expected = options["expect"] if module.check_mode else []
    request = Request(
        options["devices"],
        options["persistent"],
        expect_modules="modules" in expected,
        expect_idle="idle" in expected,
    )
    try:
        result = PciDevices(Host(), runner(module)).bring(request, apply=not module.check_mode)
    except HostError as error:
        module.fail_json(msg=str(error), **error.details)
    else:
        for warning in result.pop("warnings"):
            module.warn(warning)
        module.exit_json(**result)


if __name__ == "__main__":
    main()
