# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block commands that look at what is there: VERIFY, COMPARE AND WRITE, ORWRITE (SBC-4), and writes all or nothing."""

from __future__ import annotations

from typing import Final

from ..bdev.base import Bdev
from . import store
from .device import Task
from .sbc import MAX_TRANSFER_BYTES, block_range, extent
from .sense import InvalidFieldInCdb, InvalidOpcode, LbaOutOfRange, Miscompare

_FUA: Final = 0x08
_PROTECT: Final = 0xE0
MAX_COMPARE_BLOCKS: Final = 255
"""Of COMPARE AND WRITE, whose CDB has a byte for them."""


async def _flush_if_asked(task: Task) -> None:
    """FUA, or no write cache."""
    if task.cdb[1] & _FUA or task.unit.state.write_through:
        await store.flush(task.unit.bdev)


def _byte_check(task: Task, known: tuple[int, ...]) -> int:
    """BYTCHK (SBC-4 §5.33, §5.45)."""
    check = task.cdb[1] >> 1 & 0x3
    if check not in known:
        raise InvalidFieldInCdb(byte=1, bit=2)
    return check


# -- VERIFY, WRITE AND VERIFY


def prepare_verify(task: Task) -> int:
    """VERIFY compares with nothing, with the data for every block, or with one block for all of them."""
    if task.cdb[1] & _PROTECT:
        raise InvalidFieldInCdb(byte=1, bit=7)
    check = _byte_check(task, (0, 1, 3))
    _lba, blocks = block_range(task)
    if not check or not blocks:
        return 0
    if check == 1:
        return extent(task, task.unit.bdev)[1]
    return task.unit.bdev.block_size


async def verify(task: Task) -> None:
    """VERIFY(10), (12), (16). Blocks are read in any case: what cannot be read is not good."""
    bdev = task.unit.bdev
    check = _byte_check(task, (0, 1, 3))
    lba, blocks = block_range(task)
    offset, length = lba * bdev.block_size, blocks * bdev.block_size
    data = task.own_data_out()
    if check == 0:
        for at in range(offset, offset + length, store.CHUNK):
            await store.read(bdev, at, min(store.CHUNK, offset + length - at))
    elif check == 1:
        await _compare(bdev, offset, memoryview(data)[:length])
    elif blocks:
        if len(data) < bdev.block_size:
            raise InvalidFieldInCdb(byte=1, bit=2)
        step = min(blocks, store.CHUNK // bdev.block_size)
        pattern = memoryview(bytes(data) * step)
        for at in range(offset, offset + length, len(pattern)):
            await _compare(bdev, at, pattern[: offset + length - at], at - offset)


async def _compare(bdev: Bdev, offset: int, data: memoryview, before: int = 0) -> None:
    different = await store.differs(bdev, offset, data)
    if different is not None:
        raise Miscompare(information=before + different)


async def write_verify(task: Task) -> None:
    """WRITE AND VERIFY(10), (12), (16): written, on the medium, and with BYTCHK compared with what was sent."""
    bdev = task.unit.bdev
    check = _byte_check(task, (0, 1))
    data = memoryview(task.own_data_out())
    data = data[: len(data) - len(data) % bdev.block_size]
    await store.write(bdev, task.offset, data)
    await store.flush(bdev)
    if check:
        await _compare(bdev, task.offset, data)


# -- read, then write; nothing may come in between


def prepare_compare_and_write(task: Task) -> int:
    cdb, bdev = task.cdb, task.unit.bdev
    if cdb[1] & _PROTECT:
        raise InvalidFieldInCdb(byte=1, bit=7)
    lba, blocks = int.from_bytes(cdb[2:10], "big"), cdb[13]
    if lba + blocks > bdev.num_blocks or lba >= bdev.num_blocks:
        raise LbaOutOfRange(information=lba)
    task.offset = lba * bdev.block_size
    return 2 * blocks * bdev.block_size


async def compare_and_write(task: Task) -> None:
    """COMPARE AND WRITE: the second half of the data is written if the first is what is there."""
    bdev = task.unit.bdev
    length = task.cdb[13] * bdev.block_size
    data = memoryview(task.own_data_out())
    if len(data) != 2 * length or task.expected not in (None, 2 * length):
        raise InvalidFieldInCdb(byte=13)
    await _compare(bdev, task.offset, data[:length])
    await store.write(bdev, task.offset, data[length:])
    await _flush_if_asked(task)


async def or_write(task: Task) -> None:
    """ORWRITE(16)."""
    bdev = task.unit.bdev
    data = task.own_data_out()
    length = len(data) - len(data) % bdev.block_size
    present = await store.read(bdev, task.offset, length)
    merged = int.from_bytes(present, "big") | int.from_bytes(data[:length], "big")
    await store.write(bdev, task.offset, merged.to_bytes(length, "big"))
    await _flush_if_asked(task)


# -- WRITE ATOMIC


def atomic_blocks(bdev: Bdev) -> int:
    """The most blocks that WRITE ATOMIC takes; 0 where a power cut could leave half of them."""
    return min(bdev.atomic_bytes, MAX_TRANSFER_BYTES) // bdev.block_size


def atomic_granularity(bdev: Bdev) -> int:
    """Blocks; WRITE ATOMIC begins and ends at multiples of them."""
    return max(bdev.physical_block_size // bdev.block_size, 1)


def prepare_write_atomic(task: Task) -> int:
    cdb, bdev = task.cdb, task.unit.bdev
    most = atomic_blocks(bdev)
    if not most:
        raise InvalidOpcode()
    if cdb[1] & _PROTECT:
        raise InvalidFieldInCdb(byte=1, bit=7)
    lba = int.from_bytes(cdb[2:10], "big")
    boundary, blocks = int.from_bytes(cdb[10:12], "big"), int.from_bytes(cdb[12:14], "big")
    if lba + blocks > bdev.num_blocks or lba >= bdev.num_blocks:
        raise LbaOutOfRange(information=lba)
    if boundary:
        raise InvalidFieldInCdb(byte=10)
    granularity = atomic_granularity(bdev)
    if lba % granularity:
        raise InvalidFieldInCdb(byte=2)
    if blocks > most or blocks % granularity:
        raise InvalidFieldInCdb(byte=12)
    task.offset = lba * bdev.block_size
    return blocks * bdev.block_size


async def write_atomic(task: Task) -> None:
    """WRITE ATOMIC(16): all of it or nothing, for everybody else and after a power cut (SBC-4 §4.29)."""
    data = task.own_data_out()
    bdev = task.unit.bdev
    if len(data) != int.from_bytes(task.cdb[12:14], "big") * bdev.block_size:
        raise InvalidFieldInCdb(byte=12)
    await store.write(bdev, task.offset, data)
    await _flush_if_asked(task)
