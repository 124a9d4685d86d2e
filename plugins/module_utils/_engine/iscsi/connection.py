# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection from accept to close: its login, its part of a session, whether its peer is there, its end."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from typing import TYPE_CHECKING, Final

from ..bdev.base import Buffer
from . import full_feature, pdu, quick, tasks, transfer
from .addresses import plain_peer
from .buffers import SharedBuffer
from .keys import Parameters
from .login import LOGIN_SECONDS, Login
from .portal import Portal
from .receiving import Handlers
from .session import HALF, SERIAL_MASK, Held, Session
from .text_exchange import TextExchange
from .working import Worker

if TYPE_CHECKING:
    from .target import IscsiTarget

_log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 30
"""How often a connection is looked at when it is not pinged."""
_STALL_SECONDS: Final = 60
"""How long a peer may stop within a PDU, or not read, where no nop_timeout says it."""
_KEEPALIVE: Final = (
    ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 60),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL), 10),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPCNT), 6),
    ((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT), 120_000),
)
"""Seconds, and milliseconds at the end: a host that vanished is noticed after two minutes, idle or not."""


class Connection(Worker):
    """One initiator's TCP connection."""

    __slots__ = (
        *("_answered", "_fences", "_login", "_looked", "_ping_tag", "_stalled", "cid", "is_orderly", "local", "number"),
        *("peer", "portal", "text"),
    )

    def __init__(
        self, sock: socket.socket, portal: Portal, target: IscsiTarget, shared: SharedBuffer, answered: int = 0
    ) -> None:
        """``answered`` of the first PDUs have their answers already."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in _KEEPALIVE:
            sock.setsockopt(*option, value)
        self.peer = plain_peer(sock.getpeername())
        self.local = plain_peer(sock.getsockname())
        super().__init__(sock, target, shared, _LOGIN_HANDLERS)
        self.portal = portal
        self.number = target.next_connection_number()
        self.cid = 0
        self.is_orderly = False
        """It ends because both sides agreed on it."""
        self.text = TextExchange()
        self._ping_tag = pdu.RESERVED_TAG
        self._fences: list[tuple[int, asyncio.Future[None]]] = []
        """Who waits for the initiator to acknowledge which StatSN."""
        self._looked = self._loop.time()
        self._stalled = 0.0
        """Seconds for which nothing moved that should have."""

        self._login: Login | None = Login(target, portal.tag, self.peer)
        self._answered = answered
        target.clock.watch(self, LOGIN_SECONDS)

    def __str__(self) -> str:
        who = self.session.initiator if self.session else "not logged in"
        return f"connection {self.number} from {self.peer} ({who})"

    # -- login -------------------------------------------------------------------------------------------------------

    def log_in(self, view: memoryview, at: int, data: memoryview) -> None:
        """A PDU before full feature phase, whatever its opcode."""
        if self._login is None:
            raise AssertionError("the login is complete")
        opcode = view[at] & pdu.OPCODE_MASK
        is_login = opcode == pdu.LOGIN
        reply = self._login.handle(view, at, data) if is_login else self._login.invalid(opcode)
        if self._answered:
            self._answered -= 1
        else:
            for part in reply.response:
                self.queue_raw(part)
        if reply.failed:
            self.finish_and_close()
        elif reply.session is not None:
            cid = pdu.LOGIN_PDU.unpack_from(view, at)[6]
            self._enter_full_feature_phase(self._login, reply.session, cid, reply.parameters or Parameters())

    def _enter_full_feature_phase(self, login: Login, session: Session, cid: int, agreed: Parameters) -> None:
        self._login = None
        self.cid = cid
        self.session = session
        self.stat_sn = login.stat_sn
        self.parameters = agreed
        self.immediate_limit = agreed.number("FirstBurstLength") if agreed.flag("ImmediateData") else 0
        self.handlers = full_feature.DISCOVERY_HANDLERS if session.node is None else full_feature.HANDLERS
        self.begin_digests(agreed.header_digest, agreed.data_digest)
        if self.digests:
            self.target.note_digests()
        self.limit_output(agreed.peer_receive_limit)
        self.target.sessions.connection_joins(self, session)
        if session.nexus is not None:
            session.nexus.abort = functools.partial(tasks.abort_for, session)
        self.be_careful()
        self.heard = False
        self.target.clock.watch(self, self._look_seconds())
        _log.info("%s logged in to %s", self, session.node.name if session.node else "discovery")

    @property
    def tcp(self) -> socket.socket:
        """For looking at it."""
        return self._socket

    # -- PDUs --------------------------------------------------------------------------------------------------------

    def handle_extended(self, view: memoryview, at: int, data: memoryview) -> None:
        if self._login is None and self.handlers is not full_feature.NO_HANDLERS:
            full_feature.extended(self, view, at, data)
        else:
            self.handlers[view[at] & pdu.OPCODE_MASK](self, view, at, data)

    def handle_damaged(self, view: memoryview, at: int, length: int) -> None:
        if self.handlers is not full_feature.NO_HANDLERS:
            full_feature.damaged(self, view, at, length)

    def hurry(self, view: memoryview, at: int, end: int) -> int:
        return quick.carry_out(self, view, at, end) if self.handlers is full_feature.HANDLERS else at

    def place_for(self, view: memoryview, at: int, length: int) -> memoryview | None:
        return transfer.destination(self, view, at, length) if self.session is not None else None

    def take(self, header: memoryview, data: memoryview) -> None:
        """A PDU that was held has its turn."""
        self.guarded(lambda: self.dispatch(header, 0, data))

    def in_turn(self, view: memoryview, at: int, data: memoryview, cmd_sn: int) -> bool:
        """May this non-immediate PDU be handled now? If not it is kept for its turn or, outside the window, ignored."""
        session = self.open_session
        if session.take_turn(cmd_sn):
            return True
        header = bytes(view[at : at + pdu.HEADER + view[at + 4] * 4])
        session.hold(cmd_sn, Held(self, header, bytes(data)))
        return False

    def reject(self, reason: int, why: str, view: memoryview, at: int = 0) -> None:
        """Send a Reject with the header it is about (RFC 7143 §11.17)."""
        _log.warning("%s: rejected: %s", self, why)
        session = self.open_session
        header = bytes(view[at : at + pdu.HEADER])
        self.send(
            pdu.REJECT_PDU.pack(
                *(pdu.REJECT, pdu.FINAL, reason, len(header), pdu.RESERVED_TAG, self.next_stat_sn()),
                *(session.exp_cmd_sn, session.max_cmd_sn, 0),
            ),
            header,
        )

    def announce(self, event: int, *parameters: int, sense: Buffer = b"", lun_field: int = 0) -> None:
        """An asynchronous message (RFC 7143 §11.9): event, its three parameters, sense data of event 0."""
        session = self.open_session
        data = len(sense).to_bytes(2, "big") + bytes(sense) if sense else b""
        self.send(
            pdu.ASYNC_PDU.pack(
                *(pdu.ASYNC_MESSAGE, pdu.FINAL, len(data), lun_field, pdu.RESERVED_TAG, self.next_stat_sn()),
                *(session.exp_cmd_sn, session.max_cmd_sn, event, 0, *(parameters or (0, 0, 0))),
            ),
            data,
        )

    # -- is the peer there? ------------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """Called by the clock: drop who does not log in, does not go on, does not read, does not answer pings."""
        options = self.target.options
        if self._login is not None:
            self.close_because(f"no login within {LOGIN_SECONDS} s")
            return None
        if self.leaving:
            self.close_because("it does not read the last answer")
            return None
        if round(self._is_stalled_for()) >= (options.nop_timeout or _STALL_SECONDS):
            self.drop("it stopped within a PDU, or does not read what it is sent")
            return None
        heard, self.heard = self.heard, False
        if self._ping_tag != pdu.RESERVED_TAG and not heard:
            self.close_because(f"no answer to a NOP-In within {options.nop_timeout} s")
            return None
        self._ping_tag = pdu.RESERVED_TAG
        if heard or not options.nop_in_interval or self._pauses:
            return self._look_seconds()
        self.ping()
        return float(options.nop_timeout or _LOOK_SECONDS)

    def _look_seconds(self) -> float:
        options = self.target.options
        return float(options.nop_in_interval or min(options.nop_timeout or _LOOK_SECONDS, _LOOK_SECONDS))

    def _is_stalled_for(self) -> float:
        now = self._loop.time()
        stalled, stuck = self.is_stalled(), self.is_stuck()
        self._stalled = self._stalled + now - self._looked if stalled or stuck else 0.0
        self._looked = now
        return self._stalled

    def ping(self) -> None:
        """Ask for a sign of life (RFC 7143 §11.19); the StatSN is shown, not taken."""
        session = self.open_session
        self._ping_tag = self.new_transfer_tag()
        self.send(
            pdu.NOP_IN_PDU.pack(
                *(pdu.NOP_IN, pdu.FINAL, 0, 0, pdu.RESERVED_TAG, self._ping_tag),
                *(self.stat_sn, session.exp_cmd_sn, session.max_cmd_sn),
            )
        )

    def acknowledged(self) -> asyncio.Future[None]:
        """A future that is done when the initiator has everything that was sent so far."""
        future: asyncio.Future[None] = self._loop.create_future()
        if self.closed or self.leaving:
            future.set_result(None)
        else:
            self._fences.append((self.stat_sn, future))
            self.ping()
        return future

    @property
    def is_awaited(self) -> bool:
        """Somebody waits for the initiator to acknowledge what was sent here."""
        return bool(self._fences)

    def note_acknowledgement(self, exp_stat_sn: int) -> None:
        """The initiator answered a NOP-In."""
        waiting, self._fences = self._fences, []
        for stat_sn, future in waiting:
            if (exp_stat_sn - stat_sn) & SERIAL_MASK < HALF:
                future.set_result(None)
            else:
                self._fences.append((stat_sn, future))

    # -- the end -----------------------------------------------------------------------------------------------------

    def stop_commands(self) -> None:
        """Handle nothing more. What a bdev is working on is still answered, what waits for data never is."""
        self.handlers = full_feature.NO_HANDLERS
        for incoming in list(self.incoming.values()):
            incoming.task.abort()
            transfer.forget(self, incoming)
            if not incoming.task.immediate:
                self.open_session.release()
        if self.session is not None:
            self.session.forget(self)

    def finish_and_close(self) -> None:
        """Close once everything queued is sent; nothing more is handled."""
        self.leaving = self.is_orderly = True
        self.stop_commands()
        self.target.clock.watch(self, _LOOK_SECONDS)
        self.flush_soon()

    def drop(self, why: str, event: int = pdu.ASYNC_DROP_CONNECTION) -> None:
        """Give up on the peer, and tell it if that is possible (RFC 7143 §11.9.1)."""
        if self.session is not None and not self.closed and not self.leaving:
            wait, retain = (self.parameters.number(f"DefaultTime2{each}") for each in ("Wait", "Retain"))
            self.announce(event, self.cid if event == pdu.ASYNC_DROP_CONNECTION else 0, wait, retain)
            self._send_queued()
        self.close_because(why)

    def close_because(self, why: str) -> None:
        if not self.closed:
            _log.warning("%s dropped: %s", self, why)
            self.close()

    def close(self) -> None:
        """End the connection; commands that a bdev is working on finish unanswered."""
        if self.closed:
            return
        self.closed = True
        self.target.accounts.left(self)
        self.target.clock.forget(self)
        self.end_receiving()
        self.end_sending()
        self._socket.close()
        self.handlers = full_feature.NO_HANDLERS
        lost = [task for task in self.unfinished() if not task.aborted]
        for task in lost:
            task.abort()
            if not task.immediate:
                self.open_session.release()
        if self.session is not None:
            self.target.settling.leave_behind(self.session.who, self.running.values())
            self.session.forget(self)
        self.incoming.clear()
        self.waiting_writes.clear()
        self.careful = False
        self._tell_idle()
        for _stat_sn, future in self._fences:
            future.set_result(None)
        self._fences.clear()
        self.target.sessions.connection_closed(self, lost)


_LOGIN_HANDLERS: Final[Handlers] = dict.fromkeys(range(64), Connection.log_in)
