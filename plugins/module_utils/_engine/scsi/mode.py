# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mode pages and MODE SENSE (SPC-4 §6.11, §7.5, SBC-4 §6.5)."""

from __future__ import annotations

import struct
from typing import Callable, Final

from ..bdev.base import Buffer
from .device import LogicalUnit, Task
from .sense import InvalidFieldInCdb, SavingParametersNotSupported

_ALL_PAGES: Final = 0x3F
_ALL_SUBPAGES: Final = 0xFF
_CHANGEABLE, _SAVED = 1, 3
_WRITE_PROTECTED, _DPOFUA = 0x80, 0x10


def _read_write_error_recovery(_lun: LogicalUnit) -> bytes:
    return bytes(10)


def _disconnect_reconnect(_lun: LogicalUnit) -> bytes:
    return bytes(14)


def _caching(_lun: LogicalUnit) -> bytes:
    return struct.pack("B17x", 0x04)  # WCE: what is written is stable only after SYNCHRONIZE CACHE or with FUA


def _control(_lun: LogicalUnit) -> bytes:
    return struct.pack(">xBxxxxHxx", 0x10, 0xFFFF)  # unrestricted reordering allowed, busy time-out unlimited


def _informational_exceptions(_lun: LogicalUnit) -> bytes:
    return bytes(10)


PAGES: Final[dict[int, Callable[[LogicalUnit], bytes]]] = {
    0x01: _read_write_error_recovery,
    0x02: _disconnect_reconnect,
    0x08: _caching,
    0x0A: _control,
    0x1C: _informational_exceptions,
}


def sense_6(task: Task) -> Buffer:
    """MODE SENSE(6)."""
    cdb = task.cdb
    pages = _pages(task)
    descriptor = b"" if cdb[1] & 0x08 else _block_descriptor(task.unit)
    body = descriptor + pages
    header = struct.pack("BBBB", 3 + len(body), 0, _device_specific(task.unit), len(descriptor))
    return (header + body)[: cdb[4]]


def sense_10(task: Task) -> Buffer:
    """MODE SENSE(10); LLBAA gives the long block descriptor."""
    cdb = task.cdb
    pages = _pages(task)
    long_lba = bool(cdb[1] & 0x10)
    descriptor = b"" if cdb[1] & 0x08 else _block_descriptor(task.unit, long_lba)
    body = descriptor + pages
    long_flag = 1 if descriptor and long_lba else 0
    header = struct.pack(">HBBBxH", 6 + len(body), 0, _device_specific(task.unit), long_flag, len(descriptor))
    return (header + body)[: int.from_bytes(cdb[7:9], "big")]


def _pages(task: Task) -> bytes:
    control, code, subpage = task.cdb[2] >> 6, task.cdb[2] & 0x3F, task.cdb[3]
    if control == _SAVED:
        raise SavingParametersNotSupported()
    if subpage not in (0, _ALL_SUBPAGES):
        raise InvalidFieldInCdb(byte=3)
    if code == _ALL_PAGES:
        return b"".join(_page(task.unit, each, control) for each in sorted(PAGES))
    if code not in PAGES:
        raise InvalidFieldInCdb(byte=2, bit=5)
    return _page(task.unit, code, control)


def _page(lun: LogicalUnit, code: int, control: int) -> bytes:
    body = PAGES[code](lun)
    if control == _CHANGEABLE:
        body = bytes(len(body))
    return bytes((code, len(body))) + body


def _device_specific(lun: LogicalUnit) -> int:
    return _DPOFUA | (_WRITE_PROTECTED if lun.readonly else 0)


def _block_descriptor(lun: LogicalUnit, long_lba: bool = False) -> bytes:
    blocks, block_size = lun.bdev.num_blocks, lun.bdev.block_size
    if long_lba:
        return struct.pack(">Q4xL", blocks, block_size)
    return struct.pack(">LL", min(blocks, 0xFFFFFFFF), block_size & 0xFFFFFF)
