# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PCI devices for programs in user space: taken, kept over a boot, given back. Looks first, then acts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.owned_files import OwnedFiles
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_boot import BootFiles, Record
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_bus import Bus, Entry
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_check import Check
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_devices import USER_DRIVERS, Device, Devices
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_drivers import UserDrivers
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_moves import Move, Mover
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_users import drivers_of
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_wishes import KERNEL, Wish, chosen, parse_wish
from ansible_collections.openlun.iscsi.plugins.module_utils._host.steps import Step

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.hugetlbfs import Run
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host


class Request(NamedTuple):
    """What is declared, as the module's options.

    ``expect_modules``: what the kernel lacks is about to be installed; ``expect_idle``: whoever drives a device is
    about to end.
    """

    devices: Iterable[Mapping[str, Any]]
    persistent: bool = True
    expect_modules: bool = False
    expect_idle: bool = False


class Plan(NamedTuple):
    """What is to be done, and what it leads to: the driver of each declared device by its address, and the record."""

    drivers: dict[str, str]
    moves: list[Move]
    record: Record
    steps: list[Step]
    warnings: list[str]


class PciDevices:
    """The PCI devices of one host."""

    def __init__(self, host: Host, run: Run, bus: Bus | None = None) -> None:
        self._host = host
        self._run = run
        self._bus = bus or Bus(host.root)
        self._boot = BootFiles(host, OwnedFiles(host), run)
        self._drivers = UserDrivers(host, run)

    def devices(self) -> dict[str, Device]:
        """All there are, by address. Raises HostError."""
        return Devices(self._host, self._bus, self._boot.record().all).all()

    def bring(self, request: Request, apply: bool) -> dict[str, Any]:
        """Give the devices their drivers, or without ``apply`` only tell how; gives the module's result.

        Raises HostError; its details have all ``problems``, if that is why.
        """
        devices = self.devices()
        plan = self.plan(request, devices)
        before = self._before(plan, devices)
        for step in plan.steps if apply else ():
            step.do()
        after = {
            "devices": {address: _shown(driver) for address, driver in plan.drivers.items()},
            "files": self._boot.shown(self._boot.wanted(plan.record)),
        }
        now = self.devices()
        return {
            "changed": bool(plan.steps),
            "actions": [step.told() for step in plan.steps],
            "devices": [now[address].told() for address in plan.drivers if address in now],
            "warnings": plan.warnings,
            "diff": {"before": before, "after": after},
        }

    def look(self, options: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """What there is, for a module that only reads: storage controllers, or those that are selected.

        Raises HostError.
        """
        devices = self.devices()
        selectors = [parse_wish(option).selector for option in options]
        check = self._check()
        return {
            "devices": [
                {
                    **device.told(),
                    "in_use": [use.sentence for use in check.uses(device)],
                    "driven_by": drivers_of(self._host, device) if device.in_user_space else [],
                }
                for device in devices.values()
                if (any(each.matches(device) for each in selectors) if selectors else device.is_storage)
            ],
            "drivers": {driver: self._drivers.presence(driver) for driver in USER_DRIVERS},
            "iommu": any(device.group for device in devices.values()),
        }

    def plan(self, request: Request, devices: Mapping[str, Device]) -> Plan:
        """Raises HostError with everything that speaks against it."""
        record = self._boot.record()
        wishes = [parse_wish(option) for option in request.devices]
        found, missing = chosen(wishes, devices)
        drivers: dict[str, str] = {}
        moves: list[Move] = []
        check = self._check(request.expect_idle)
        problems = [_unknown(wish, devices) for wish in missing if wish.driver != KERNEL]
        for address, wish in found.items():
            try:
                drivers[address] = self._drivers.fitting(devices[address], wish.driver)
                moves += check.move(devices[address], drivers[address], wish, record.all)
            except HostError as error:
                problems.append(str(error))
        problems += check.groups(devices, drivers, moves)
        problems += [] if request.expect_modules else self._lacking(moves)
        if problems:
            problems = list(dict.fromkeys(problems))
            raise HostError(f"{' '.join(problems)} Nothing was changed.", problems=problems)
        after, warnings = self._remembered(request, record, devices, drivers, wishes, missing)
        steps = [*self._load(moves), *self._move(moves), *self._boot.bring(after)]
        return Plan(drivers, moves, after, steps, warnings)

    def _check(self, expect_idle: bool = False) -> Check:
        return Check(self._host, self._run, self._bus, expect_idle)

    def _lacking(self, moves: Iterable[Move]) -> Iterator[str]:
        for move in moves:
            if move.driver != KERNEL and not self._drivers.available(move.driver):
                yield f"{move.device}: not bound to {move.driver} because {self._drivers.lack(move.driver)}"

    def _remembered(
        self,
        request: Request,
        record: Record,
        devices: Mapping[str, Device],
        drivers: Mapping[str, str],
        wishes: Iterable[Wish],
        missing: Collection[Wish],
    ) -> tuple[Record, list[str]]:
        """The record after this, and warnings."""
        given = {address for address, driver in drivers.items() if driver == KERNEL}
        warnings = []
        for wish in wishes:
            remembered = wish.selector.remembered(record.all) if wish.driver == KERNEL else []
            given.update(remembered)
            if wish in missing and not remembered:
                warnings.append(f"{wish.selector}: this host has no such device, so there is nothing to give back.")
        entries: dict[str, Entry] = {}
        for address in sorted(at for at, driver in drivers.items() if driver != KERNEL):
            device = devices[address]
            entries[address] = device.entry._replace(driver=drivers[address])
            if request.persistent and not device.serial:
                warnings.append(
                    f"{address}: its serial number is not known, because it was not taken by this module. At boot any "
                    f"device {device.id} at this address is taken. Set its driver to {KERNEL} once to change that."
                )
        return record.without(given).having(entries, request.persistent), warnings

    def _load(self, moves: Iterable[Move]) -> Iterator[Step]:
        for driver in dict.fromkeys(move.driver for move in moves):
            if driver != KERNEL and not self._drivers.loaded(driver):
                yield Step("load", f"kernel module {driver}", "it is not loaded", partial(self._drivers.load, driver))

    def _move(self, moves: list[Move]) -> Iterator[Step]:
        """One step for each, all done by the first: they succeed together or not at all."""
        mover = Mover(self._bus, self._run)
        for position, move in enumerate(moves):
            do = partial(mover.make, moves if position == 0 else [])
            yield Step("bind", f"PCI device {move.device.address}", move.why, do)

    def _before(self, plan: Plan, devices: Mapping[str, Device]) -> dict[str, Any]:
        return {
            "devices": {address: _shown(devices[address].driver) for address in plan.drivers},
            "files": self._boot.texts(),
        }


def _shown(driver: str) -> str:
    """For a diff: which of its drivers the kernel takes is its own business."""
    return driver if driver in USER_DRIVERS or not driver else KERNEL


def _unknown(wish: Wish, devices: Mapping[str, Device]) -> str:
    has = ", ".join(str(device) for device in devices.values() if device.is_storage) or "no storage controllers at all"
    return f"{wish.selector}: this host has no such device. It has {has}."
