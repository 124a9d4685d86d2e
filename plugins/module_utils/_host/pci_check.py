# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What speaks against giving a PCI device another driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.openlun.iscsi.plugins.module_utils._host.blockuse import BlockUse
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.live_use import Use
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_devices import BRIDGE, USER_DRIVERS, Device
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_drivers import VFIO
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_moves import Move
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_users import drivers_of
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_wishes import KERNEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.hugetlbfs import Run
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_bus import Bus, Entry
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_wishes import Wish
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host

_HARMLESS = ("", "pci-stub", "pcieport")
"""Drivers that do no DMA of their own: a group with such devices can be given to a program."""


class Check:
    """Looks at the devices of one host, as of now."""

    def __init__(self, host: Host, run: Run, bus: Bus, expect_idle: bool) -> None:
        self._host = host
        self._expect_idle = expect_idle
        self._blocks = BlockUse(host, run, bus.claim)
        self._settled = False

    def uses(self, device: Device) -> list[Use]:
        """What its disks are used for. Raises HostError."""
        if not self._settled:
            self._blocks.settle()
            self._settled = True
        return self._blocks.of_disks(device.disks, device.nodes)

    def move(self, device: Device, driver: str, wish: Wish, known: Mapping[str, Entry]) -> Iterator[Move]:
        """The move that brings the device to the driver, if it needs one. Raises HostError when it must not be made."""
        if driver == KERNEL:
            needed = device.driver in ("", *USER_DRIVERS) or device.override in USER_DRIVERS
        else:
            needed = device.driver != driver
        if not needed:
            return
        if driver != KERNEL and not device.is_storage:
            raise _refused(device, driver, f"it is no storage controller, but of class {device.kind:06x}")
        if device.in_user_space:
            self._check_undriven(device, driver)
        elif driver != KERNEL and not device.driver:
            self._check_ours(device, driver)
        elif driver != KERNEL:
            self._check_free(device, driver, wish, known)
        yield Move(device, driver)

    def _check_undriven(self, device: Device, driver: str) -> None:
        who = [] if self._expect_idle else drivers_of(self._host, device)
        if who:
            raise _refused(device, driver, f"it is driven by {' and '.join(who)}", "Stop that first.")

    def _check_ours(self, device: Device, driver: str) -> None:
        if device.known is None and device.override not in USER_DRIVERS:
            raise _refused(
                device,
                driver,
                "it has no driver, so that nobody can look whether its disk is free",
                f"Set its driver to {KERNEL} first.",
            )

    def _check_free(self, device: Device, driver: str, wish: Wish, known: Mapping[str, Entry]) -> None:
        """A disk that was taken before may hold what initiators wrote: that does not speak against it."""
        if device.controller and device.state != "live":
            raise _refused(device, driver, f"its controller is {device.state}, so that nobody can look at its disk")
        if wish.wipe_ok_serial and wish.wipe_ok_serial != device.serial:
            raise _refused(device, driver, f"wipe_ok_serial is {wish.wipe_ok_serial}, which is another disk")
        ours = bool(device.serial) and any(entry.serial == device.serial for entry in known.values())
        against = [use for use in self.uses(device) if use.live or not (ours or wish.wipe_ok_serial)]
        if not against:
            return
        advice = "Free it first."
        if not any(use.live for use in against):
            give_up = f"set wipe_ok_serial to {device.serial}" if device.serial else "remove that with wipefs"
            advice = f"If that may be lost, {give_up}."
        raise _refused(device, driver, " and ".join(dict.fromkeys(use.sentence for use in against)), advice)

    def groups(self, devices: Mapping[str, Device], drivers: Mapping[str, str], moves: Iterable[Move]) -> Iterator[str]:
        """Devices whose IOMMU group cannot be given to a program as a whole."""
        for move in moves:
            if move.driver != VFIO or move.device.group is None:
                continue
            mates = (devices[at] for at in move.device.group.addresses if at in devices and at != move.device.address)
            for mate in mates:
                driver = drivers.get(mate.address, mate.driver)
                if driver != VFIO and driver not in _HARMLESS and mate.kind >> 16 != BRIDGE:
                    yield str(
                        _refused(
                            move.device,
                            VFIO,
                            f"{mate} with the driver {driver} is in the same IOMMU group {move.device.group.number}",
                            f"Declare that with {VFIO}, too, or plug one of them into another slot.",
                        )
                    )


def _refused(device: Device, driver: str, why: str, advice: str = "") -> HostError:
    verb = "given back to the kernel" if driver == KERNEL else f"bound to {driver}"
    return HostError(f"{device}: not {verb} because {why}. {advice}".rstrip())
