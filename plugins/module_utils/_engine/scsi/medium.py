# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The medium: started and stopped, loaded and ejected, kept in; and its defects, of which there are none."""

from __future__ import annotations

import struct

from ..bdev.base import Buffer
from . import store
from .device import Task
from .reservations import Conflict
from .sense import InvalidFieldInCdb, MediumMayHaveChanged, MediumRemovalPrevented, ReservationConflict

_LOAD_EJECT, _START, _NO_FLUSH = 0x02, 0x01, 0x04


def _check_reservation(task: Task) -> None:
    if task.unit.state.reservations.forbids(task.nexus.identity, Conflict.WRITE):
        raise ReservationConflict()


async def start_stop(task: Task) -> None:
    """START STOP UNIT (SBC-4 §5.31).

    Only a removable medium can be taken from the others. A fixed disk that is told to stop flushes and goes on, because
    somebody else may be using it. Power conditions mean nothing here.
    """
    flags, state = task.cdb[4], task.unit.state
    start, condition = flags & _START, flags >> 4
    if not (start and not condition):
        _check_reservation(task)
    if condition:
        return
    if flags & _LOAD_EJECT and not task.unit.options.removable:
        raise InvalidFieldInCdb(byte=4, bit=1)
    if flags & _LOAD_EJECT and state.prevented:
        raise MediumRemovalPrevented()
    if not start and not flags & _NO_FLUSH and not state.bdev.readonly:
        await store.flush(state.bdev)
    if flags & _LOAD_EJECT and state.loaded is not bool(start):
        state.loaded = bool(start)
        kept = state.changed()
        if state.loaded:
            state.tell_others(task.nexus, MediumMayHaveChanged)
        if kept is not None:
            await kept


def prevent_allow(task: Task) -> None:
    """PREVENT ALLOW MEDIUM REMOVAL (SBC-4 §5.15): each nexus for itself; the medium stays while one forbids it."""
    if not task.unit.options.removable:
        raise InvalidFieldInCdb(byte=4, bit=0)
    prevented = task.unit.state.prevented
    if task.cdb[4] & 0x01:
        _check_reservation(task)
        prevented.add(task.nexus)
    else:
        prevented.discard(task.nexus)


def read_defect_data_10(task: Task) -> Buffer:
    lists = task.cdb[2] & 0x1F
    return struct.pack(">xBxx", lists)[: int.from_bytes(task.cdb[7:9], "big")]


def read_defect_data_12(task: Task) -> Buffer:
    lists = task.cdb[1] & 0x1F
    return struct.pack(">xBxxL", lists, 0)[: int.from_bytes(task.cdb[6:10], "big")]
