# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LOG SENSE (SPC-4 §6.8) and its pages."""

from __future__ import annotations

import struct
from typing import Callable, Final

from ..bdev.base import Buffer
from .device import Task
from .sense import InvalidFieldInCdb
from .unit import LogicalUnit

_BINARY: Final = 0x03
"""Format and linking of a binary list parameter."""


def _supported(_lun: LogicalUnit) -> bytes:
    return bytes(sorted(PAGES))


def _general_statistics(lun: LogicalUnit) -> bytes:
    """Commands and blocks read and written; times are not counted (SPC-4 §7.3.9)."""
    read, write, block_size = lun.bdev.stats.read, lun.bdev.stats.write, lun.bdev.block_size
    counters = (
        *(read.operations, write.operations, read.bytes // block_size, write.bytes // block_size),
        *(0, 0, 0, 0),
    )
    return struct.pack(">HBB8Q", 1, _BINARY, 64, *counters)


def _informational_exceptions(_lun: LogicalUnit) -> bytes:
    """None; there is no temperature (SPC-4 §7.3.11)."""
    return struct.pack(">HBBBBBx", 0, _BINARY, 4, 0, 0, 0xFF)


PAGES: Final[dict[int, Callable[[LogicalUnit], bytes]]] = {
    0x00: _supported,
    0x19: _general_statistics,
    0x2F: _informational_exceptions,
}


def sense(task: Task) -> Buffer:
    """LOG SENSE: the cumulative values of a page. Nothing can be saved."""
    cdb = task.cdb
    code, subpage = cdb[2] & 0x3F, cdb[3]
    pointer, allocation = int.from_bytes(cdb[5:7], "big"), int.from_bytes(cdb[7:9], "big")
    if cdb[1] & 0x03:
        raise InvalidFieldInCdb(byte=1, bit=0)
    builder = PAGES.get(code)
    if builder is None:
        raise InvalidFieldInCdb(byte=2, bit=5)
    if subpage:
        raise InvalidFieldInCdb(byte=3)
    if pointer > 1:
        raise InvalidFieldInCdb(byte=5)
    body = builder(task.unit)
    return (struct.pack(">BBH", code, 0, len(body)) + body)[:allocation]
