# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vital product data pages of INQUIRY (SPC-4 §7.8, SBC-4 §6.6)."""

from __future__ import annotations

import struct
from typing import Callable, Final

from .device import LogicalUnit, Task
from .sbc import transfer_limits
from .sense import InvalidFieldInCdb

VENDOR: Final = b"OPENLUN "

_BINARY, _ASCII, _UTF8 = 1, 2, 3
_LOGICAL_UNIT, _TARGET_PORT, _TARGET_DEVICE = 0, 1, 2
_T10, _NAA, _RELATIVE_PORT, _NAME_STRING = 1, 3, 4, 8
_ISCSI: Final = 0x5


def _supported(_task: Task, _lun: LogicalUnit) -> bytes:
    return bytes(sorted(PAGES))


def _unit_serial_number(_task: Task, lun: LogicalUnit) -> bytes:
    return lun.serial.encode()


def _device_identification(task: Task, lun: LogicalUnit) -> bytes:
    nexus = task.nexus
    return b"".join(
        [
            _designator(_LOGICAL_UNIT, _BINARY, _NAA, lun.naa),
            _designator(_LOGICAL_UNIT, _ASCII, _T10, VENDOR + lun.serial.encode()),
            _designator(_TARGET_PORT, _UTF8, _NAME_STRING, _name_string(nexus.target_port)),
            _designator(_TARGET_PORT, _BINARY, _RELATIVE_PORT, struct.pack(">xxH", nexus.relative_port)),
            _designator(_TARGET_DEVICE, _UTF8, _NAME_STRING, _name_string(nexus.device.name)),
        ]
    )


def _designator(association: int, code_set: int, kind: int, value: bytes) -> bytes:
    protocol = _ISCSI << 4 if association else 0
    valid = 0x80 if association else 0
    return struct.pack("BBxB", protocol | code_set, valid | association << 4 | kind, len(value)) + value


def _name_string(name: str) -> bytes:
    """NUL-terminated and padded to four bytes (SPC-4 §7.8.6.11)."""
    text = name.encode()
    return text + b"\0" * (4 - len(text) % 4)


def _block_limits(_task: Task, lun: LogicalUnit) -> bytes:
    maximum, optimal = transfer_limits(lun)
    granularity = max(4096 // lun.bdev.block_size, 1)
    return struct.pack(">BBHLL48x", 0, 0, granularity, maximum, optimal)


PAGES: Final[dict[int, Callable[[Task, LogicalUnit], bytes]]] = {
    0x00: _supported,
    0x80: _unit_serial_number,
    0x83: _device_identification,
    0xB0: _block_limits,
}


def page(task: Task, code: int, peripheral: int) -> bytes:
    """The page with its header. Raises InvalidFieldInCdb for a page there is not."""
    builder = PAGES.get(code)
    if builder is None:
        raise InvalidFieldInCdb(byte=2)
    body = builder(task, task.unit)
    return struct.pack(">BBH", peripheral, code, len(body)) + body
