# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where a command is checked and run, and its errors become status and sense data."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
from collections.abc import Coroutine, Generator
from types import CoroutineType
from typing import Any, Callable, Final

from . import sbc
from .command import Command
from .commands import BY_OPCODE, find
from .device import Task
from .reservations import Conflict
from .sense import (
    BecomingReady,
    CommandFailed,
    DeviceMissing,
    InternalTargetFailure,
    LogicalUnitNotSupported,
    MediumNotPresent,
    ReservationConflict,
    ScsiError,
    SpaceAllocationFailed,
    UnrecoveredRead,
    WriteFault,
    WriteProtected,
)

_log = logging.getLogger(__name__)

Done = Callable[[Any], None]
"""Takes the task, which may be of the transport's own subclass."""
_BUFFERS: Final = frozenset({bytes, bytearray, memoryview})
_MEDIUM_ERRNOS: Final = frozenset({errno.EIO, errno.EILSEQ, errno.EREMOTEIO, errno.ENODATA})


def prepare(task: Task) -> int:
    """The bytes of Data-Out that the command wants; 0 when it wants none or has failed (see ``task.status``)."""
    try:
        command = BY_OPCODE[task.cdb[0]] or find(task.cdb)
        if command.prepare is None:
            return 0
        lun = task.lun
        if lun is None or lun.state.guarded or task.nexus.attentions:
            _check(task, command)
        return command.prepare(task)
    except CommandFailed as error:
        task.fail(error)
        return 0


def execute(task: Task, done: Done) -> None:
    """Run the command; ``done(task)`` is called once, now or when the data is there."""
    try:
        command = BY_OPCODE[task.cdb[0]] or find(task.cdb)
        rules = command.rules
        lun = task.lun
        if lun is None or lun.state.guarded or task.nexus.attentions:
            _check(task, command)
            if lun is not None and rules.medium and not lun.state.gate.free(rules.alone):
                lun.state.gate.wait(rules.alone, functools.partial(_start, task, command, done))
                lun.state.refresh()
                return
        elif rules.alone and not lun.state.gate.free(alone=True):
            lun.state.gate.wait(True, functools.partial(_start, task, command, done))
            lun.state.refresh()
            return
        result = command.handler(task)
    except Exception as error:  # pylint: disable=broad-except
        _fail(task, error)
        done(task)
        return
    if result is not None:
        if type(result) not in _BUFFERS:
            _go_on(lambda: result, task, command, done)
            return
        task.data_in = result
    done(task)


def _check(task: Task, command: Command) -> None:
    """Whatever may keep a command from being carried out, in the order in which initiators learn of it."""
    rules = command.rules
    lun, nexus = task.lun, task.nexus
    if lun is None:
        if rules.anytime:
            return
        raise LogicalUnitNotSupported()
    if nexus.attentions and not rules.anytime:
        attention = nexus.next_attention(lun.id)
        if attention is not None:
            raise attention
    state = lun.state
    if not state.guarded:
        return
    if state.is_away and not rules.anytime:
        raise BecomingReady()
    port = lun.device.ports.get(nexus.relative_port)
    if port is not None and not rules.access.allows(port):
        raise port.refusal()
    if state.reservations.forbids(nexus.identity, rules.conflicts):
        raise ReservationConflict()
    if state.erasure is not None and not rules.erasing:
        raise state.erasure.refusal()
    if rules.medium and not state.loaded:
        raise MediumNotPresent()
    if rules.writes and lun.readonly:
        raise WriteProtected()


def _go_on(give: Callable[[], Any], task: Task, command: Command, done: Done) -> None:
    """Finish a command whose handler gives a coroutine, of which most never wait, or something else to wait for."""
    try:
        result = give()
        if isinstance(result, CoroutineType):
            result = _advance(result)
    except Exception as error:  # pylint: disable=broad-except
        _fail(task, error)
        done(task)
        return
    if result is None or type(result) in _BUFFERS:
        task.data_in = result
        done(task)
        return
    state = task.lun.state if task.lun is not None else None
    alone = command.rules.alone
    if state is not None:
        state.gate.enter(alone)
        if alone:
            state.refresh()

    def finish(future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            _fail(task, OSError(errno.ECANCELED, "cancelled"))
        elif future.exception() is not None:
            _fail(task, future.exception())
        else:
            task.data_in = future.result()
        if state is not None:
            state.gate.leave()
        done(task)
        if state is not None and state.guarded:
            state.let_in()

    asyncio.ensure_future(result).add_done_callback(finish)


def _start(task: Task, command: Command, done: Done) -> None:
    """Run a command that waited for others to finish."""
    if task.aborted:
        done(task)
    elif task.unit not in task.unit.state.luns:
        task.fail(LogicalUnitNotSupported())
        done(task)
    else:
        _go_on(functools.partial(command.handler, task), task, command, done)


def _advance(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine up to its first wait: its result, or what gives the result in time."""
    try:
        first = coroutine.send(None)
    except StopIteration as end:
        return end.value
    return _Rest(coroutine, first)


class _Rest:
    """A coroutine that waits for ``first``; whoever awaits this goes on with it."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], first: Any) -> None:
        self._coroutine = coroutine
        self._first = first

    def __await__(self) -> Generator[Any, Any, Any]:
        pending = self._first
        try:
            while True:
                try:
                    value = yield pending
                except BaseException as error:  # pylint: disable=broad-except
                    pending = self._coroutine.throw(error)
                else:
                    pending = self._coroutine.send(value)
        except StopIteration as end:
            return end.value


def _fail(task: Task, error: BaseException | None) -> None:
    """Turn what went wrong into sense data; a bug in the engine costs one command."""
    if isinstance(error, CommandFailed):
        task.fail(error)
    elif isinstance(error, OSError) and task.lun is not None:
        bdev = task.lun.bdev
        bdev.stats.errors += 1
        # That a device is gone was logged when it went; its initiators may ask for it many times a second.
        level = logging.DEBUG if bdev.missing else logging.ERROR
        _log.log(level, "LUN %d of %s (bdev %s): %s", task.lun.id, task.nexus.device.name, bdev.name, error)
        task.fail(_device_error(task, error))
    else:
        _log.error("command %s of %s failed", task.cdb.hex(), task.nexus.initiator_port, exc_info=error)
        task.fail(InternalTargetFailure())


def _device_error(task: Task, error: OSError) -> ScsiError:
    """What the bdev's failure is in SCSI's terms, and where it happened."""
    where = getattr(error, "offset", None)  # bytes; see bdev.base.failed_at()
    lba = where // task.unit.bdev.block_size if where is not None else sbc.first_lba(task)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpaceAllocationFailed(information=lba)
    if error.errno in (errno.ENODEV, errno.ENXIO):
        return DeviceMissing()
    if error.errno not in _MEDIUM_ERRNOS:
        return InternalTargetFailure()
    modifies = find(task.cdb).rules.conflicts is Conflict.WRITE
    return (WriteFault if modifies else UnrecoveredRead)(information=lba)
