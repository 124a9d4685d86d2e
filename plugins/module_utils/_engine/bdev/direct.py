# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Direct I/O (O_DIRECT, open(2)): past the page cache, in whole sectors and from memory on a page's boundary."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

from ..errors import Invalid
from .base import Buffer


def switch_on(fd: int, what: str) -> None:
    """Read and write ``fd`` directly from now on. Raises Invalid where the file system cannot."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_DIRECT)
    except OSError as error:
        raise Invalid(f"{what} is on a file system without direct I/O. Make the bdev without direct.") from error


def buffer(length: int) -> memoryview:
    """Memory to read into; it is given back with the last view of it."""
    return memoryview(mmap.mmap(-1, length))


def aligned(data: Buffer) -> memoryview:
    """A copy that can be written."""
    copy = buffer(len(data))
    copy[:] = data
    return copy


def check_block(fd: int, what: str, block_size: int, size: int) -> None:
    """Raises Invalid when blocks of ``block_size`` bytes are less than the device below moves at once."""
    try:
        os.preadv(fd, [buffer(block_size)], block_size if size > block_size else 0)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        words = f"{what}: direct I/O in blocks of {block_size} bytes is not possible there"
        raise Invalid(f"{words}. Give a larger block_size, or make the bdev without direct.") from error
