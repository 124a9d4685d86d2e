# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller bound to vfio-pci: the kernel hands out its registers and interrupts, and an IOMMU guards memory.

The structures and numbers are those of linux/vfio.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from typing import Any, Final

from ..errors import Busy, EngineError, Unsupported
from ..sigbus import BusGuard
from .claim import Claim
from .device import VECTORS, Window
from .held import HeldDevice
from .memory import HUGE, HugePage
from .pci import COMMAND_MASTER, COMMAND_MEMORY, ConfigSpace, PciFunction

_GET_API_VERSION: Final = 0x3B64
_CHECK_EXTENSION: Final = 0x3B65
_SET_IOMMU: Final = 0x3B66
_GROUP_GET_STATUS: Final = 0x3B67
_GROUP_SET_CONTAINER: Final = 0x3B68
_GROUP_GET_DEVICE_FD: Final = 0x3B6A
_DEVICE_GET_REGION_INFO: Final = 0x3B6C
_DEVICE_GET_IRQ_INFO: Final = 0x3B6D
_DEVICE_SET_IRQS: Final = 0x3B6E
_DEVICE_RESET: Final = 0x3B6F
_IOMMU_MAP_DMA: Final = 0x3B71

_API_VERSION: Final = 0
_TYPE1: Final = 1
_GROUP_VIABLE: Final = 1
_BAR0, _CONFIG = 0, 7
_MSIX, _REMOVAL_REQUEST = 2, 4
_EVENTFD_TRIGGER: Final = 1 << 2 | 1 << 5
_MAP_READ_WRITE: Final = 3

_REGION: Final = struct.Struct("=LLLLQQ")
_IRQ_INFO: Final = struct.Struct("=LLLL")
_IRQS: Final = struct.Struct("=LLLLL")
_DMA: Final = struct.Struct("=LLQQQ")
_STATUS: Final = struct.Struct("=LL")

_FIRST_IOVA: Final = 0x1000_0000
"""Where the device's addresses begin: below every IOMMU's limit, far from its window for interrupts."""
_NONBLOCK, _CLOEXEC = 0o4000, 0o2000000


def eventfd() -> int:
    """A new event descriptor (os.eventfd of Python 3.10). Raises OSError."""
    libc: Any = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.eventfd(0, _NONBLOCK | _CLOEXEC)
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return fd


class VfioDevice(HeldDevice):
    """See :class:`device.Device`."""

    def __init__(self, function: PciFunction, guard: BusGuard, claim: Claim, dev: str = "/dev/vfio") -> None:
        """Raises EngineError."""
        super().__init__(function.address, claim)
        self._next_iova = _FIRST_IOVA
        group = function.iommu_group
        if not group:
            raise Unsupported(
                f"{function.address}: bound to vfio-pci, but no IOMMU guards it. Turn the IOMMU on, or bind the device "
                "to uio_pci_generic"
            )
        try:
            self._container = self._open(f"{dev}/vfio")
            self._join(f"{dev}/{group}", group)
            self._config = ConfigSpace(self._device, self._region(_CONFIG)[1])
            self._config.change_command(COMMAND_MEMORY, COMMAND_MASTER)
            length, offset = self._region(_BAR0)
            self._show(Window(self._device, length, offset, guard))
            vectors = min(self._interrupts(_MSIX), VECTORS)
            self.interrupts = self._attach_events(_MSIX, vectors) if vectors else ()
            self.removal = self._attach_removal()
        except OSError as error:
            self._give_back()
            raise self._explained(error, group) from error
        except EngineError:
            self._give_back()
            raise

    def _join(self, path: str, number: str) -> None:
        if fcntl.ioctl(self._container, _GET_API_VERSION) != _API_VERSION:
            raise Unsupported(f"{self.address}: the kernel's vfio speaks another version of its interface")
        if not fcntl.ioctl(self._container, _CHECK_EXTENSION, _TYPE1):
            raise Unsupported(f"{self.address}: vfio has no IOMMU it could use. Is vfio_iommu_type1 loaded?")
        group = self._open(path)
        status = bytearray(_STATUS.pack(_STATUS.size, 0))
        fcntl.ioctl(group, _GROUP_GET_STATUS, status)
        if not _STATUS.unpack(status)[1] & _GROUP_VIABLE:
            raise Busy(
                f"{self.address}: a device of its IOMMU group {number} still has a driver of the kernel. Bind every "
                f"device in /sys/kernel/iommu_groups/{number}/devices to vfio-pci"
            )
        fcntl.ioctl(group, _GROUP_SET_CONTAINER, struct.pack("=i", self._container))
        fcntl.ioctl(self._container, _SET_IOMMU, _TYPE1)
        self._device = self._keep(fcntl.ioctl(group, _GROUP_GET_DEVICE_FD, bytearray(self.address.encode() + b"\0")))
        os.set_inheritable(self._device, False)

    def _region(self, index: int) -> tuple[int, int]:
        """Length and offset in the device's file."""
        info = bytearray(_REGION.pack(_REGION.size, 0, index, 0, 0, 0))
        fcntl.ioctl(self._device, _DEVICE_GET_REGION_INFO, info)
        _size, _flags, _index, _capabilities, length, offset = _REGION.unpack(info)
        return length, offset

    def _interrupts(self, index: int) -> int:
        """How many there are of a kind."""
        info = bytearray(_IRQ_INFO.pack(_IRQ_INFO.size, 0, index, 0))
        fcntl.ioctl(self._device, _DEVICE_GET_IRQ_INFO, info)
        count: int = _IRQ_INFO.unpack(info)[3]
        return count

    def _attach_events(self, index: int, count: int) -> tuple[int, ...]:
        """Event descriptors for interrupts."""
        events = [self._keep(eventfd()) for _each in range(count)]
        request = _IRQS.pack(_IRQS.size + 4 * count, _EVENTFD_TRIGGER, index, 0, count)
        fcntl.ioctl(self._device, _DEVICE_SET_IRQS, request + struct.pack(f"={count}i", *events))
        return tuple(events)

    def _attach_removal(self) -> int:
        """The event by which the kernel asks for the device back; older kernels have none."""
        try:
            return self._attach_events(_REMOVAL_REQUEST, 1)[0]
        except OSError:
            return -1

    def taken(self) -> bool:
        return True

    def to_bus(self, page: HugePage) -> int:
        iova = self._next_iova
        request = _DMA.pack(_DMA.size, _MAP_READ_WRITE, page.virtual, iova, HUGE)
        try:
            fcntl.ioctl(self._container, _IOMMU_MAP_DMA, request)
        except OSError as error:
            hint = ""
            if error.errno == errno.ENOMEM:
                hint = ". Raise the limit of locked memory of the engine's user (LimitMEMLOCK, memlock)"
            raise EngineError.from_os(error, f"{self.address}: mapping memory for it{hint}") from error
        self._next_iova += HUGE
        return iova

    def function_reset(self) -> None:
        """Interrupts survive it."""
        fcntl.ioctl(self._device, _DEVICE_RESET)

    def _explained(self, error: OSError, group: str) -> EngineError:
        where = error.filename or f"vfio group {group}"
        if error.errno == errno.EBUSY:
            return Busy(f"{self.address}: {where} is in use by another process, or for another device of its group")
        if error.errno in (errno.EACCES, errno.EPERM):
            denied = EngineError(
                f"{self.address}: {where} may not be opened. Run the engine as root, or give its user /dev/vfio/{group}"
            )
            denied.errno = error.errno
            return denied
        return EngineError.from_os(error, f"{self.address}: {where}")
