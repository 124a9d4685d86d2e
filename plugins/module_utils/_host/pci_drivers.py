# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's drivers for programs in user space: whether the kernel has them, and which one fits a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_bus import DRIVERS
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_devices import USER_DRIVERS
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_wishes import AUTO

if TYPE_CHECKING:
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.hugetlbfs import Run
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_devices import Device
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host

VFIO, UIO, _IGB = USER_DRIVERS
_LOCKDOWN: Final = "/sys/kernel/security/lockdown"
_WITHOUT_IOMMU: Final = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
_WHENCE: Final = {
    VFIO: "Ubuntu has it in linux-modules-extra-{release}, EL and Fedora in kernel-modules.",
    UIO: "Ubuntu has it in linux-modules-extra-{release}, EL and Fedora in kernel-modules.",
    _IGB: "It is not part of Linux: DPDK has it in its dpdk-kmods. uio_pci_generic may do.",
}


class UserDrivers:
    """Those of one host."""

    def __init__(self, host: Host, run: Run) -> None:
        self._host = host
        self._run = run

    def loaded(self, driver: str) -> bool:
        return self._host.exists(f"{DRIVERS}/{driver}")

    def available(self, driver: str) -> bool:
        """Whether it is loaded or can be."""
        return self.loaded(driver) or self._run(["modprobe", "--dry-run", "--quiet", "--", driver])[0] == 0

    def presence(self, driver: str) -> str:
        """For a module's result."""
        if self.loaded(driver):
            return "loaded"
        return "available" if self.available(driver) else "missing"

    def load(self, driver: str) -> None:
        """Raises HostError."""
        status, _output, errors = self._run(["modprobe", "--", driver])
        if status or not self.loaded(driver):
            why = errors.strip() or "it says nothing; look at dmesg"
            raise HostError(f"The kernel's module {driver} cannot be loaded: {why}. Nothing was changed.")

    def lack(self, driver: str) -> str:
        """What to say of a kernel without a driver."""
        release = self._host.read("/proc/sys/kernel/osrelease").strip()
        whence = _WHENCE[driver].format(release=release)
        return f"the kernel {release} has no module {driver}. {whence} After an update of the kernel, reboot first."

    def fitting(self, device: Device, driver: str) -> str:
        """The driver for a device: the one that is declared, or for ``auto`` what its IOMMU allows. Raises HostError.

        A program that goes through uio tells the device physical addresses, and an IOMMU that translates lets none of
        them through.
        """
        wanted = (VFIO if device.group else UIO) if driver == AUTO else driver
        if wanted == VFIO:
            self._check_vfio(device)
        elif wanted in USER_DRIVERS:
            self._check_uio(device, wanted)
        return wanted

    def _check_vfio(self, device: Device) -> None:
        if device.group is None and self._host.read(_WITHOUT_IOMMU).strip() != "Y":
            raise HostError(
                f"{device}: not bound to {VFIO} because it needs an IOMMU, and none is in front of this device. "
                f"Turn it on in the firmware and with intel_iommu=on or amd_iommu=on, or use {UIO}."
            )

    def _check_uio(self, device: Device, driver: str) -> None:
        if device.group and device.group.translates:
            raise HostError(
                f"{device}: not bound to {driver} because an IOMMU translates its addresses, so that a driver behind "
                f"uio can reach no memory. Use {VFIO}."
            )
        locked = self._host.read(_LOCKDOWN)
        if locked and "[none]" not in locked:
            raise HostError(
                f"{device}: not bound to {driver} because the kernel is locked down, as it is with Secure Boot, and "
                f"lets no program at the device. Use {VFIO} with an IOMMU, or turn Secure Boot off."
            )
