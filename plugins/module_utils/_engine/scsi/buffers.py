# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""READ BUFFER and WRITE BUFFER (SPC-4 §6.21, §6.49): the echo buffer, by which initiators test a path."""

from __future__ import annotations

from typing import Final

from ..bdev.base import Buffer
from .device import Task
from .sense import InvalidFieldInCdb

ECHO_BYTES: Final = 4096
_DATA, _DESCRIPTOR, _ECHO, _ECHO_DESCRIPTOR = 0x02, 0x03, 0x0A, 0x0B
_PIECE: Final = 0xFF
"""Offset boundary: there is no writing at an offset."""


def prepare_write(task: Task) -> int:
    if task.cdb[1] & 0x1F != _ECHO:
        raise InvalidFieldInCdb(byte=1, bit=4)
    length = int.from_bytes(task.cdb[6:9], "big")
    if length > ECHO_BYTES:
        raise InvalidFieldInCdb(byte=6)
    return length


def write(task: Task) -> None:
    task.nexus.echo = bytes(task.data_out)


def read(task: Task) -> Buffer:
    mode, allocation = task.cdb[1] & 0x1F, int.from_bytes(task.cdb[6:9], "big")
    if mode == _ECHO:
        return task.nexus.echo[:allocation]
    if mode == _ECHO_DESCRIPTOR:
        return (b"\0\0" + ECHO_BYTES.to_bytes(2, "big"))[:allocation]
    if mode == _DESCRIPTOR:
        return bytes((_PIECE, 0, 0, 0))[:allocation]
    if mode == _DATA:
        return b""
    raise InvalidFieldInCdb(byte=1, bit=4)
