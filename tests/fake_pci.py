# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with PCI devices and disks, in a directory: its kernel binds and unbinds them when it is told to."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci import PciDevices, Request
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_bus import Bus
from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host

PCI = "/sys/bus/pci"
NVME = "010802"


class Plugged(NamedTuple):
    """A device of the fake host; ``kind`` is its class. ``parts`` is the number of partitions of its disk."""

    address: str
    serial: str
    kind: str = NVME
    id: tuple[str, str] = ("144d", "a80a")
    model: str = "Fake disk"
    parts: int = 0
    group: str | None = None


class FakeBus(Bus):
    """The bus of a fake host, some of whose disks are claimed."""

    def __init__(self, host: FakePci) -> None:
        super().__init__(host.root, lambda path, text: host.tell(path[len(host.root) :], text))
        self._fake = host

    def claim(self, name: str) -> int:
        if name in self._fake.claimed:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return super().claim(name)


class FakePci(Host):
    """``modules`` are those that the kernel has; ``refuses`` are pairs of driver and address that it does not bind."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.modules = {"nvme", "uio_pci_generic", "vfio-pci"}
        self.refuses: set[tuple[str, str]] = set()
        self.claimed: set[str] = set()
        self.signatures: dict[str, list[dict[str, str]] | str] = {}
        self.groups: dict[str, str] = {}
        self.told: list[tuple[str, str]] = []
        self.commands: list[list[str]] = []
        self.plugged: dict[str, Plugged] = {}
        for driver in ("nvme", "pcieport", "snd_hda_intel"):
            self.load(driver)
        self.put("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n")
        self.put("/proc/sys/kernel/osrelease", "6.1.0-fake\n")
        self.process("self", mounts="22 1 254:0 / / rw - ext4 /dev/vda rw\n")

    def put(self, path: str, text: str) -> None:
        place = Path(self.path(path))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def link(self, path: str, target: str) -> None:
        place = Path(self.path(path))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(target)

    def load(self, driver: str) -> None:
        self.put(f"{PCI}/drivers/{driver}/unbind", "")
        self.put(f"{PCI}/drivers_probe", "")

    # What there is

    def plug(self, device: Plugged, driver: str | None = None) -> str:
        """Put a device in; the kernel's driver takes it, or ``driver``. Gives its address."""
        self.plugged[device.address] = device
        place = self._place(device.address)
        for name, text in (
            ("class", f"0x{device.kind}"),
            ("vendor", f"0x{device.id[0]}"),
            ("device", f"0x{device.id[1]}"),
            ("driver_override", "(null)"),
            ("numa_node", "-1"),
            ("modalias", f"pci:{device.kind}"),
        ):
            self.put(f"{place}/{name}", f"{text}\n")
        self.link(f"{PCI}/devices/{device.address}", self.path(place))
        if device.group:
            self.link(f"{place}/iommu_group", f"/sys/kernel/iommu_groups/{device.group}")
            self.put(f"/sys/kernel/iommu_groups/{device.group}/devices/{device.address}", "")
            self.put(f"/sys/kernel/iommu_groups/{device.group}/type", self.groups.get(device.group, "DMA") + "\n")
        self._bind(device.address, self._native(device) if driver is None else driver)
        return device.address

    def unplug(self, address: str) -> None:
        self._unbind(address)
        Path(self.path(f"{PCI}/devices/{address}")).unlink()
        shutil.rmtree(self.path(self._place(address)))

    def driver(self, address: str) -> str:
        try:
            return Path(self.path(f"{self._place(address)}/driver")).readlink().name
        except FileNotFoundError:
            return ""

    def override(self, address: str) -> str:
        return self.read(f"{self._place(address)}/driver_override").strip()

    def disk(self, address: str) -> str:
        """The name of its disk while the kernel has it."""
        return f"nvme{sorted(self.plugged).index(address)}n1"

    def hold(self, name: str, holder: str, **files: str) -> None:
        """Build a block device on another one."""
        self.put(f"/sys/class/block/{name}/holders/{holder}", "")
        self.put(f"/sys/class/block/{holder}/dev", "252:7\n")
        for path, text in files.items():
            self.put(f"/sys/class/block/{holder}/{path.replace('__', '/')}", text)

    def process(self, pid: str, opens: str = "", maps: str = "", mounts: str = "") -> None:
        self.link(f"/proc/{pid}/ns/mnt", f"mnt:[{pid if mounts else 'self'}]")
        self.put(f"/proc/{pid}/mountinfo", mounts)
        self.put(f"/proc/{pid}/cmdline", "/usr/bin/db\0-f\0")
        self.put(f"/proc/{pid}/maps", maps)
        if opens:
            self.link(f"/proc/{pid}/fd/7", opens)

    # What it does

    def tell(self, path: str, text: str) -> None:
        super().tell(path, text)
        self.told.append((path, text))
        words = text.strip()
        if path.endswith("/driver_override"):
            Path(self.path(path)).write_text(f"{words or '(null)'}\n")
        elif path.endswith("/unbind"):
            self._unbind(words)
        elif path.endswith("/drivers_probe"):
            override = self.override(words)
            self._bind(words, self._native(self.plugged[words]) if override == "(null)" else override)

    def __call__(self, words: list[str]) -> tuple[int, str, str]:
        """A command."""
        self.commands.append(words)
        if words[0] == "modprobe":
            if words[-1] not in self.modules and not words[-1].startswith("pci:"):
                return 1, "", "not found"
            if "--dry-run" not in words:
                self.load(words[-1])
        if words[0] == "wipefs":
            found = self.signatures.get(words[-1], [])
            return (1, "", found) if isinstance(found, str) else (0, json.dumps({"signatures": found}), "")
        return (0, "vg_data\n", "") if words[0] == "pvs" else (0, "", "")

    def _native(self, device: Plugged) -> str:
        return {"0108": "nvme", "0604": "pcieport", "0403": "snd_hda_intel"}[device.kind[:4]]

    def _place(self, address: str) -> str:
        return f"/sys/devices/pci0000:00/{address}"

    def _bind(self, address: str, driver: str) -> None:
        loaded = Path(self.path(f"{PCI}/drivers/{driver}")).is_dir()
        if not driver or not loaded or (driver, address) in self.refuses or self.driver(address):
            return
        place = self._place(address)
        self.link(f"{place}/driver", self.path(f"{PCI}/drivers/{driver}"))
        if driver == "nvme":
            self._disk(place, self.plugged[address])
        elif driver.startswith("uio"):
            self.put(f"{place}/uio/uio3/name", driver)

    def _unbind(self, address: str) -> None:
        place = Path(self.path(self._place(address)))
        (place / "driver").unlink(missing_ok=True)
        for name in ("nvme", "uio"):
            shutil.rmtree(place / name, ignore_errors=True)
        for directory in ("/sys/block", "/sys/class/block"):
            for link in Path(self.path(directory)).glob(f"{self.disk(address)}*"):
                link.unlink() if link.is_symlink() else shutil.rmtree(link)

    def _disk(self, place: str, device: Plugged) -> None:
        disk = self.disk(device.address)
        controller = disk[:-2]
        for name, text in (("serial", f"{device.serial}   "), ("model", device.model), ("state", "live")):
            self.put(f"{place}/nvme/{controller}/{name}", f"{text}\n")
        minor = int(re.sub(r"\D", "", controller)) * 16
        block = f"{place}/nvme/{controller}/{disk}"
        for number in range(device.parts + 1):
            name = f"{disk}p{number}" if number else disk
            place = f"{block}/{name}" if number else block
            self.put(f"{place}/dev", f"259:{minor + number}\n")
            self.put(f"/dev/{name}", "")
            if number:
                self.put(f"{place}/partition", f"{number}\n")
                self.link(f"/sys/class/block/{name}", self.path(place))
        self.put(f"{block}/wwid", f"eui.{device.serial.lower()}\n")
        self.put(f"{block}/hidden", "0\n")
        for directory in ("/sys/block", "/sys/class/block"):
            self.link(f"{directory}/{disk}", self.path(block))


def devices(host: FakePci) -> PciDevices:
    return PciDevices(host, host, FakeBus(host))


def bring(host: FakePci, *declared: dict[str, Any], check: bool = False, **options: Any) -> dict[str, Any]:
    """The module's result."""
    return devices(host).bring(Request(declared, **options), apply=not check)
