# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of commands, and the one place where a command is run and its errors become sense data."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import Any, Callable, Final, NamedTuple

from . import mode, sbc, spc
from .device import Task
from .sense import (
    DeviceMissing,
    InternalTargetFailure,
    InvalidFieldInCdb,
    InvalidOpcode,
    LogicalUnitNotSupported,
    ScsiError,
    SpaceAllocationFailed,
    UnrecoveredRead,
    WriteFault,
)

_log = logging.getLogger(__name__)

Done = Callable[[Any], None]
"""Takes the task, which may be of the transport's own subclass."""
_BUFFERS: Final = frozenset({bytes, bytearray, memoryview})


class Command(NamedTuple):
    """A row of the command table."""

    opcode: int
    service_action: int | None
    name: str
    handler: Callable[[Task], Any]
    """Gives the Data-In buffer or None, or an awaitable of one; raises ScsiError or OSError."""
    prepare: Callable[[Task], int] | None = None
    """For commands with Data-Out: checks the command and gives the number of bytes it wants."""
    anytime: bool = False
    """Answers without a logical unit and in spite of a unit attention (SPC-4 §5.14, SAM-5 §5.14)."""


COMMANDS: Final = (
    Command(0x00, None, "TEST UNIT READY", spc.unit_ready),
    Command(0x03, None, "REQUEST SENSE", spc.request_sense, anytime=True),
    Command(0x08, None, "READ(6)", sbc.read),
    Command(0x0A, None, "WRITE(6)", sbc.write, sbc.prepare_write),
    Command(0x12, None, "INQUIRY", spc.inquiry, anytime=True),
    Command(0x1A, None, "MODE SENSE(6)", mode.sense_6),
    Command(0x25, None, "READ CAPACITY(10)", sbc.read_capacity_10),
    Command(0x28, None, "READ(10)", sbc.read),
    Command(0x2A, None, "WRITE(10)", sbc.write, sbc.prepare_write),
    Command(0x35, None, "SYNCHRONIZE CACHE(10)", sbc.synchronize_cache),
    Command(0x5A, None, "MODE SENSE(10)", mode.sense_10),
    Command(0x88, None, "READ(16)", sbc.read),
    Command(0x8A, None, "WRITE(16)", sbc.write, sbc.prepare_write),
    Command(0x91, None, "SYNCHRONIZE CACHE(16)", sbc.synchronize_cache),
    Command(0x9E, 0x10, "READ CAPACITY(16)", sbc.read_capacity_16),
    Command(0xA0, None, "REPORT LUNS", spc.report_luns, anytime=True),
    Command(0xA8, None, "READ(12)", sbc.read),
    Command(0xAA, None, "WRITE(12)", sbc.write, sbc.prepare_write),
)


def _index() -> list[Command | None]:
    rows: list[Command | None] = [None] * 256
    for command in COMMANDS:
        if command.service_action is None:
            rows[command.opcode] = command
    return rows


_BY_OPCODE: Final = _index()
_BY_ACTION: Final[dict[int, dict[int, Command]]] = {
    opcode: {row.service_action: row for row in COMMANDS if row.opcode == opcode and row.service_action is not None}
    for opcode in {row.opcode for row in COMMANDS if row.service_action is not None}
}

TAKES_DATA: Final = frozenset(row.opcode for row in COMMANDS if row.prepare is not None)
"""Operation codes of commands with Data-Out, which are prepared before they are executed."""


def find(cdb: bytes) -> Command:
    """The command's row. Raises InvalidOpcode, or InvalidFieldInCdb for an unknown service action."""
    command = _BY_OPCODE[cdb[0]]
    if command is not None:
        return command
    actions = _BY_ACTION.get(cdb[0])
    if actions is None:
        raise InvalidOpcode()
    action = actions.get(cdb[1] & 0x1F)
    if action is None:
        raise InvalidFieldInCdb(byte=1, bit=4)
    return action


def prepare(task: Task) -> int:
    """The bytes of Data-Out that the command wants; 0 when it wants none or has failed (see ``task.status``)."""
    try:
        command = _BY_OPCODE[task.cdb[0]] or find(task.cdb)
        if command.prepare is None:
            return 0
        if task.lun is None or task.nexus.attentions:
            _check_unit(task)
        return command.prepare(task)
    except ScsiError as error:
        task.fail(error)
        return 0


def execute(task: Task, done: Done) -> None:
    """Run the command; ``done(task)`` is called once, now or when the data is there."""
    try:
        command = _BY_OPCODE[task.cdb[0]] or find(task.cdb)
        if not command.anytime and (task.lun is None or task.nexus.attentions):
            _check_unit(task)
        result = command.handler(task)
    except Exception as error:  # pylint: disable=broad-except
        _fail(task, error)
    else:
        if result is not None:
            if type(result) in _BUFFERS:
                task.data_in = result
            else:
                _await(result, task, done)
                return
    done(task)


def _check_unit(task: Task) -> None:
    if task.lun is None:
        raise LogicalUnitNotSupported()
    attention = task.nexus.next_attention(task.lun.id)
    if attention is not None:
        raise attention


def _await(pending: Any, task: Task, done: Done) -> None:
    def finish(future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            _fail(task, OSError(errno.ECANCELED, "cancelled"))
        elif future.exception() is not None:
            _fail(task, future.exception())
        else:
            task.data_in = future.result()
        done(task)

    asyncio.ensure_future(pending).add_done_callback(finish)


def _fail(task: Task, error: BaseException | None) -> None:
    """Turn what went wrong into sense data; a bug in the engine costs one command."""
    if isinstance(error, ScsiError):
        task.fail(error)
    elif isinstance(error, OSError) and task.lun is not None:
        bdev = task.lun.bdev
        bdev.stats.errors += 1
        # That a device is gone was logged when it went; its initiators may ask for it many times a second.
        level = logging.DEBUG if bdev.missing else logging.ERROR
        _log.log(level, "LUN %d of %s (bdev %s): %s", task.lun.id, task.nexus.device.name, bdev.name, error)
        task.fail(_medium_error(task, error))
    else:
        _log.error("command %s of %s failed", task.cdb.hex(), task.nexus.initiator_port, exc_info=error)
        task.fail(InternalTargetFailure())


def _medium_error(task: Task, error: OSError) -> ScsiError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpaceAllocationFailed()
    if error.errno in (errno.ENODEV, errno.ENXIO):
        return DeviceMissing()
    return WriteFault() if find(task.cdb).prepare is not None else UnrecoveredRead()
