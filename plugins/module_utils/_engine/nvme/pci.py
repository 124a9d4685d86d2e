# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PCI function as sysfs shows it: what it is, and which driver has it."""

from __future__ import annotations

import os
import re
import struct
from typing import Final

from ..errors import Invalid, NoDevice

SYSFS: Final = "/sys"
NVME_CLASS: Final = 0x010802
"""Mass storage, non-volatile memory, NVM Express I/O controller."""

COMMAND: Final = 0x04
"""Offset of the command register in configuration space (PCI 3.0, §6.2.2)."""
COMMAND_MEMORY: Final = 1 << 1
COMMAND_MASTER: Final = 1 << 2
COMMAND_NO_INTX: Final = 1 << 10

_ADDRESS: Final = re.compile(r"(?:([0-9a-f]{4}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")
_UINT16: Final = struct.Struct("<H")


def full_address(text: str) -> str:
    """``3:00.0`` is no address, ``03:00.0`` is 0000:03:00.0. Raises Invalid."""
    match = _ADDRESS.fullmatch(text.lower())
    if match is None:
        raise Invalid(f"{text!r} is not a PCI address, such as 0000:03:00.0")
    domain, bus, device, function = match.groups()
    return f"{domain or '0000'}:{bus}:{device}.{function}"


class PciFunction:
    """The function at ``address``, which is there. Paths and numbers are read when they are asked for."""

    def __init__(self, address: str, sysfs: str = SYSFS) -> None:
        """Raises Invalid for what is no address, NoDevice when nothing is there or it is no NVMe controller."""
        self.address = full_address(address)
        self._sysfs = sysfs
        self.path = f"{sysfs}/bus/pci/devices/{self.address}"
        if not self.present:
            raise NoDevice(f"{self.address}: there is no PCI device of this address. {self._known()}")
        if self._number("class") != NVME_CLASS:
            raise NoDevice(f"{self.address}: not an NVMe controller. {self._known()}")

    @property
    def present(self) -> bool:
        return os.path.exists(f"{self.path}/class")

    @property
    def driver(self) -> str:
        """The name of the driver that has it; empty when none has."""
        return self._link("driver")

    @property
    def iommu_group(self) -> str:
        """Its number, or empty."""
        return self._link("iommu_group")

    @property
    def translated(self) -> bool:
        """Is there an IOMMU that gives the device addresses of its own?"""
        return bool(self.iommu_group) and self.text("iommu_group/type") not in ("identity", "")

    @property
    def numa_node(self) -> int:
        """-1 for unknown."""
        try:
            return int(self.text("numa_node") or -1)
        except ValueError:
            return -1

    def text(self, name: str) -> str:
        """The content of one of its files, or nothing."""
        try:
            with open(f"{self.path}/{name}", encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return ""

    def uio_device(self) -> str:
        """Its device in /dev. Raises NoDevice."""
        try:
            names = sorted(name for name in os.listdir(f"{self.path}/uio") if name.startswith("uio"))
        except OSError:
            names = []
        if not names:
            raise NoDevice(f"{self.address}: bound to {self.driver}, but that offers no /dev/uio device")
        return names[0]

    def _link(self, name: str) -> str:
        try:
            return os.path.basename(os.readlink(f"{self.path}/{name}"))
        except OSError:
            return ""

    def _number(self, name: str) -> int:
        try:
            return int(self.text(name), 16)
        except ValueError:
            return 0

    def _known(self) -> str:
        """What there is instead, for error messages."""
        place = f"{self._sysfs}/bus/pci/devices"
        found = []
        for address in sorted(os.listdir(place)) if os.path.isdir(place) else []:
            try:
                with open(f"{place}/{address}/class", encoding="ascii") as file:
                    if int(file.read(), 16) == NVME_CLASS:
                        found.append(address)
            except (OSError, ValueError):
                continue
        return f"NVMe controllers of this host: {', '.join(found)}." if found else "This host has no NVMe controllers."


class ConfigSpace:
    """Configuration space behind a file descriptor, from ``base`` on."""

    def __init__(self, fd: int, base: int = 0) -> None:
        self._fd = fd
        self._base = base

    def change_command(self, on: int, off: int) -> None:
        """Set and clear bits of the command register. Raises OSError."""
        place = self._base + COMMAND
        (before,) = _UINT16.unpack(os.pread(self._fd, 2, place))
        after = before & ~off | on
        if after != before:
            os.pwrite(self._fd, _UINT16.pack(after), place)
