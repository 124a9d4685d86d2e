# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who drives a PCI device from user space."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_bus import DEVICES
from ansible_collections.openlun.iscsi.plugins.module_utils._host.processes import described, mapped, opened, pids

if TYPE_CHECKING:
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_devices import Device
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host


def drivers_of(host: Host, device: Device) -> list[str]:
    """The processes that have it open or its registers in their memory, in words.

    For vfio that is its whole IOMMU group: it is one file for all of its devices.
    """
    place = f"{DEVICES}/{device.address}"
    nodes = {f"/dev/{name}" for name in host.names(f"{place}/uio")}
    nodes |= {f"/dev/vfio/devices/{name}" for name in host.names(f"{place}/vfio-dev")}
    if device.group:
        nodes |= {f"/dev/vfio/{device.group.number}", f"/dev/vfio/noiommu-{device.group.number}"}
    # Files in /sys are open by the device's own path there.
    registers = "/" + os.path.relpath(os.path.realpath(host.path(place)), host.root) + "/resource"
    proc = host.path("/proc")
    return [
        described(pid, proc)
        for pid in pids(proc)
        if any(target in nodes or target.startswith(registers) for _path, target in opened(pid, proc))
        or registers in mapped(pid, proc)
    ]
