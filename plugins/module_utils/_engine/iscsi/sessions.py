# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sessions of a target: how they begin, lose and gain connections, and end (RFC 7143 §6.3, §7.1.5, §8.3)."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING

from ..errors import Busy
from ..scsi.sense import CommandsClearedByEvent, NexusLossOccurred, ScsiError
from . import pdu
from .accounts import Accounts
from .clock import Clock
from .command import IscsiTask
from .node import TargetNode
from .options import Options
from .session import Session, SessionTable

if TYPE_CHECKING:
    from .connection import Connection

_log = logging.getLogger(__name__)


class Sessions(SessionTable):
    """All sessions and all connections, those that are logging in too."""

    def __init__(self, options: Options, clock: Clock, accounts: Accounts) -> None:
        super().__init__()
        self.accounts = accounts
        self._options = options
        self._clock = clock
        self.connections: set[Connection] = set()
        self.are_ending = False
        """The target stops: nobody is waited for."""
        self.elsewhere = 0
        """Sessions with the same target that other processes serve."""
        self._departures: set[asyncio.Event] = set()
        self._lost_until = -math.inf
        """See :meth:`others_were_lost`."""

    def others_were_lost(self) -> None:
        """Sessions ended with the process that had them.

        Whoever comes in the time for which they would have been kept learns that the nexus was lost: nobody knows any
        more who was there.
        """
        seconds = self._options.default_time2wait + self._options.default_time2retain
        self._lost_until = monotonic() + seconds

    @property
    def are_all(self) -> bool:
        """There is no room for one more."""
        return len(self) + self.elsewhere >= self._options.max_sessions

    # -- beginning ---------------------------------------------------------------------------------------------------

    def reinstate(self, session: Session) -> None:
        """A new session of a nexus that has one ends the old one (RFC 7143 §6.3.5), and makes room for itself."""
        was_lost = monotonic() < self._lost_until
        if not self._options.allow_duplicated_isid:
            for old in self.same_nexus(session.key):
                self.end(old, "its initiator logged in again")
                was_lost = True
        if was_lost and session.nexus is not None:
            for lun_id in session.nexus.device.luns:
                session.nexus.attend(lun_id, NexusLossOccurred)
        away = self.oldest_away()
        if away is not None and self.are_all:
            self.end(away, "its place (max_sessions) is needed")

    def join(self, session: Session, cid: int) -> None:
        """Let one more connection, numbered ``cid``, into a session. It replaces one of that number (RFC 7143 §6.3.4).

        Raises Busy when the session has as many as were agreed on.
        """
        most = session.parameters.number("MaxConnections")
        if cid not in session.connections and len(session.connections) >= most:
            raise Busy(f"{session} has {len(session.connections)} connections; MaxConnections={most} was agreed on")

    def connection_joins(self, connection: Connection, session: Session) -> None:
        """The login is complete."""
        self.accounts.joined(session, first=self.get(session.tsih) is not session)
        if self.get(session.tsih) is not session:
            self.add(session)
        self._clock.forget(session)
        old = session.connections.get(connection.cid)
        session.connections[connection.cid] = connection
        if old is not None:
            _log.info("%s ends: its initiator logged in again with CID %d", old, connection.cid)
            old.close()

    # -- going on ----------------------------------------------------------------------------------------------------

    def connection_closed(self, connection: Connection, lost: Iterable[IscsiTask]) -> None:
        """``lost`` are the commands that ended unanswered with it."""
        self.connections.discard(connection)
        session = connection.session
        if session is not None:
            if connection.running:
                self._be_careful(session)
            if session.nexus is not None:
                for lun_id in {task.lun.id for task in lost if task.lun is not None}:
                    session.nexus.attend(lun_id, CommandsClearedByEvent)
            if session.connections.get(connection.cid) is connection:
                del session.connections[connection.cid]
                if not session.connections:
                    self._left_alone(session, connection.is_orderly)
        for event in self._departures:
            event.set()

    def _be_careful(self, like: Session) -> None:
        """On every path of the initiator: nothing overtakes the commands that a lost connection left behind."""
        for session in self:
            if session.who == like.who:
                for connection in session.connections.values():
                    connection.be_careful()

    def _left_alone(self, session: Session, is_orderly: bool) -> None:
        """The last connection is gone. Unless both sides wanted that, wait for Time2Wait and Time2Retain."""
        values, node = session.parameters, session.node
        retain = values.number("DefaultTime2Retain")
        if session.ended or is_orderly or self.are_ending or node is None or node.is_closed or not retain:
            self.end(session)
            return
        session.on_end = self._timed_out
        self._clock.watch(session, values.number("DefaultTime2Wait") + retain)

    def _timed_out(self, session: Session) -> None:
        _log.warning("%s ends: its initiator did not come back", session)
        self.end(session)

    # -- telling -----------------------------------------------------------------------------------------------------

    def tell_event(self, node: TargetNode, lun_id: int, attention: type[ScsiError]) -> None:
        """A SCSI event as an asynchronous message, so that nobody has to send a command to learn of it."""
        for session in self.of_node(node):
            for connection in session.connections.values():
                if not connection.leaving:
                    connection.announce(pdu.ASYNC_SCSI_EVENT, sense=attention().sense(), lun_field=lun_id << 48)
                    break

    # -- ending ------------------------------------------------------------------------------------------------------

    def end(self, session: Session, why: str = "") -> None:
        """End a session with all its connections, and tell the SCSI device that the nexus is lost."""
        if why:
            _log.info("%s ends: %s", session, why)
        session.ended = True
        self.accounts.ended(session)
        self._clock.forget(session)
        for connection in list(session.connections.values()):
            connection.close()
        if session.nexus is not None:
            session.nexus.lost()
        self.remove(session)

    def drop(self, sessions: Iterable[Session], why: str) -> None:
        """End sessions, and tell their initiators (Async event 3, RFC 7143 §11.9.1)."""
        for session in sessions:
            session.ended = True
            for connection in list(session.connections.values()):
                connection.drop(why, pdu.ASYNC_DROP_SESSION)
            self.end(session)

    async def see_off(self, sessions: list[Session], seconds: int) -> None:
        """Request logout of these sessions, and drop those that are there after ``seconds``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        for session in sessions:
            if not session.connections:
                self.end(session, "it is to end, and its initiator is away")
        present = {connection for session in sessions for connection in session.connections.values()}
        for connection in present:
            connection.announce(pdu.ASYNC_LOGOUT_REQUEST, 0, 0, seconds)
        departure = asyncio.Event()
        self._departures.add(departure)
        try:
            while present & self.connections:
                departure.clear()
                await asyncio.wait_for(departure.wait(), deadline - loop.time())
        except asyncio.TimeoutError:
            self.drop(
                [each for each in sessions if each.connections], f"its initiator did not log out within {seconds} s"
            )
        finally:
            self._departures.discard(departure)
