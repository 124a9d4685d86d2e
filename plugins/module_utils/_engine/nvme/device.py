# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a way to reach a controller offers, and choosing one."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import platform
from typing import Final, Protocol

from ..errors import EngineError, Unsupported
from ..sigbus import BusGuard
from .claim import Claim
from .memory import HugePage
from .pci import PciFunction

ADMIN_VECTOR: Final = 0
IO_VECTOR: Final = 1
VECTORS: Final = 2
USER_SPACE_DRIVERS: Final = ("vfio-pci", "uio_pci_generic", "igb_uio")


class Device(Protocol):
    """A controller's hardware, opened for this process alone."""

    address: str
    words: memoryview
    """The registers as 32-bit numbers."""
    interrupts: tuple[int, ...]
    """Event descriptors by vector; without any, completions are polled for."""
    removal: int
    """A descriptor that becomes readable when the device is taken away, or -1."""

    def taken(self) -> bool:
        """Was it, now that ``removal`` is readable?"""

    def master(self, allowed: bool) -> None:
        """Allow it to reach memory, or forbid it. Raises OSError."""

    def to_bus(self, page: HugePage) -> int:
        """Make a page reachable for it and give the address by which it is. Raises EngineError."""

    def function_reset(self) -> None:
        """The strongest reset there is. Raises OSError."""

    def close(self) -> None:
        """Let go of it. It must be at rest."""


class Window:
    """Registers mapped from a file: guarded, so that a device may vanish."""

    def __init__(self, fd: int, length: int, offset: int, guard: BusGuard) -> None:
        """Raises OSError."""
        if not length:
            raise OSError(errno.ENXIO, "it has no registers that could be mapped")
        self._memory = mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._guard = guard
        guard.add(self._address, length)
        self.words = memoryview(self._memory).cast("I")

    def close(self) -> None:
        self.words.release()
        self._guard.remove(self._address)
        with contextlib.suppress(BufferError):
            self._memory.close()


def open_device(address: str, guard: BusGuard) -> Device:
    """Open a controller by the driver that it is bound to. May block: meant for a pool. Raises EngineError."""
    function = PciFunction(address)
    _check_usable(function)
    claim = Claim(function.address)
    try:
        if function.driver == "vfio-pci":
            from .vfio import VfioDevice

            return VfioDevice(function, guard, claim)
        from .uio import UioDevice

        return UioDevice(function, guard, claim)
    except BaseException:
        claim.release()
        raise


def _check_usable(function: PciFunction) -> None:
    if platform.machine() != "x86_64":
        # Python has no memory barriers; x86-64 keeps the order that a device needs by itself.
        raise Unsupported(
            f"{function.address}: the engine drives NVMe devices on x86-64 only, and this is {platform.machine()}. "
            "Export it as an aio bdev, or use SPDK's engine"
        )
    driver = function.driver
    if driver in USER_SPACE_DRIVERS:
        return
    state = f"bound to the kernel's driver {driver}" if driver else "bound to no driver"
    raise NotUsable(
        f"{function.address}: {state}, so the engine cannot use it. Bind it to vfio-pci or uio_pci_generic first, for "
        "example with the pci_driver module"
    )


class NotUsable(EngineError):
    """The device is there but not given to user space."""

    errno = errno.EBUSY
