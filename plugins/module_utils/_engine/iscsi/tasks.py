# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task management (RFC 7143 §11.5, §11.6): aborting commands and resetting logical units."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Callable, Final, NamedTuple

from ..scsi.device import LogicalUnit
from . import pdu
from .transfer import IscsiTask, forget

if TYPE_CHECKING:
    from .connection import Connection

COMPLETE, NO_TASK, NO_LUN, CANNOT_REASSIGN, NOT_SUPPORTED = 0, 1, 2, 4, 5


class Request(NamedTuple):
    """A Task Management Function Request; ``referenced`` is the initiator task tag it is about."""

    function: int
    lun_field: int
    itt: int
    referenced: int


Found = tuple["Connection", IscsiTask]


def manage(connection: Connection, request: Request) -> None:
    """Carry the request out. It is answered when the last task it aborts has come to rest in its bdev."""
    function = _FUNCTIONS.get(request.function)
    response, settled = function(connection, request) if function else (NOT_SUPPORTED, [])
    if not settled:
        _respond(connection, request, response)
        return
    everything = asyncio.gather(*settled)
    everything.add_done_callback(lambda _done: _respond(connection, request, response))


Outcome = tuple[int, list["asyncio.Future[None]"]]


def _abort_task(connection: Connection, request: Request) -> Outcome:
    for owner, task in _tasks(connection, None):
        if owner is connection and task.itt == request.referenced:
            return COMPLETE, _abort([(owner, task)])
    return NO_TASK, []


def _abort_task_set(connection: Connection, request: Request) -> Outcome:
    lun = _lun(connection, request)
    if lun is None:
        return NO_LUN, []
    return COMPLETE, _abort([found for found in _tasks(connection, lun) if found[0] is connection])


def _logical_unit_reset(connection: Connection, request: Request) -> Outcome:
    lun = _lun(connection, request)
    if lun is None:
        return NO_LUN, []
    return COMPLETE, _reset(connection, [lun])


def _target_warm_reset(connection: Connection, _request: Request) -> Outcome:
    nexus = connection.open_session.nexus
    return COMPLETE, _reset(connection, list(nexus.device.luns.values()) if nexus else [])


def _task_reassign(_connection: Connection, _request: Request) -> Outcome:
    return CANNOT_REASSIGN, []


_FUNCTIONS: Final[dict[int, Callable[[Connection, Request], Outcome]]] = {
    1: _abort_task,
    2: _abort_task_set,
    5: _logical_unit_reset,
    6: _target_warm_reset,
    8: _task_reassign,
}


def _reset(connection: Connection, luns: list[LogicalUnit]) -> list[asyncio.Future[None]]:
    """Abort everybody's tasks on these units; all initiators learn of it by a unit attention (SAM-5 §6.3.3)."""
    settled: list[asyncio.Future[None]] = []
    for lun in luns:
        settled += _abort(list(_tasks(connection, lun)))
        lun.state.reset()
    return settled


def _tasks(connection: Connection, lun: LogicalUnit | None) -> Iterator[Found]:
    """Unfinished tasks of the node's sessions, on ``lun`` or on any logical unit."""
    node = connection.open_session.node
    for session in connection.target.sessions.of_node(node) if node else []:
        owner = session.connection
        if owner is None:
            continue
        unfinished = [each.task for each in owner.incoming.values()] + list(owner.running.values())
        for task in unfinished:
            if lun is None or task.lun is lun:
                yield owner, task


def _abort(found: list[Found]) -> list[asyncio.Future[None]]:
    """Never answer these tasks. Gives a future for each that its bdev is still working on."""
    settled: list[asyncio.Future[None]] = []
    for owner, task in found:
        task.aborted = True
        if task.give_up is not None:
            task.give_up()
        incoming = owner.incoming.get(task.itt)
        if incoming is not None:
            forget(owner, incoming)
        else:
            settled.append(owner.target.when_settled(task))
        if not task.immediate:
            owner.open_session.release()
    return settled


def abort_for(connection: Connection, lun: LogicalUnit) -> None:
    """PREEMPT AND ABORT took the registration of this connection's nexus away."""
    _abort([found for found in _tasks(connection, lun) if found[0] is connection])


def _lun(connection: Connection, request: Request) -> LogicalUnit | None:
    nexus = connection.open_session.nexus
    return nexus.device.by_field.get(request.lun_field) if nexus else None


def _respond(connection: Connection, request: Request, response: int) -> None:
    if connection.closed:
        return
    session = connection.open_session
    connection.send(
        pdu.TASK_MANAGEMENT_RESPONSE_PDU.pack(
            *(pdu.TASK_MANAGEMENT_RESPONSE, pdu.FINAL, response, 0, request.itt),
            *(connection.next_stat_sn(), session.exp_cmd_sn, session.max_cmd_sn),
        )
    )
