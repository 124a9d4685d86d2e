# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logical block provisioning (SBC-4 §4.7): UNMAP, WRITE SAME, GET LBA STATUS."""

from __future__ import annotations

import struct
from typing import Final

from ..bdev.base import Buffer
from . import store
from .device import Task
from .sbc import block_range
from .sense import (
    InvalidFieldInCdb,
    InvalidFieldInParameters,
    InvalidOpcode,
    LbaOutOfRange,
    ParameterListLengthError,
)

MAX_UNMAP_DESCRIPTORS: Final = 256
_WRITE_SAME_16: Final = 0x93
_PROTECT, _ANCHOR, _UNMAP, _OBSOLETE, _NO_DATA = 0xE0, 0x10, 0x08, 0x06, 0x01
_DESCRIPTOR = struct.Struct(">QL4x")
_STATUS = struct.Struct(">QLB3x")
_MAPPED, _DEALLOCATED = 0, 1
_MOST_STATUS: Final = 512
"""Descriptors in one answer to GET LBA STATUS."""


MAX_UNMAP_BLOCKS: Final = 2**20
MAX_SAME_BLOCKS: Final = 65535
"""Blocks of one UNMAP and one WRITE SAME: what bounds the time that they take."""


async def unmap(task: Task) -> None:
    """UNMAP: every range is given back, or none when one of them is wrong."""
    bdev = task.unit.bdev
    if not bdev.unmaps:
        raise InvalidOpcode()
    if task.cdb[1] & 0x01:
        raise InvalidFieldInCdb(byte=1, bit=0)  # ANCHOR: blocks are mapped or not
    data = bytes(task.data_out)
    if int.from_bytes(task.cdb[7:9], "big") == 0:
        return
    if len(data) < 8:
        raise ParameterListLengthError()
    size = min(int.from_bytes(data[2:4], "big"), len(data) - 8) // _DESCRIPTOR.size * _DESCRIPTOR.size
    ranges = list(_DESCRIPTOR.iter_unpack(data[8 : 8 + size]))
    if len(ranges) > MAX_UNMAP_DESCRIPTORS or sum(blocks for _lba, blocks in ranges) > MAX_UNMAP_BLOCKS:
        raise InvalidFieldInParameters(byte=2)
    for lba, blocks in ranges:
        if lba + blocks > bdev.num_blocks:
            raise LbaOutOfRange(information=lba)
    for lba, blocks in ranges:
        await store.unmap(bdev, lba * bdev.block_size, blocks * bdev.block_size)


def prepare_write_same(task: Task) -> int:
    """Checks WRITE SAME(10), (16): a block of data, but for NDOB."""
    flags, bdev = task.cdb[1], task.unit.bdev
    no_data = bool(flags & _NO_DATA) and task.cdb[0] == _WRITE_SAME_16
    if flags & _PROTECT:
        raise InvalidFieldInCdb(byte=1, bit=7)
    if flags & _ANCHOR:
        raise InvalidFieldInCdb(byte=1, bit=4)
    if flags & _UNMAP and not bdev.unmaps:
        raise InvalidFieldInCdb(byte=1, bit=3)
    if flags & _OBSOLETE or (flags & _NO_DATA and not no_data):
        raise InvalidFieldInCdb(byte=1, bit=2)
    _lba, blocks = block_range(task, to_the_end=True)
    if blocks > MAX_SAME_BLOCKS:
        raise InvalidFieldInCdb(byte=10 if task.cdb[0] == _WRITE_SAME_16 else 7)
    return 0 if no_data else bdev.block_size


async def write_same(task: Task) -> None:
    """WRITE SAME(10), (16): one block over a range. With UNMAP the space is given back, whatever the block holds.

    That is how other targets have it, and initiators rely on it; SBC-4 §4.7.3.4.4 would have a block that is not zeroes
    written. No initiator is known to send one.
    """
    flags, bdev = task.cdb[1], task.unit.bdev
    lba, blocks = block_range(task, to_the_end=True)
    offset, length = lba * bdev.block_size, blocks * bdev.block_size
    if task.cdb[0] == _WRITE_SAME_16 and flags & _NO_DATA:
        block = bytes(bdev.block_size)
    else:
        block = bytes(task.data_out)
        if len(block) != bdev.block_size or task.expected not in (None, bdev.block_size):
            raise InvalidFieldInCdb(byte=0)  # the initiator gives more or less than one block
    if flags & _UNMAP and bdev.unmaps_to_zeroes:
        await store.unmap(bdev, offset, length)
    else:
        await store.fill(bdev, offset, length, block)
    if task.unit.state.write_through:
        await store.flush(bdev)


async def get_lba_status(task: Task) -> Buffer:
    """GET LBA STATUS: where the blocks from an LBA on take space."""
    bdev = task.unit.bdev
    lba = int.from_bytes(task.cdb[2:10], "big")
    allocation = int.from_bytes(task.cdb[10:14], "big")
    if lba >= bdev.num_blocks:
        raise LbaOutOfRange(information=lba)
    most = max(1, min((allocation - 8) // _STATUS.size, _MOST_STATUS))
    found: list[bytes] = []
    while lba < bdev.num_blocks and len(found) < most:
        left = min(bdev.num_blocks - lba, 0xFFFFFFFF) * bdev.block_size
        mapped, length = await store.allocation(bdev, lba * bdev.block_size, left)
        blocks = max(1, -(-length // bdev.block_size) if mapped else length // bdev.block_size)
        found.append(_STATUS.pack(lba, blocks, _MAPPED if mapped else _DEALLOCATED))
        lba += blocks
    body = b"".join(found)
    return (struct.pack(">L4x", 4 + len(body)) + body)[:allocation]
