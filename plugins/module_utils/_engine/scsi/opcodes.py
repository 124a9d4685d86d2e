# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""REPORT SUPPORTED OPERATION CODES and TASK MANAGEMENT FUNCTIONS (SPC-4 §6.35, §6.36), read from the command table."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from ..bdev.base import Buffer
from .command import Command
from .device import Task
from .sense import InvalidFieldInCdb

_TIMEOUTS = struct.Struct(">HxBLL")
_NOTHING_SAID: Final = _TIMEOUTS.pack(10, 0, 0, 0)
_NOT_SUPPORTED, _SUPPORTED = 0x01, 0x03
_BY_ACTION: Final = 0x01
_WITH_TIMEOUTS: Final = 0x02
_FUNCTIONS: Final = 0xD8
"""ABORT TASK, ABORT TASK SET, LOGICAL UNIT RESET, TARGET RESET."""


def report(task: Task, commands: Sequence[Command]) -> Buffer:
    """Every command, or one of them, with what of its CDB is looked at."""
    cdb = task.cdb
    timeouts, option, opcode = bool(cdb[2] & 0x80), cdb[2] & 0x07, cdb[3]
    action, allocation = int.from_bytes(cdb[4:6], "big"), int.from_bytes(cdb[6:10], "big")
    offered = [row for row in commands if row.offered(task.unit.bdev)]
    if option == 0:
        return _all(offered, timeouts)[:allocation]
    if option > 3:
        raise InvalidFieldInCdb(byte=2, bit=2)
    rows = [row for row in offered if row.opcode == opcode]
    has_actions = any(row.service_action is not None for row in rows)
    if option == 1 and has_actions:
        raise InvalidFieldInCdb(byte=2, bit=2)
    if option == 2 and rows and not has_actions:
        raise InvalidFieldInCdb(byte=2, bit=2)
    wanted = action if has_actions else None
    return _one(next((row for row in rows if row.service_action == wanted), None), timeouts)[:allocation]


def _all(commands: Sequence[Command], timeouts: bool) -> bytes:
    found = []
    for row in commands:
        flags = (_BY_ACTION if row.service_action is not None else 0) | (_WITH_TIMEOUTS if timeouts else 0)
        found.append(struct.pack(">BxHxBH", row.opcode, row.service_action or 0, flags, row.cdb_length))
        if timeouts:
            found.append(_NOTHING_SAID)
    body = b"".join(found)
    return struct.pack(">L", len(body)) + body


def _one(row: Command | None, timeouts: bool) -> bytes:
    if row is None:
        return struct.pack(">BBH", 0, _NOT_SUPPORTED, 0)
    usage = bytes.fromhex(row.usage)
    head = struct.pack(">xBH", _SUPPORTED | (0x80 if timeouts else 0), len(usage))
    return head + usage + (_NOTHING_SAID if timeouts else b"")


def report_task_management(task: Task) -> Buffer:
    extended, allocation = bool(task.cdb[2] & 0x80), int.from_bytes(task.cdb[6:10], "big")
    if extended:
        return struct.pack(">BxxB12x", _FUNCTIONS, 12)[:allocation]
    return struct.pack(">BBxB", _FUNCTIONS, 0, 0)[:allocation]
