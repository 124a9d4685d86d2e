# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The PCI devices of a host that drive disks: what they are, which driver has them, and what is remembered of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_bus import DEVICES, Bus, Entry

if TYPE_CHECKING:
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host

USER_DRIVERS: Final = ("vfio-pci", "uio_pci_generic", "igb_uio")
"""Drivers that let a program drive the device."""
STORAGE: Final = 0x01
"""Base class of storage controllers, PCI Code and ID Assignment Specification."""
BRIDGE: Final = 0x06
_PATIENCE: Final = 10.0
"""Seconds for a disk that was just plugged in."""
_GROUPS: Final = "/sys/kernel/iommu_groups"


class Group(NamedTuple):
    """Devices that the IOMMU can only tell from others together. ``translates``: they see addresses of their own."""

    number: str
    translates: bool
    addresses: tuple[str, ...]


class Device(NamedTuple):
    """A PCI device. Texts that nobody knows are empty: only the kernel's driver asks a disk for its serial number.

    ``controller`` is the kernel's name (nvme1), ``state`` the controller's, ``known`` what is remembered.
    """

    address: str
    id: str
    kind: int
    driver: str
    override: str
    controller: str
    state: str
    serial: str
    model: str
    wwids: tuple[str, ...]
    disks: tuple[str, ...]
    nodes: tuple[str, ...]
    numa_node: int | None
    group: Group | None
    known: Entry | None

    def __str__(self) -> str:
        serial = f"serial {self.serial}" if self.serial else ""
        names = ", ".join(filter(None, (self.controller or self.disk_names, serial)))
        return f"{self.address} ({names})" if names else self.address

    @property
    def disk_names(self) -> str:
        return ", ".join(self.disks)

    @property
    def is_storage(self) -> bool:
        return self.kind >> 16 == STORAGE

    @property
    def in_user_space(self) -> bool:
        return self.driver in USER_DRIVERS

    @property
    def entry(self) -> Entry:
        """What is to be remembered of it."""
        return Entry(self.driver, self.id, self.serial, self.model, " ".join(self.wwids))

    def told(self) -> dict[str, Any]:
        """For a module's result."""
        return {
            "address": self.address,
            "id": self.id,
            "class": f"{self.kind:06x}",
            "driver": self.driver or None,
            "driver_override": self.override or None,
            "controller": self.controller or None,
            "serial": self.serial or None,
            "model": self.model or None,
            "wwids": list(self.wwids),
            "disks": [f"/dev/{name}" for name in self.disks],
            "numa_node": self.numa_node,
            "iommu_group": self.group and self.group.number,
            "iommu_translates": bool(self.group and self.group.translates),
            "at_boot": self.known.driver if self.known else None,
        }


class Devices:
    """The devices of one host; ``known`` are those that are remembered, by address."""

    def __init__(self, host: Host, bus: Bus, known: Mapping[str, Entry]) -> None:
        self._host = host
        self._bus = bus
        self._known = known

    def all(self) -> dict[str, Device]:
        """By address, as soon as the kernel's driver knows them."""
        addresses = self._host.names(DEVICES)
        for address in addresses:
            if self._bus.controllers(address):
                self._bus.wait_until_known(address, _PATIENCE)
        return {address: self.device(address) for address in addresses}

    def device(self, address: str) -> Device:
        place = f"{DEVICES}/{address}"
        controllers = self._bus.controllers(address)
        disks = tuple(self._bus.disks(address))
        driver = self._bus.driver(address)
        known = self._known.get(address)
        past = known if known and not controllers and not disks and known.id == self._bus.id(address) else None
        node = self._bus.read(place, "numa_node")
        return Device(
            address,
            self._bus.id(address),
            int(self._bus.read(place, "class") or "0", 16),
            driver,
            self._bus.read(place, "driver_override"),
            ", ".join(controllers),
            self._bus.read(place, "nvme", controllers[0], "state") if controllers else "",
            past.serial if past else self._bus.serial(address),
            past.model if past else self._model(place, controllers, disks),
            tuple(past.wwids.split()) if past else self._wwids(disks),
            disks,
            tuple(controllers) + self._generic(place, controllers),
            int(node) if node and int(node) >= 0 else None,
            self._group(address),
            known,
        )

    def _model(self, place: str, controllers: list[str], disks: tuple[str, ...]) -> str:
        places = [f"{place}/nvme/{name}/model" for name in controllers]
        places += [f"/sys/block/{name}/device/model" for name in disks]
        return next(filter(None, map(self._bus.read, places)), "")

    def _wwids(self, disks: tuple[str, ...]) -> tuple[str, ...]:
        names = ("wwid", "device/wwid")
        read = (self._bus.read("/sys/block", disk, name) for disk in disks for name in names)
        return tuple("_".join(text.split()) for text in read if text)

    def _generic(self, place: str, controllers: list[str]) -> tuple[str, ...]:
        """Character devices of namespaces: ng0n1."""
        return tuple(
            name
            for controller in controllers
            for name in self._host.names(f"{place}/nvme/{controller}")
            if name.startswith("ng")
        )

    def _group(self, address: str) -> Group | None:
        try:
            number = os.path.basename(os.readlink(self._host.path(f"{DEVICES}/{address}/iommu_group")))
        except OSError:
            return None
        kind = self._bus.read(_GROUPS, number, "type")
        return Group(number, kind != "identity", tuple(self._host.names(f"{_GROUPS}/{number}/devices")))
