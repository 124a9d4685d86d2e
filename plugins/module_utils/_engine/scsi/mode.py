# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mode pages and MODE SENSE (SPC-4 §6.11, §7.5, SBC-4 §6.5)."""

from __future__ import annotations

import struct
from typing import Callable, Final, NamedTuple

from ..bdev.base import Buffer
from .device import Task
from .sense import InvalidFieldInCdb, SavingParametersNotSupported
from .unit import LogicalUnit, Modes

ALL_PAGES: Final = 0x3F
ALL_SUBPAGES: Final = 0xFF
_CHANGEABLE, _DEFAULT, _SAVED = 1, 2, 3
_WRITE_PROTECTED, _DPOFUA = 0x80, 0x10

WCE: Final = 0x04
D_SENSE: Final = 0x04
SWP: Final = 0x08


class Page(NamedTuple):
    """``current`` gives the page's body; ``changeable`` has ones where MODE SELECT may change it."""

    current: Callable[[Modes], bytes]
    changeable: bytes


def _fixed(body: bytes) -> Page:
    return Page(lambda _modes: body, bytes(len(body)))


def _caching(modes: Modes) -> bytes:
    """WCE: what is written is stable only after SYNCHRONIZE CACHE or with FUA."""
    return struct.pack("B17x", WCE if modes.write_cache else 0)


def _control(modes: Modes) -> bytes:
    """Unrestricted reordering, busy time-out unlimited, TST 0: one task set for all nexuses."""
    flags = D_SENSE if modes.descriptor_sense else 0
    return struct.pack(">BBBxxxHxx", flags, 0x10, SWP if modes.write_protected else 0, 0xFFFF)


CACHING, CONTROL = 0x08, 0x0A
PAGES: Final[dict[int, Page]] = {
    0x01: _fixed(bytes(10)),  # read-write error recovery
    0x02: _fixed(bytes(14)),  # disconnect-reconnect
    0x07: _fixed(bytes(10)),  # verify error recovery
    CACHING: Page(_caching, struct.pack("B17x", WCE)),
    CONTROL: Page(_control, struct.pack("BBB7x", D_SENSE, 0, SWP)),
    0x10: _fixed(bytes(22)),  # XOR control
    0x1A: _fixed(bytes(38)),  # power condition
    0x1C: _fixed(bytes(10)),  # informational exceptions control
}


def sense_6(task: Task) -> Buffer:
    """MODE SENSE(6)."""
    cdb = task.cdb
    pages = _pages(task)
    descriptor = b"" if cdb[1] & 0x08 else block_descriptor(task.unit)
    body = descriptor + pages
    header = struct.pack("BBBB", 3 + len(body), 0, _device_specific(task.unit), len(descriptor))
    return (header + body)[: cdb[4]]


def sense_10(task: Task) -> Buffer:
    """MODE SENSE(10); LLBAA gives the long block descriptor."""
    cdb = task.cdb
    pages = _pages(task)
    long_lba = bool(cdb[1] & 0x10)
    descriptor = b"" if cdb[1] & 0x08 else block_descriptor(task.unit, long_lba)
    body = descriptor + pages
    long_flag = 1 if descriptor and long_lba else 0
    header = struct.pack(">HBBBxH", 6 + len(body), 0, _device_specific(task.unit), long_flag, len(descriptor))
    return (header + body)[: int.from_bytes(cdb[7:9], "big")]


def _pages(task: Task) -> bytes:
    control, code, subpage = task.cdb[2] >> 6, task.cdb[2] & 0x3F, task.cdb[3]
    if control == _SAVED:
        raise SavingParametersNotSupported()
    if subpage not in (0, ALL_SUBPAGES):
        raise InvalidFieldInCdb(byte=3)
    if code == ALL_PAGES:
        return b"".join(_page(task.unit, each, control) for each in sorted(PAGES))
    if code not in PAGES:
        raise InvalidFieldInCdb(byte=2, bit=5)
    return _page(task.unit, code, control)


def _page(lun: LogicalUnit, code: int, control: int) -> bytes:
    page = PAGES[code]
    body = (
        page.changeable if control == _CHANGEABLE else page.current(Modes() if control == _DEFAULT else lun.state.modes)
    )
    return bytes((code, len(body))) + body


def _device_specific(lun: LogicalUnit) -> int:
    return _DPOFUA | (_WRITE_PROTECTED if lun.readonly else 0)


def block_descriptor(lun: LogicalUnit, long_lba: bool = False) -> bytes:
    """Number and size of the blocks, short (8 bytes) or long (16 bytes)."""
    blocks, block_size = lun.bdev.num_blocks, lun.bdev.block_size
    if long_lba:
        return struct.pack(">Q4xL", blocks, block_size)
    return struct.pack(">LL", min(blocks, 0xFFFFFFFF), block_size & 0xFFFFFF)
