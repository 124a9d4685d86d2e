# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Surviving the sudden loss of mapped memory: the registers of a device that is pulled, a file that is truncated.

The kernel takes such memory out of the process, and the next access is SIGBUS: the end of the process. The handler
puts other memory there instead. It runs inside the very access that failed, a load, a store or a copy by the
interpreter, and only touches that mapping.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import signal
import sys
import threading
from typing import Any, Final

_SA_SIGINFO: Final = 4
_SI_CODE: Final = 8  # offsets in siginfo_t
_SI_ADDR: Final = 16
_KNOWN: Final = frozenset({"x86_64", "aarch64"})
"""Machines on which the structures are as below, in programs of 64 bits."""
_MAP_FIXED: Final = 0x10
_MAP_NORESERVE: Final = 0x4000
_NEW: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_MAP_FAILED: Final = ctypes.c_void_p(-1).value


class _SigAction(ctypes.Structure):
    """struct sigaction of glibc and musl."""

    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class BusGuard:
    """The process's SIGBUS handler, from the first mapping on that is to be guarded. One a process."""

    def __init__(self) -> None:
        self.works = platform.machine() in _KNOWN and sys.maxsize > 2**32
        """Elsewhere nothing may be guarded."""
        self._installing = threading.Lock()
        self._installed = False
        self._regions: dict[int, tuple[int, list[int] | None]] = {}
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self._callback = _Handler(self._on_fault)
        self._before = _SigAction()

    def add(self, address: int, length: int, lost: list[int] | None = None) -> None:
        """Guard a mapping. After a fault all of it reads as ones, as a missing device does on the bus.

        With ``lost`` only the page in question is replaced, reads as zeroes, and its offset in the mapping is put
        there: who touched the memory has to look, and not to believe what was read or written.
        """
        with self._installing:
            if not self._installed:
                action = _SigAction(handler=ctypes.cast(self._callback, ctypes.c_void_p).value, flags=_SA_SIGINFO)
                self._libc.sigaction(signal.SIGBUS, ctypes.byref(action), ctypes.byref(self._before))
                self._installed = True
        self._regions[address] = length, lost

    def remove(self, address: int) -> None:
        """The mapping is about to go. Removing one that is not guarded does nothing."""
        self._regions.pop(address, None)

    def empty(self, address: int) -> None:
        """From now on all of a guarded mapping is lost: whatever was replaced of it, system calls answer EFAULT."""
        length, _lost = self._regions.get(address, (0, None))
        if not length:
            return
        nothing = os.memfd_create("openlun-iscsi")
        try:
            self._replace(address, length, mmap.MAP_SHARED, nothing)
        finally:
            os.close(nothing)

    def _on_fault(self, _number: int, info: int, _context: int) -> None:
        fault = ctypes.c_void_p.from_address(info + _SI_ADDR).value or 0
        for address, (length, lost) in list(self._regions.items()):
            if address <= fault < address + length:
                if lost is None:
                    replaced = self._replace(address, length, _NEW, -1)
                    if replaced:
                        ctypes.memset(address, 0xFF, length)
                else:
                    page = fault - fault % mmap.PAGESIZE
                    replaced = self._replace(page, mmap.PAGESIZE, _NEW, -1)
                    lost.append(page - address)
                if replaced:
                    return
        # None of ours: it happens again at once, and ends the process as it would have.
        self._libc.sigaction(signal.SIGBUS, ctypes.byref(self._before), None)
        if ctypes.c_int.from_address(info + _SI_CODE).value <= 0:  # somebody sent it
            os.kill(os.getpid(), signal.SIGBUS)

    def _replace(self, address: int, length: int, flags: int, fd: int) -> bool:
        usable = mmap.PROT_READ | mmap.PROT_WRITE
        return bool(self._libc.mmap(address, length, usable, flags | _MAP_FIXED | _MAP_NORESERVE, fd, 0) != _MAP_FAILED)
