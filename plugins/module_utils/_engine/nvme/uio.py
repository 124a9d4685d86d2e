# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller bound to uio_pci_generic or igb_uio: registers through sysfs, memory by physical addresses.

The kernel translates nothing, so the device reaches whatever we tell it, and there must be no IOMMU in its way.
"""

from __future__ import annotations

import errno
import os
import select
import struct
from typing import Final

from ..errors import EngineError, Unsupported
from ..sigbus import BusGuard
from .claim import Claim
from .device import Window
from .held import HeldDevice
from .memory import HugePage
from .pci import COMMAND_MASTER, COMMAND_MEMORY, COMMAND_NO_INTX, ConfigSpace, PciFunction

_PAGEMAP: Final = "/proc/self/pagemap"
_BASE_PAGE: Final = 4096
_PRESENT: Final = 1 << 63
_FRAME: Final = (1 << 55) - 1
_UINT64: Final = struct.Struct("=Q")


def physical_address(virtual: int, pagemap: str = _PAGEMAP) -> int:
    """Where memory lies (pagemap.rst of the kernel). Raises EngineError when the kernel does not tell."""
    try:
        with open(pagemap, "rb") as file:
            (entry,) = _UINT64.unpack(os.pread(file.fileno(), 8, virtual // _BASE_PAGE * 8))
    except OSError as error:
        raise EngineError.from_os(error, f"{pagemap}, which tells where memory is") from error
    frame = entry & _FRAME
    if not entry & _PRESENT or not frame:
        denied = EngineError(
            "the kernel does not tell where memory is, which a device on uio needs. Run the engine as root, or bind "
            "the device to vfio-pci"
        )
        denied.errno = errno.EPERM
        raise denied
    physical: int = frame * _BASE_PAGE + virtual % _BASE_PAGE
    return physical


class UioDevice(HeldDevice):
    """See :class:`device.Device`. There are no interrupts: completions are polled for."""

    def __init__(self, function: PciFunction, guard: BusGuard, claim: Claim, dev: str = "/dev") -> None:
        """Raises EngineError."""
        super().__init__(function.address, claim)
        self._function = function
        if function.translated:
            raise Unsupported(
                f"{function.address}: bound to {function.driver}, but an IOMMU translates its addresses (group "
                f"{function.iommu_group}), so it would not reach our memory. Bind it to vfio-pci"
            )
        try:
            # While this is open the kernel lets the device reach memory; when the process dies it no longer does.
            self._uio = self._open(f"{dev}/{function.uio_device()}")
            self.removal = self._uio if _tells_removal(self._uio) else -1
            self._config = ConfigSpace(self._open(f"{function.path}/config"))
            self._config.change_command(COMMAND_MEMORY | COMMAND_NO_INTX, COMMAND_MASTER)
            resource = self._open(f"{function.path}/resource0")
            self._show(Window(resource, os.fstat(resource).st_size, 0, guard))
        except OSError as error:
            self._give_back()
            raise EngineError.from_os(error, f"{function.address}: {error.filename or 'its registers'}") from error
        except EngineError:
            self._give_back()
            raise

    def taken(self) -> bool:
        try:
            os.read(self._uio, 4)  # an interrupt's number
        except OSError:
            return True
        return False

    def to_bus(self, page: HugePage) -> int:
        return physical_address(page.virtual)

    def function_reset(self) -> None:
        with open(f"{self._function.path}/reset", "wb", buffering=0) as file:
            file.write(b"1")


def _tells_removal(fd: int) -> bool:
    """A device without an interrupt is always readable, and says nothing by it."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return not poll.poll(0)
