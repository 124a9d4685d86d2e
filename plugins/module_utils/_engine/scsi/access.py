# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""REPORT and SET TARGET PORT GROUPS (SPC-4 §6.37, §6.45). A target port group is a portal group of the target node."""

from __future__ import annotations

import struct
from collections.abc import Awaitable
from typing import Final

from ..bdev.base import Buffer
from .alua import SETTABLE, Access, Cause, State
from .command import Rules
from .device import Task
from .reservations import Conflict
from .sense import InvalidFieldInCdb, InvalidFieldInParameters, ParameterListLengthError

LONGEST_LIST: Final = 4096
CHANGE_RULES: Final = Rules(Conflict.WRITE, Access.ANY)
_SUPPORTED: Final = 0x0F  # unavailable, standby, non-optimized and optimized
_GROUP = struct.Struct(">BBHxBxBxxH")
_CHANGE = struct.Struct(">BxH")


def report(task: Task) -> Buffer:
    """REPORT TARGET PORT GROUPS; the extended header says how long a transition may take: not at all."""
    form, allocation = task.cdb[1] >> 5, int.from_bytes(task.cdb[6:10], "big")
    if form > 1:
        raise InvalidFieldInCdb(byte=1, bit=7)
    device = task.nexus.device
    ports = device.ports or {task.nexus.relative_port: State.OPTIMIZED}
    groups = b"".join(
        _GROUP.pack(state, _SUPPORTED, tag, device.causes.get(tag, Cause.NOBODY), 1, tag)
        for tag, state in sorted(ports.items())
    )
    if form:
        groups = struct.pack(">BB2x", 0x10, 0) + groups
    return (struct.pack(">L", len(groups)) + groups)[:allocation]


def change(task: Task) -> Awaitable[None] | None:
    """SET TARGET PORT GROUPS: all changes or none."""
    data, device = bytes(task.data_out), task.nexus.device
    if not data:
        return None
    if len(data) < 4 or len(data) % 4:
        raise ParameterListLengthError()
    states: dict[int, State] = {}
    for at in range(4, len(data), _CHANGE.size):
        value, tag = _CHANGE.unpack_from(data, at)
        if tag not in device.ports:
            raise InvalidFieldInParameters(byte=at + 2)
        state = next((each for each in SETTABLE if each == value & 0x0F), None)
        if state is None:
            raise InvalidFieldInParameters(byte=at, bit=3)
        states[tag] = state
    device.set_access(states, task.nexus)
    return device.units.keeper.kept() if device.units.keeper is not None else None
