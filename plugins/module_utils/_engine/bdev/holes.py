# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Space of files and kernel block devices: giving it back, filling it with zeroes, asking where it is (fallocate(2)).

Everything here may block.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 0x01, 0x02, 0x10
_CANNOT: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


def _fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    while libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)):
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def punch(fd: int, offset: int, length: int) -> None:
    """Give the range back; it reads as zeroes from now on. Raises OSError."""
    _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length)


def zero(fd: int, offset: int, length: int) -> bool:
    """Fill the range with zeroes and keep its space; False when the file system cannot. Raises OSError."""
    try:
        _fallocate(fd, _ZERO_RANGE | _KEEP_SIZE, offset, length)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    return True


def allocation(fd: int, offset: int, length: int) -> tuple[bool, int]:
    """Does ``offset`` lie in data, and for how many bytes, at most ``length``, is that so? Raises OSError."""
    try:
        data = os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return False, length  # a hole up to the end
        if error.errno in _CANNOT:
            return True, length
        raise
    if data > offset:
        return False, min(data - offset, length)
    return True, min(os.lseek(fd, offset, os.SEEK_HOLE) - offset, length)
