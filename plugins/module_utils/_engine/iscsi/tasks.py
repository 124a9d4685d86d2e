# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task management (RFC 7143 §11.5, §11.6; RFC 7144 §6): aborting commands, asking about them, resetting.

A function that is about many tasks begins when every command before it has come, on whatever connection, and is
answered when the last task that it aborts has come to rest in its bdev (RFC 7143 §4.2.3.3). R2Ts of aborted tasks are
not waited for: initiators such as Linux stop sending after such a request. Data that still comes is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Callable, Final, NamedTuple

from ..errors import Busy
from ..scsi.device import Nexus
from ..scsi.sense import CommandsCleared, NexusLossOccurred, UnitAttention
from ..scsi.unit import LogicalUnit
from . import pdu
from .command import IscsiTask
from .fence import fenced
from .session import HALF, SERIAL_MASK, Session
from .settling import wait_for
from .transfer import forget

if TYPE_CHECKING:
    from .connection import Connection

COMPLETE, NO_TASK, NO_LUN, CANNOT_REASSIGN, NOT_SUPPORTED, SUCCEEDED, REJECTED = 0, 1, 2, 4, 5, 7, 255

_COLD_RESET: Final = "an initiator asked for a cold reset of the target node"


class Request(NamedTuple):
    """A Task Management Function Request; ``referenced`` is the initiator task tag it is about."""

    function: int
    lun_field: int
    itt: int
    referenced: int
    cmd_sn: int
    ref_cmd_sn: int


class Outcome(NamedTuple):
    """What to answer, as soon as what was aborted has come to rest."""

    response: int
    settled: list[asyncio.Future[None]] = []
    information: bytes = bytes(3)
    """Additional response information (RFC 7144 §6.2)."""
    then: Callable[[], None] | None = None
    """What to do after the answer."""


Found = tuple["Connection", IscsiTask]


class Function(NamedTuple):
    """A row of the table of functions."""

    carry_out: Callable[[Connection, Request], Outcome]
    waits: bool = False
    """Begins when every command before it has come."""
    plugs: bool = False
    """Takes commands before it that have not come as received: they are aborted too (RFC 7143 §4.2.3.3 b)."""


def manage(connection: Connection, request: Request) -> None:
    """Carry the request out, now or when earlier commands have come, and answer it."""
    function = _FUNCTIONS.get(request.function)
    if function is None:
        _respond(connection, request, Outcome(NOT_SUPPORTED))
        return
    session = connection.open_session
    missing = (request.cmd_sn - session.exp_cmd_sn) & SERIAL_MASK
    if missing and missing <= (session.limit - session.exp_cmd_sn) & SERIAL_MASK < HALF:
        if function.plugs:
            session.plug_up_to(request.cmd_sn)
            session.catch_up()
        elif function.waits:
            try:
                session.defer(request.cmd_sn, lambda: _carry_out(connection, request, function))
            except Busy:
                _respond(connection, request, Outcome(REJECTED))
            return
    _carry_out(connection, request, function)


def _carry_out(connection: Connection, request: Request, function: Function) -> None:
    if connection.closed:
        return
    outcome = function.carry_out(connection, request)

    def respond() -> None:
        _respond(connection, request, outcome)

    is_about_many = function.waits or function.plugs
    wait_for(outcome.settled, lambda: fenced(connection, respond) if is_about_many else respond())


# -- the functions -----------------------------------------------------------------------------------------------------


def _abort_task(connection: Connection, request: Request) -> Outcome:
    for task in connection.unfinished():
        if task.itt == request.referenced:
            return Outcome(COMPLETE, _abort([(connection, task)]))
    session = connection.open_session
    before = (request.cmd_sn - request.ref_cmd_sn) & SERIAL_MASK
    if 0 < before < HALF and session.plug(request.ref_cmd_sn):
        session.catch_up()
        return Outcome(COMPLETE)  # it has not come yet; when it comes, it is ignored (RFC 7143 §11.6.1)
    return Outcome(NO_TASK)


def _abort_task_set(connection: Connection, request: Request) -> Outcome:
    lun = _lun(connection, request)
    if lun is None:
        return Outcome(NO_LUN)
    return Outcome(COMPLETE, _abort(list(_own_tasks(connection, lun))))


def _clear_task_set(connection: Connection, request: Request) -> Outcome:
    """As ABORT TASK SET, of all initiators; those who lose commands are told (SAM-5 §5.10)."""
    lun = _lun(connection, request)
    if lun is None:
        return Outcome(NO_LUN)
    found = list(_tasks(connection, lun))
    _tell({owner.open_session.nexus for owner, _task in found}, connection, [lun], CommandsCleared)
    return Outcome(COMPLETE, _abort(found) + connection.target.settling.left_on(lun))


def _logical_unit_reset(connection: Connection, request: Request) -> Outcome:
    lun = _lun(connection, request)
    if lun is None:
        return Outcome(NO_LUN)
    return Outcome(COMPLETE, _reset(connection, [lun]))


def _target_warm_reset(connection: Connection, _request: Request) -> Outcome:
    return Outcome(COMPLETE, _reset(connection, _luns(connection)))


def _target_cold_reset(connection: Connection, _request: Request) -> Outcome:
    """A warm reset after which every connection of every initiator to this target node ends (RFC 7143 §11.5.1)."""
    node, target = connection.open_session.node, connection.target
    settled = _reset(connection, _luns(connection))
    return Outcome(
        COMPLETE, settled, then=lambda: target.sessions.drop(target.sessions.of_node(node) if node else [], _COLD_RESET)
    )


def _task_reassign(_connection: Connection, _request: Request) -> Outcome:
    return Outcome(CANNOT_REASSIGN)


def _query_task(connection: Connection, request: Request) -> Outcome:
    present = any(task.itt == request.referenced for task in connection.unfinished())
    return Outcome(SUCCEEDED if present else COMPLETE)


def _query_task_set(connection: Connection, request: Request) -> Outcome:
    lun = _lun(connection, request)
    if lun is None:
        return Outcome(NO_LUN)
    return Outcome(SUCCEEDED if any(_own_tasks(connection, lun)) else COMPLETE)


def _nexus_reset(connection: Connection, _request: Request) -> Outcome:
    """I_T NEXUS RESET: as if the nexus had been lost, but the session goes on (SAM-5 §7.7)."""
    nexus = connection.open_session.nexus
    settled = _abort([found for lun in _luns(connection) for found in _own_tasks(connection, lun)])
    if nexus is not None:
        nexus.lost()
        for lun in _luns(connection):
            nexus.attend(lun.id, NexusLossOccurred)
    return Outcome(COMPLETE, settled)


def _query_async_event(connection: Connection, request: Request) -> Outcome:
    """QUERY ASYNCHRONOUS EVENT: the sense key and codes of the unit attention that waits (SAM-5 §7.10)."""
    nexus, lun = connection.open_session.nexus, _lun(connection, request)
    if nexus is None or lun is None:
        return Outcome(NO_LUN)
    waiting = nexus.attentions.get(lun.id)
    if not waiting:
        return Outcome(COMPLETE)
    attention = waiting[0]
    depth = min(len(waiting), 3)
    return Outcome(SUCCEEDED, information=bytes([depth << 4 | attention.key, *attention.code]))


_FUNCTIONS: Final[dict[int, Function]] = {
    1: Function(_abort_task),
    2: Function(_abort_task_set, waits=True),
    # 3, CLEAR ACA: no command can establish an auto contingent allegiance (NormACA=0)
    4: Function(_clear_task_set, waits=True),
    5: Function(_logical_unit_reset, waits=True),
    6: Function(_target_warm_reset, plugs=True),
    7: Function(_target_cold_reset, plugs=True),
    8: Function(_task_reassign),
    9: Function(_query_task),
    10: Function(_query_task_set, waits=True),
    11: Function(_nexus_reset, waits=True),
    12: Function(_query_async_event),
}


# -- what they are made of ---------------------------------------------------------------------------------------------


def _reset(connection: Connection, luns: list[LogicalUnit]) -> list[asyncio.Future[None]]:
    """Abort everybody's tasks on these units; all initiators learn of it by a unit attention (SAM-5 §6.3.3)."""
    settled: list[asyncio.Future[None]] = []
    for lun in luns:
        settled += _abort(list(_tasks(connection, lun))) + connection.target.settling.left_on(lun)
        kept = lun.state.reset()
        if kept is not None:
            settled.append(asyncio.ensure_future(kept))
    return settled


def _tell(
    nexuses: Iterable[Nexus | None], connection: Connection, luns: list[LogicalUnit], attention: type[UnitAttention]
) -> None:
    """A unit attention for each of these nexuses that is not the one of ``connection``."""
    for nexus in nexuses:
        if nexus is not None and nexus is not connection.open_session.nexus:
            for lun in luns:
                nexus.attend(lun.id, attention)


def _tasks(connection: Connection, lun: LogicalUnit) -> Iterator[Found]:
    """Unfinished tasks of all sessions on a logical unit of the node."""
    node = connection.open_session.node
    for session in connection.target.sessions.of_node(node) if node else []:
        for owner in list(session.connections.values()):
            yield from ((owner, task) for task in owner.unfinished() if task.lun is lun)


def _own_tasks(connection: Connection, lun: LogicalUnit) -> Iterator[Found]:
    """Those of this session, on all its connections."""
    return (found for found in _tasks(connection, lun) if found[0].session is connection.session)


def _abort(found: list[Found]) -> list[asyncio.Future[None]]:
    """Never answer these tasks. Gives a future for each that its bdev is still working on."""
    settled: list[asyncio.Future[None]] = []
    for owner, task in found:
        was_aborted = task.aborted
        task.abort()
        incoming = owner.incoming.get(task.itt)
        if incoming is not None:
            forget(owner, incoming)
        else:
            settled.append(owner.target.settling.when_settled(task))
        if not task.immediate and not was_aborted:
            owner.open_session.release()
    return settled


def abort_for(session: Session, lun: LogicalUnit) -> None:
    """PREEMPT AND ABORT took the registration of this session's nexus away."""
    for connection in list(session.connections.values()):
        _abort([(connection, task) for task in connection.unfinished() if task.lun is lun])


def _lun(connection: Connection, request: Request) -> LogicalUnit | None:
    nexus = connection.open_session.nexus
    return nexus.by_field.get(request.lun_field) if nexus else None


def _luns(connection: Connection) -> list[LogicalUnit]:
    nexus = connection.open_session.nexus
    return list(nexus.device.luns.values()) if nexus else []


def _respond(connection: Connection, request: Request, outcome: Outcome) -> None:
    if not connection.closed:
        session = connection.open_session
        connection.send(
            pdu.TASK_MANAGEMENT_RESPONSE_PDU.pack(
                *(pdu.TASK_MANAGEMENT_RESPONSE, pdu.FINAL, outcome.response, 0, outcome.information, request.itt),
                *(connection.next_stat_sn(), session.exp_cmd_sn, session.max_cmd_sn),
            )
        )
    if outcome.then is not None:
        outcome.then()
