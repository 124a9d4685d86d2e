# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP connection: bytes in, PDUs to their handlers, answers out.

All connections share one receive buffer. A wake-up receives once, handles every complete PDU where it lies, and sends
all answers with one vectored send. Large data segments are received straight into the buffer they belong to.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import socket
from collections import deque
from typing import TYPE_CHECKING, Callable, Final

from ..bdev.base import Bdev, Buffer
from ..bdev.mapping import owned
from ..scsi.dispatch import execute
from . import full_feature, pdu, tasks, transfer
from .addresses import plain_peer
from .keys import RECEIVE_LIMIT, Parameters
from .login import Login
from .portal import Portal
from .session import SERIAL_MASK, Session

if TYPE_CHECKING:
    from .target import IscsiTarget

_log = logging.getLogger(__name__)

SHARED_BUFFER: Final = 1024 * 1024
"""Bytes; more than the largest PDU, so that what is kept of one always leaves room to receive."""
_DIRECT: Final = 16384  # data segments from this size on are received into place
_LARGEST_SEGMENT: Final = RECEIVE_LIMIT
_MAX_VECTOR: Final = 1024  # IOV_MAX
_OUTPUT_LIMIT: Final = 8 * 1024 * 1024
_SPARE_BUFFERS: Final = 32
_LOGIN_SECONDS: Final = 30
_NOTHING: Final = memoryview(b"")
_KEEPALIVE: Final = (
    ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 60),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL), 10),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPCNT), 6),
    ((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT), 120_000),
)
"""Seconds, and milliseconds at the end: a host that vanished is noticed after two minutes, idle or not."""

Handler = Callable[["Connection", memoryview, int, memoryview], None]


class ProtocolError(Exception):
    """The peer does what no answer can mend; the connection ends."""


class SharedBuffer:
    """The receive buffer of all connections of one event loop, and used buffers for the data of WRITEs."""

    def __init__(self) -> None:
        self.memory = bytearray(SHARED_BUFFER)
        self.view = memoryview(self.memory)
        self._spare: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """A buffer of at least ``size`` bytes with any content; a used one saves clearing it."""
        if not _DIRECT <= size <= RECEIVE_LIMIT:
            return bytearray(size)
        return self._spare.pop() if self._spare else bytearray(RECEIVE_LIMIT)

    def give_back(self, buffer: bytearray) -> None:
        """Nobody uses ``buffer`` any more."""
        if len(buffer) == RECEIVE_LIMIT and len(self._spare) < _SPARE_BUFFERS:
            self._spare.append(buffer)


class Connection:
    """One initiator's TCP connection, from accept to close."""

    def __init__(self, sock: socket.socket, portal: Portal, target: IscsiTarget, shared: SharedBuffer) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in _KEEPALIVE:
            sock.setsockopt(*option, value)
        self._socket = sock
        self.buffers = shared
        self._loop = asyncio.get_running_loop()
        self.target = target
        self.portal = portal
        self.number = target.next_connection_number()
        self.peer = plain_peer(sock.getpeername())
        self.local = plain_peer(sock.getsockname())
        self.cid = 0
        self.closed = False
        self.stat_sn = 0
        self.session: Session | None = None
        self.parameters = Parameters()
        self.peer_receive_limit = self.parameters.peer_receive_limit
        self.takes_immediate_data = False
        self.logging_out = False
        self.text_left = b""
        """What is still to send of a text answer that exceeds one PDU."""

        self.incoming: dict[int, transfer.Incoming] = {}
        """WRITEs waiting for data, by initiator task tag."""
        self.running: dict[int, transfer.IscsiTask] = {}
        """Commands that a bdev is working on, by initiator task tag."""
        self.waiting_writes: deque[transfer.Incoming] = deque()
        self.solicited = 0
        self._transfer_tag = 0

        self._login: Login | None = Login(target, portal.tag, self.peer)
        self._handlers: dict[int, Handler] = {}
        self._tail = b""
        self._sink: memoryview | None = None
        self._sink_header = b""
        self._sink_data = _NOTHING
        self.out: list[Buffer] = []
        self.out_bytes = 0
        self.loans: set[Bdev] = set()
        """Devices whose memory is shown by views in the queue."""
        self.awake = False
        """Its PDUs are being handled, so that what is queued goes out when they are done."""
        self._flush_scheduled = False
        self._blocked = False
        """The socket takes no more for now; what is queued goes out when it is writable."""
        self._paused = False
        """So much is queued that nothing more is received: a peer that reads nothing costs bounded memory."""
        self._login_timer = self._loop.call_later(_LOGIN_SECONDS, self._login_timed_out)
        self._loop.add_reader(sock, self._on_readable)

    def __str__(self) -> str:
        who = self.session.initiator if self.session else "not logged in"
        return f"connection {self.number} from {self.peer} ({who})"

    # -- receiving ---------------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        self.awake = True
        try:
            end = self._receive()
            if end:
                self._handle(end)
        except ProtocolError as error:
            _log.warning("%s dropped: %s", self, error)
            self.close()
        except OSError as error:
            self._end(error)
        except Exception:  # pylint: disable=broad-except
            _log.exception("%s dropped: bug in the engine", self)
            self.close()
        self.awake = False
        if self.out:
            self.flush()

    def _receive(self) -> int:
        """Receive what is there; gives the number of bytes in the shared buffer that are to be handled."""
        view = self.buffers.view
        try:
            if self._sink is not None:
                return self._receive_into_sink(self._sink, view)
            kept = len(self._tail)
            if kept:
                view[:kept] = self._tail
                received = self._socket.recv_into(view[kept:])
                self._tail = b""
            else:
                received = self._socket.recv_into(view)
        except (BlockingIOError, InterruptedError):
            return 0
        if not received:
            self._lost()
            return 0
        return kept + received

    def _receive_into_sink(self, sink: memoryview, view: memoryview) -> int:
        received = self._socket.recvmsg_into([sink, view])[0]
        if not received:
            self._lost()
            return 0
        beyond = received - len(sink)
        if beyond < 0:
            self._sink = sink[received:]
            return 0
        self._sink = None
        header, data = memoryview(self._sink_header), self._sink_data
        self._sink_data = _NOTHING
        self._handlers[header[0] & pdu.OPCODE_MASK](self, header, 0, data)
        return beyond

    def _handle(self, end: int) -> None:
        """Handle every complete PDU in the first ``end`` bytes of the shared buffer, and keep the rest."""
        view = self.buffers.view
        lengths = pdu.LENGTHS.unpack_from
        at = 0
        while end - at >= 48:
            (word,) = lengths(view, at)
            data_length = word & 0xFFFFFF
            start = at + 48 + (word >> 24) * 4
            if data_length > _LARGEST_SEGMENT:
                raise ProtocolError(f"data segment of {data_length} bytes; {_LARGEST_SEGMENT} are allowed")
            after = start + (data_length + 3 & ~3)
            if after > end:
                break
            handler = self._handlers.get(view[at] & 0x3F)
            data = view[start : start + data_length] if data_length else _NOTHING
            if handler is not None:
                handler(self, view, at, data)
            else:
                self._unexpected(view, at, data)
            at = after
            if self.closed:
                return
        if self.session is not None and self.session.waiting:
            self._catch_up(self.session)
        if at < end and not self.closed:
            self._keep(view, at, end)

    def _keep(self, view: memoryview, at: int, end: int) -> None:
        """Keep the beginning of a PDU; a large data segment is received into its place from now on."""
        if end - at >= pdu.HEADER and self.session is not None:
            (length,) = pdu.LENGTHS.unpack_from(view, at)
            plain = length <= _LARGEST_SEGMENT and not length & 3  # no AHS, no padding
            if plain and length >= _DIRECT:
                place = transfer.destination(self, view, at, length)
                if place is not None:
                    have = end - at - pdu.HEADER
                    place[:have] = view[at + pdu.HEADER : end]
                    self._sink_header = bytes(view[at : at + pdu.HEADER])
                    self._sink_data = place
                    self._sink = place[have:]
                    return
        self._tail = bytes(view[at:end])

    def _unexpected(self, view: memoryview, at: int, data: memoryview) -> None:
        """A PDU without a handler: part of the login, or an opcode that does not exist."""
        opcode = view[at] & pdu.OPCODE_MASK
        if self._login is None:
            self.reject(pdu.REJECT_NOT_SUPPORTED, f"opcode 0x{opcode:02x}", view, at)
            return
        is_login = opcode == pdu.LOGIN
        reply = self._login.handle(view, at, data) if is_login else self._login.invalid(opcode)
        for part in reply.response:
            self._queue(part)
        if reply.failed:
            self.finish_and_close()
        elif reply.session is not None:
            self._enter_full_feature_phase(self._login, reply.session, pdu.LOGIN_PDU.unpack_from(view, at)[6])

    def _enter_full_feature_phase(self, login: Login, session: Session, cid: int) -> None:
        self._login_timer.cancel()
        self._login = None
        self.cid = cid
        self.session = session
        self.stat_sn = login.stat_sn
        self.parameters = session.parameters
        self.peer_receive_limit = session.parameters.peer_receive_limit
        self.takes_immediate_data = session.parameters.flag("ImmediateData")
        self._handlers = full_feature.DISCOVERY_HANDLERS if session.node is None else full_feature.HANDLERS
        session.connection = self
        if session.nexus is not None:
            session.nexus.abort = functools.partial(tasks.abort_for, self)
        self.target.sessions.add(session)
        _log.info("%s logged in to %s", self, session.node.name if session.node else "discovery")

    # -- the command window ------------------------------------------------------------------------------------------

    def in_turn(self, view: memoryview, at: int, data: memoryview, cmd_sn: int) -> bool:
        """May this non-immediate PDU be handled now? If not it is kept for its turn or, outside the window, ignored."""
        session = self.open_session
        if cmd_sn == session.exp_cmd_sn != session.limit:
            session.exp_cmd_sn = (cmd_sn + 1) & SERIAL_MASK
            return True
        if cmd_sn != session.exp_cmd_sn:
            session.hold(cmd_sn, bytes(view[at : at + pdu.HEADER]), bytes(data))
        return False

    def _catch_up(self, session: Session) -> None:
        """Handle the PDUs whose turn has come."""
        while not self.closed:
            held = session.waiting.pop(session.exp_cmd_sn, None)
            if held is None:
                return
            header, data = held
            self._handlers[header[0] & pdu.OPCODE_MASK](self, memoryview(header), 0, memoryview(data))

    # -- commands ----------------------------------------------------------------------------------------------------

    @property
    def open_session(self) -> Session:
        """The session, for what only happens in full feature phase."""
        if self.session is None:
            raise AssertionError("not in full feature phase")
        return self.session

    def is_shared(self, data: memoryview) -> bool:
        """``data`` lies in the shared receive buffer, so it is gone with the next wake-up."""
        return data.obj is self.buffers.memory

    def has_task(self, itt: int) -> bool:
        """Is a command of this initiator task tag unfinished?"""
        return itt in self.incoming or itt in self.running

    def run(self, task: transfer.IscsiTask) -> None:
        execute(task, self.finish)
        if not task.finished:
            self.running[task.itt] = task

    def finish(self, task: transfer.IscsiTask) -> None:
        """Answer a command that is done."""
        task.finished = True
        if task.buffer is not None:
            self._use_again(task)
        if self.running:
            self.running.pop(task.itt, None)
        if task.aborted:
            self.target.task_settled(task)
        elif self.closed:
            return
        elif task.data_in is not None:
            transfer.send_data_in(self, task)
        else:
            transfer.send_status(self, task)

    def _use_again(self, task: transfer.IscsiTask) -> None:
        if task.buffer is not None:
            task.data_out = b""
            self.buffers.give_back(task.buffer)
            task.buffer = None

    def new_transfer_tag(self) -> int:
        """Target transfer tags count up and never take the reserved value."""
        self._transfer_tag = (self._transfer_tag + 1) % pdu.RESERVED_TAG
        return self._transfer_tag

    def next_stat_sn(self) -> int:
        number = self.stat_sn
        self.stat_sn = (number + 1) & SERIAL_MASK
        return number

    def reject(self, reason: int, why: str, view: memoryview | None = None, at: int = 0) -> None:
        """Send a Reject with the header it is about (RFC 7143 §11.17); without one, drop the connection instead."""
        if view is None:
            raise ProtocolError(why)
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

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, header: bytes, data: Buffer = b"") -> None:
        """Queue a PDU; it goes out with the others at the end of the wake-up."""
        self.out.append(header)
        length = len(data)
        if length:
            self.out.append(data)
            if length & 3:
                self.out.append(bytes(-length & 3))
        self.out_bytes += 48 + length
        if not self.awake:
            self.flush_soon()

    def flush_soon(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_later)

    def _queue(self, part: Buffer) -> None:
        self.out.append(part)
        self.out_bytes += len(part)

    def borrow(self, bdev: Bdev) -> None:
        """READ data about to be queued is a view of ``bdev``'s memory."""
        self.loans.add(bdev)
        bdev.lend(self)

    def own_borrowed(self) -> None:
        """The memory behind queued views is about to change: send what the socket takes, and copy the rest."""
        self._send_queued()
        try:
            self.out = [owned(part) if isinstance(part, memoryview) else part for part in self.out]
        except OSError as error:
            self._end(error)
        self.loans.clear()

    def _flush_later(self) -> None:
        self._flush_scheduled = False
        self.flush()

    def flush(self) -> None:
        """Send what is queued; what the socket does not take now follows when it is writable."""
        self._send_queued()
        if self.closed:
            return
        if self.out:
            if not self._blocked:
                self._blocked = True
                self._loop.add_writer(self._socket, self.flush)
            if self.out_bytes > _OUTPUT_LIMIT and not self._paused:
                self._paused = True
                self._loop.remove_reader(self._socket)
            return
        if self.loans:
            for bdev in self.loans:
                bdev.return_loan(self)
            self.loans.clear()
        if self._blocked:
            self._blocked = False
            self._loop.remove_writer(self._socket)
        if self._paused:
            self._paused = False
            self._loop.add_reader(self._socket, self._on_readable)
        if self.logging_out:
            self.close()

    def _send_queued(self) -> None:
        out = self.out
        try:
            while out:
                sent = self._socket.sendmsg(out if len(out) <= _MAX_VECTOR else out[:_MAX_VECTOR])
                self.out_bytes -= sent
                if not self._drop_sent(out, sent):
                    return
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._end(error)

    def _end(self, error: OSError) -> None:
        """The connection, or the memory it was to send, is gone."""
        if error.errno == errno.EFAULT:
            for bdev in self.loans:
                bdev.distrust()
        _log.info("%s lost: %s", self, error.strerror or error)
        self.close()

    @staticmethod
    def _drop_sent(out: list[Buffer], sent: int) -> bool:
        """Drop ``sent`` bytes from the front of ``out``; False when the socket took less than it was given."""
        count = 0
        for part in out:
            size = len(part)
            if size > sent:
                break
            sent -= size
            count += 1
        del out[:count]
        if sent:
            out[0] = memoryview(out[0])[sent:]
            return False
        return bool(out)

    # -- the end -----------------------------------------------------------------------------------------------------

    def finish_and_close(self) -> None:
        """Close once everything queued is sent; nothing more is received."""
        self.logging_out = True
        self._handlers = full_feature.NO_HANDLERS

    def request_logout(self, seconds: int) -> None:
        """Ask the initiator to log out (Async event 1, RFC 7143 §11.9.1)."""
        session = self.open_session
        self.send(
            pdu.ASYNC_PDU.pack(
                *(pdu.ASYNC_MESSAGE, pdu.FINAL, 0, pdu.RESERVED_TAG, self.next_stat_sn()),
                *(session.exp_cmd_sn, session.max_cmd_sn, pdu.ASYNC_LOGOUT_REQUEST, 0, 0, 0, seconds),
            )
        )

    def _login_timed_out(self) -> None:
        _log.warning("%s dropped: no login within %d s", self, _LOGIN_SECONDS)
        self.close()

    def _lost(self) -> None:
        _log.info("%s closed by the initiator", self)
        self.close()

    def close(self) -> None:
        """End the connection and its session; commands that a bdev is working on finish unanswered."""
        if self.closed:
            return
        self.closed = True
        self._login_timer.cancel()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for bdev in self.loans:
            bdev.return_loan(self)
        self.loans.clear()
        self.out.clear()
        self.incoming.clear()
        self.waiting_writes.clear()
        self._sink = None
        if self.session is not None:
            self.target.sessions.remove(self.session)
            if self.session.nexus is not None:
                self.session.nexus.abort = None
            self.session.connection = None  # else they would keep each other until the collector comes by
        self.target.connection_closed(self)
