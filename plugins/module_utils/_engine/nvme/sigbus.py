# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Surviving the sudden loss of a device whose registers are mapped.

When a device is pulled, the kernel takes its registers out of our memory, and the next access is SIGBUS: the end of
the process. The handler puts memory full of ones there instead, which is what a missing device reads as on the bus.
It runs inside the very access that failed, a plain load or store by the interpreter, and only touches that mapping.
"""

from __future__ import annotations

import ctypes
import mmap
import signal
from typing import Any, Final

_SA_SIGINFO: Final = 4
_SI_ADDR: Final = 16  # offset in siginfo_t
_MAP_FIXED: Final = 0x10


class _SigAction(ctypes.Structure):
    """struct sigaction of glibc and musl on x86-64."""

    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class BusGuard:
    """The process's SIGBUS handler while there is a mapping to guard."""

    def __init__(self) -> None:
        self._regions: dict[int, int] = {}
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self._libc.signal.restype = ctypes.c_void_p
        self._libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        self._callback = _Handler(self._on_fault)
        self._before = _SigAction()

    def add(self, address: int, length: int) -> None:
        """Guard a mapping."""
        if not self._regions:
            action = _SigAction(handler=ctypes.cast(self._callback, ctypes.c_void_p).value, flags=_SA_SIGINFO)
            self._libc.sigaction(signal.SIGBUS, ctypes.byref(action), ctypes.byref(self._before))
        self._regions[address] = length

    def remove(self, address: int) -> None:
        """The mapping is about to go. Removing one that is not guarded does nothing."""
        if self._regions.pop(address, None) is not None and not self._regions:
            self._libc.sigaction(signal.SIGBUS, ctypes.byref(self._before), None)

    def _on_fault(self, _number: int, info: int, _context: int) -> None:
        fault = ctypes.c_void_p.from_address(info + _SI_ADDR).value or 0
        for address, length in self._regions.items():
            if address <= fault < address + length:
                flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
                self._libc.mmap(address, length, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
                ctypes.memset(address, 0xFF, length)
                return
        # None of ours: it happens again at once and ends the process, as it would have.
        self._libc.signal(signal.SIGBUS, None)
