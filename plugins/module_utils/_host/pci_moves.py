# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves PCI devices from one driver to another: all of them, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_bus import DEVICES, Bus, Refused
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_devices import USER_DRIVERS
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_wishes import KERNEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.hugetlbfs import Run
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_devices import Device


class Move(NamedTuple):
    """A device that is to have another driver; ``kernel`` is whichever the kernel finds."""

    device: Device
    driver: str

    @property
    def why(self) -> str:
        return f"{self.device.driver or 'no driver'} → {self.driver}"


class Mover:
    """Makes moves on one host."""

    def __init__(self, bus: Bus, run: Run) -> None:
        self._bus = bus
        self._run = run

    def make(self, moves: Sequence[Move]) -> None:
        """All moves, in this order. When one fails, the devices go back to where they were. Raises HostError."""
        begun: list[Move] = []
        for move in moves:
            begun.append(move)
            try:
                self._make(move)
            except (OSError, Refused) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                stuck = self._back(reversed(begun))
                end = " ".join(stuck) if stuck else "Everything is as it was before."
                raise HostError(f"{move.device}: not bound to {move.driver} because {reason}. {end}") from error

    def _make(self, move: Move) -> None:
        address = move.device.address
        if move.driver == KERNEL:
            self._give(address)
        else:
            with self._bus.claimed(address):
                self._bus.move(address, move.driver)
        bound = self._bus.driver(address)
        if (not bound or bound in USER_DRIVERS) if move.driver == KERNEL else bound != move.driver:
            raise Refused(f"the kernel bound {bound or 'no driver'}; dmesg may say why")

    def _give(self, address: str) -> None:
        """To the kernel's own driver, which is loaded if need be, and wait for the disk."""
        self._bus.move(address, "")
        if not self._bus.driver(address):
            self._run(["modprobe", "--quiet", "--", self._bus.read(DEVICES, address, "modalias")])
        if self._bus.controllers(address):
            self._bus.wait_until_known(address)
        self._run(["udevadm", "settle", "--timeout=30"])

    def _back(self, moves: Iterable[Move]) -> list[str]:
        """Undo what was begun; sentences about what could not be undone."""
        stuck = []
        for move in moves:
            device = move.device
            override = self._bus.read(DEVICES, device.address, "driver_override")
            if (self._bus.driver(device.address), override) == (device.driver, device.override):
                continue
            try:
                if not device.driver:
                    self._bus.unbind(device.address)
                elif self._bus.driver(device.address) != device.driver:
                    self._bus.move(device.address, device.driver if device.in_user_space else "")
                self._bus.override(device.address, device.override)
            except OSError as error:
                stuck.append(f"{device.address}: could not be given back to {device.driver} ({error.strerror}).")
                continue
            bound = self._bus.driver(device.address)
            if bound != device.driver:
                stuck.append(
                    f"{device.address}: has {bound or 'no driver'} now instead of {device.driver or 'none'}. "
                    f"Set its driver to {KERNEL}."
                )
        return stuck
