# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block commands (SBC-4): reading, writing and flushing a logical unit."""

from __future__ import annotations

import struct
from collections.abc import Awaitable
from typing import Any, Callable, Final

from ..bdev.base import Bdev, Buffer
from .device import Task
from .sense import InvalidFieldInCdb, LbaOutOfRange
from .unit import LogicalUnit

MAX_TRANSFER_BYTES: Final = 16 * 1024 * 1024
"""The most one READ or WRITE moves; told to initiators in VPD B0h, and what bounds the memory of a command."""

_TEN = struct.Struct(">2xLxH")
_TWELVE = struct.Struct(">2xLL")
_SIXTEEN = struct.Struct(">2xQL")
_SIX = struct.Struct(">xBH B")

_FUA: Final = 0x08


def _six(cdb: bytes) -> tuple[int, int]:
    high, low, blocks = _SIX.unpack_from(cdb)
    return (high & 0x1F) << 16 | low, blocks or 256


_RANGE: Final[dict[int, Callable[[bytes], tuple[Any, ...]]]] = {
    0: _six,
    1: _TEN.unpack_from,
    2: _TEN.unpack_from,
    4: _SIXTEEN.unpack_from,
    5: _TWELVE.unpack_from,
}
"""LBA and number of blocks by the operation code's group (its three high bits, SAM-5 §5.2)."""
_LENGTH_BYTE: Final = {0: 4, 1: 7, 2: 7, 4: 10, 5: 6}


def first_lba(task: Task) -> int | None:
    """Where a block command begins; None for a command that names no block."""
    decode = _RANGE.get(task.cdb[0] >> 5)
    return decode(task.cdb)[0] if decode is not None else None


def block_range(task: Task, to_the_end: bool = False) -> tuple[int, int]:
    """LBA and number of blocks, checked; ``to_the_end``: no blocks mean all from the LBA on. Raises LbaOutOfRange."""
    lba, blocks = _RANGE[task.cdb[0] >> 5](task.cdb)
    capacity = task.unit.bdev.num_blocks
    if lba + blocks > capacity or lba >= capacity:
        raise LbaOutOfRange(information=lba)
    return lba, blocks or (capacity - lba if to_the_end else 0)


def extent(task: Task, bdev: Bdev) -> tuple[int, int]:
    """The checked range of a READ or WRITE: offset and length in bytes. Raises LbaOutOfRange or InvalidFieldInCdb."""
    cdb = task.cdb
    group = cdb[0] >> 5
    lba, blocks = _RANGE[group](cdb)
    if group and cdb[1] & 0xE0:
        raise InvalidFieldInCdb(byte=1, bit=7)  # RDPROTECT, WRPROTECT: there is no protection information
    capacity, block_size = bdev.num_blocks, bdev.block_size
    if lba + blocks > capacity or lba >= capacity:
        raise LbaOutOfRange(information=lba)
    length = blocks * block_size
    if length > MAX_TRANSFER_BYTES:
        raise InvalidFieldInCdb(byte=_LENGTH_BYTE[group])
    return lba * block_size, length


def read(task: Task) -> Buffer | Awaitable[Buffer] | None:
    """READ(6), (10), (12), (16). With FUA too: no cache of ours holds what the device does not."""
    bdev = task.unit.bdev
    offset, length = extent(task, bdev)
    if not length:
        return None
    return bdev.read_private(offset, length) if task.private else bdev.read(offset, length)


def prepare_write(task: Task) -> int:
    """Check a WRITE before its data is fetched; gives the bytes it wants."""
    task.offset, length = extent(task, task.unit.bdev)
    return length


def write(task: Task) -> Awaitable[None] | None:
    """WRITE(6), (10), (12), (16). Writes what arrived: less than asked for when the initiator announced less."""
    unit = task.unit
    bdev = unit.bdev
    data = task.data_out if bdev.consumes_inline else task.own_data_out()
    length = len(data)
    partial_block = length % bdev.block_size
    if partial_block:
        length -= partial_block
        task.data_out = data = memoryview(data)[:length]
    if not length:
        return None
    cdb = task.cdb
    if (cdb[1] & _FUA and cdb[0] >> 5) or unit.state.write_through:
        return bdev.write_through(task.offset, data)
    return bdev.write(task.offset, data)


def synchronize_cache(task: Task) -> Awaitable[Any] | None:
    """SYNCHRONIZE CACHE(10), (16): the whole device is flushed, which covers any range."""
    lba, blocks = _RANGE[task.cdb[0] >> 5](task.cdb)
    bdev = task.unit.bdev
    if lba + blocks > bdev.num_blocks:
        raise LbaOutOfRange(information=lba)
    return bdev.flush()


def pre_fetch(task: Task) -> None:
    """PRE-FETCH(10), (16): a hint, of which nothing is made."""
    block_range(task, to_the_end=True)


def read_capacity_10(task: Task) -> Buffer:
    bdev = task.unit.bdev
    if task.cdb[8] & 0x01 == 0 and any(task.cdb[2:6]):
        raise InvalidFieldInCdb(byte=2)  # an LBA without PMI
    return struct.pack(">LL", min(bdev.num_blocks - 1, 0xFFFFFFFF), bdev.block_size)


def read_capacity_16(task: Task) -> Buffer:
    """With LBPME when blocks can be unmapped, LBPRZ when they read as zeroes then (SBC-4 §5.17)."""
    bdev = task.unit.bdev
    allocation = int.from_bytes(task.cdb[10:14], "big")
    thin = (0x8000 | (0x4000 if bdev.unmaps_to_zeroes else 0)) if bdev.unmaps else 0
    data = struct.pack(">QLBBH16x", bdev.num_blocks - 1, bdev.block_size, 0, physical_exponent(bdev), thin)
    return data[:allocation]


def physical_exponent(bdev: Bdev) -> int:
    """Logical blocks in a physical one, as a power of two."""
    return max(bdev.physical_block_size // bdev.block_size, 1).bit_length() - 1


def transfer_limits(lun: LogicalUnit) -> tuple[int, int]:
    """Maximum and optimal transfer length in blocks, for VPD B0h."""
    return MAX_TRANSFER_BYTES // lun.bdev.block_size, 1024 * 1024 // lun.bdev.block_size
