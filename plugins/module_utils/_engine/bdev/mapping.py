# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on tmpfs mapped for reading, so that a READ is sent from the page cache without a copy.

Touching mapped memory whose file was truncated is SIGBUS, the end of the process; the kernel, given the same memory,
answers EFAULT. So views of a mapping are only ever handed to system calls: sendmsg, and :func:`owned`.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Buffer


def map_file(fd: int, size: int) -> memoryview | None:
    """A read-only view of the whole file; None when it has holes, which reading would fill with memory."""
    if os.fstat(fd).st_blocks * 512 < size:
        return None
    with contextlib.suppress(OSError, ValueError, OverflowError):
        return memoryview(mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ))
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
