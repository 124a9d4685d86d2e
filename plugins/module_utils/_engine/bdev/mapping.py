# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on tmpfs mapped, so that a READ is sent from the page cache without a copy, and a WRITE is no system call.

Touching mapped memory whose file was truncated is SIGBUS, the end of the process; the kernel, given the same memory,
answers EFAULT. So without a guard views of a mapping are only ever handed to system calls: sendmsg, and :func:`owned`.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..sigbus import BusGuard
    from .base import Buffer


class Memory(NamedTuple):
    """A device's own memory, from its first byte to its last."""

    view: memoryview
    """For system calls, at any time."""
    lost: Sequence[int] | None
    """The interpreter may copy from and to it, too: what it copied counts as long as nothing is in here. None: it may
    not."""
    store: memoryview | None
    """The view, where WRITEs may be copied to it."""


class Mapping:
    """A whole file in memory; with a guard, for which it has to be writable, the interpreter may touch it."""

    def __init__(self, memory: mmap.mmap, guard: BusGuard | None) -> None:
        view = memoryview(memory)
        self._guard = guard
        self._address = 0
        lost: list[int] | None = None
        if guard is not None:
            self._address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            lost = []
            guard.add(self._address, len(memory), lost)
        self.memory = Memory(view, lost, view if lost is not None else None)

    def empty(self) -> None:
        """Who still has a view of it shall learn that it is lost, too."""
        if self._guard is not None and self._address:
            self._guard.empty(self._address)

    def close(self) -> None:
        """Only the kernel will still be shown views of it."""
        if self._guard is not None and self._address:
            self._guard.remove(self._address)
            self._address = 0


def map_file(fd: int, size: int, writable: bool = False, guard: BusGuard | None = None) -> Mapping | None:
    """The whole file; None when it has holes, which reading would fill with memory.

    Where ``guard`` does not work, and without writing, it is as if there was none.
    """
    if os.fstat(fd).st_blocks * 512 < size:
        return None
    if guard is not None and not (writable and guard.works):
        guard = None
    protection = mmap.PROT_READ if guard is None else mmap.PROT_READ | mmap.PROT_WRITE
    with contextlib.suppress(OSError, ValueError, OverflowError):
        return Mapping(mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=protection), guard)
    return None


def owned(view: Buffer) -> bytes:
    """A copy of ``view``, made by the kernel. Raises OSError (EFAULT) when the file behind it was truncated."""
    fd = os.memfd_create("openlun-iscsi")
    try:
        written = 0
        while written < len(view):
            written += os.write(fd, memoryview(view)[written:])
        return os.pread(fd, len(view), 0)
    finally:
        os.close(fd)
