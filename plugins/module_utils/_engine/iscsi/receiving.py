# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiving half of a connection: a stream of bytes is cut into PDUs, which are handled where they lie.

All connections share one receive buffer. A wake-up receives once and handles every complete PDU. What is large and
incomplete is received into a place of its own: a data segment straight into the buffer it belongs to, any other PDU
as a whole.
"""

from __future__ import annotations

import logging
import socket
from abc import abstractmethod
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Callable, Final

from ..loop import Loop
from . import pdu
from .buffers import DIRECT, SHARED_BUFFER, SharedBuffer
from .crc32c import crc32c
from .keys import RECEIVE_LIMIT
from .sending import Sender

if TYPE_CHECKING:
    from .session import Session

_log = logging.getLogger(__name__)

_NOTHING: Final = memoryview(b"")
_DIGEST: Final = 4
_FULL: Final = SHARED_BUFFER // 2  # what a pause left is handled before more is received

Handler = Callable[[Any, memoryview, int, memoryview], None]
"""(connection, buffer, where in it the header begins, data segment)"""
Handlers = dict[int, Handler]
"""One for every possible opcode: six bits."""


class ProtocolError(Exception):
    """The peer does what no answer can mend; the connection ends."""


class Receiver(Sender):
    """Knows where PDUs begin and end; what they mean is the business of who inherits."""

    __slots__ = (
        *("_halted", "_moved", "_pauses", "_sink", "_sink_data", "_sink_header", "_tail", "_whole", "buffers"),
        *("handlers", "heard", "session", "woken"),
    )

    def __init__(self, sock: socket.socket, shared: SharedBuffer, handlers: Handlers) -> None:
        super().__init__(sock)
        self.buffers = shared
        self.handlers = handlers
        self.session: Session | None = None
        self.heard = False
        """Something was received since somebody looked last."""
        self.woken = 0
        """When the last wake-up began, nanoseconds of the monotonic clock."""
        self._tail = b""
        """Received and not yet handled: the beginning of a PDU or, while paused, more."""
        self._sink: memoryview | None = None
        """Where the rest of a large PDU is received, and what comes in front of it:"""
        self._sink_header = b""
        self._sink_data = _NOTHING
        self._whole: bytearray | None = None
        """The large PDU itself, when it is received as a whole."""
        self._moved = False
        """A PDU was completed since somebody looked last."""
        self._halted = False
        """What follows in the buffer is not to be cut now."""
        self._pauses: list[str] = []
        self._loop.add_reader(sock, self._on_readable)

    # -- what is told to who inherits --------------------------------------------------------------------------------

    @abstractmethod
    def handle_extended(self, view: memoryview, at: int, data: memoryview) -> None:
        """A PDU with additional header segments, which follow its header."""

    @abstractmethod
    def handle_damaged(self, view: memoryview, at: int, length: int) -> None:
        """A PDU whose data segment, of that length, does not fit its digest."""

    @abstractmethod
    def hurry(self, view: memoryview, at: int, end: int) -> int:
        """Handle all PDUs from ``at`` on that can be handled together; gives where the first other one begins."""

    @abstractmethod
    def place_for(self, view: memoryview, at: int, length: int) -> memoryview | None:
        """Where the data of a partly received PDU belongs; None when that is not known."""

    @abstractmethod
    def settle(self) -> None:
        """The wake-up ends: what was carried out at once took until now."""

    @abstractmethod
    def drop(self, why: str) -> None:
        """The peer broke the protocol beyond repair."""

    # -- wake-ups ----------------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        self.awake = self.heard = True
        self.woken = monotonic_ns()
        try:
            end = self._receive()
            if end:
                self._handle(end)
        except Exception as error:  # pylint: disable=broad-except
            self._harmed(error)
        self.settle()
        self.awake = False
        if self.out:
            if isinstance(self._loop, Loop):
                self._loop.after_round(self.flush)
            else:
                self.flush()

    def guarded(self, work: Callable[[], None]) -> None:
        """Do ``work`` as a wake-up of this connection."""
        self.awake = True
        self.woken = monotonic_ns()
        try:
            work()
        except Exception as error:  # pylint: disable=broad-except
            self._harmed(error)
        self.settle()
        self.awake = False
        if self.out:
            self.flush()

    def _harmed(self, error: Exception) -> None:
        """Whatever a PDU leads to, it ends no other connection."""
        if isinstance(error, ProtocolError):
            self.drop(str(error))
        elif isinstance(error, OSError):
            self.fail(error)
        else:
            _log.error("%s dropped: bug in the engine", self, exc_info=error)
            self.close()

    def feed(self, data: bytes) -> None:
        """Handle first what somebody else received from the socket."""
        self._tail = data
        self.guarded(self._handle_tail)

    def _receive(self) -> int:
        """Receive what is there; gives the number of bytes in the shared buffer that are to be handled."""
        view = self.buffers.view
        try:
            if self._sink is not None:
                return self._receive_into_sink(self._sink, view)
            kept = len(self._tail)
            if kept:
                view[:kept] = self._tail
                if kept >= _FULL:
                    self._tail = b""
                    return kept
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
        self._moved = True
        if self._whole is not None:
            whole, self._whole = memoryview(bytes(self._whole)), None
            self._cut_any(whole, 0, len(whole))
        else:
            header, data = memoryview(self._sink_header), self._sink_data
            self._sink_data = _NOTHING
            self.handlers[header[0] & pdu.OPCODE_MASK](self, header, 0, data)
        if self.closed:
            return 0
        if beyond and not self._halted:
            return beyond
        self._tail = bytes(view[:beyond])
        if self.session is not None and self.session.behind:
            self.session.catch_up()
        return 0

    def _lost(self) -> None:
        _log.info("%s closed by the initiator", self)
        self.close()

    # -- cutting -----------------------------------------------------------------------------------------------------

    def _handle(self, end: int) -> None:
        """Handle every complete PDU in the first ``end`` bytes of the shared buffer, and keep the rest."""
        view = self.buffers.view
        at = self._cut_with_digests(view, 0, end) if self.digests else self._cut(view, 0, end)
        if self._halted:
            if self.closed:
                return
            if self.digests and not self._pauses:
                self._halted = False  # the login is complete, digests begin
                at = self._cut_with_digests(view, at, end)
        if at:
            self._moved = True
        session = self.session
        if session is not None and session.behind:
            session.catch_up()
        if at < end and not self.closed:
            self._keep(view, at, end)

    def _cut_any(self, view: memoryview, at: int, end: int) -> int:
        return self._cut_with_digests(view, at, end) if self.digests else self._cut(view, at, end)

    def _cut(self, view: memoryview, at: int, end: int) -> int:
        """Handle the PDUs from ``at`` on; gives where the first incomplete one begins."""
        lengths, hurry = pdu.LENGTHS.unpack_from, self.hurry
        while end - at >= 48:
            began, at = at, hurry(view, at, end)
            if at != began:
                if self._halted:
                    break
                continue
            (word,) = lengths(view, at)
            data_length = word & 0xFFFFFF
            start = at + 48 + (word >> 24) * 4
            if data_length > RECEIVE_LIMIT:
                raise ProtocolError(f"data segment of {data_length} bytes; {RECEIVE_LIMIT} are allowed")
            after = start + (data_length + 3 & ~3)
            if after > end:
                break
            data = view[start : start + data_length] if data_length else _NOTHING
            if word > 0xFFFFFF:
                self.handle_extended(view, at, data)
            else:
                self.handlers[view[at] & 0x3F](self, view, at, data)
            at = after
            if self._halted:
                break
        return at

    def _cut_with_digests(self, view: memoryview, at: int, end: int) -> int:
        """As :meth:`_cut`, for a connection with digests. The handlers get data that is theirs to keep."""
        while end - at >= pdu.HEADER:
            began, at = at, self.hurry(view, at, end)
            if at != began:
                if at < end:
                    self.flush()
                if self._halted:
                    break
                continue
            start = self._check_header(view, at, end)
            if start is None:
                break
            (word,) = pdu.LENGTHS.unpack_from(view, at)
            length = word & 0xFFFFFF
            padded = length + 3 & ~3
            after = start + padded + (_DIGEST if length and self.data_digest else 0)
            if after > end:
                break
            content = bytes(view[start : start + padded])
            if (
                length
                and self.data_digest
                and crc32c(content) != int.from_bytes(view[after - _DIGEST : after], "little")
            ):
                self.handle_damaged(view, at, length)
            else:
                self.dispatch(view, at, memoryview(content)[:length])
            at = after
            if self._halted:
                break
        return at

    def _check_header(self, view: memoryview, at: int, end: int) -> int | None:
        """Where the data segment begins; None when the header is not complete. A wrong digest ends the connection: not
        even the length can be trusted (RFC 7143 §7.8)."""
        segments = at + pdu.HEADER + view[at + 4] * 4
        start = segments + (_DIGEST if self.header_digest else 0)
        if start > end:
            return None
        if self.header_digest and crc32c(view[at:segments]) != int.from_bytes(view[segments:start], "little"):
            raise ProtocolError("wrong header digest")
        (word,) = pdu.LENGTHS.unpack_from(view, at)
        if word & 0xFFFFFF > RECEIVE_LIMIT:
            raise ProtocolError(f"data segment of {word & 0xFFFFFF} bytes; {RECEIVE_LIMIT} are allowed")
        return start

    def dispatch(self, view: memoryview, at: int, data: memoryview) -> None:
        """Handle one PDU."""
        if view[at + 4]:
            self.handle_extended(view, at, data)
        else:
            self.handlers[view[at] & pdu.OPCODE_MASK](self, view, at, data)

    def _keep(self, view: memoryview, at: int, end: int) -> None:
        """Keep the beginning of a PDU; the rest of a large one is received into its place from now on."""
        if end - at >= pdu.HEADER and not self._pauses:
            (lengths,) = pdu.LENGTHS.unpack_from(view, at)
            if lengths & 0xFFFFFF >= DIRECT:
                self._keep_large(view, at, end, lengths)
                return
        self._tail = bytes(view[at:end])

    def _keep_large(self, view: memoryview, at: int, end: int, lengths: int) -> None:
        have = end - at
        if not self.digests and lengths <= RECEIVE_LIMIT and not lengths & 3:  # no AHS, no padding
            place = self.place_for(view, at, lengths)
            if place is not None:
                have -= pdu.HEADER
                place[:have] = view[at + pdu.HEADER : end]
                self._sink_header = bytes(view[at : at + pdu.HEADER])
                self._sink_data = place
                self._sink = place[have:]
                return
        self._whole = bytearray(self._length(lengths))
        self._whole[:have] = view[at:end]
        self._sink = memoryview(self._whole)[have:]

    def _length(self, lengths: int) -> int:
        """Bytes of a PDU, by the word of its header that holds its lengths."""
        data = lengths & 0xFFFFFF
        digests = (_DIGEST if self.header_digest else 0) + (_DIGEST if self.data_digest and data else 0)
        return pdu.HEADER + (lengths >> 24) * 4 + (data + 3 & ~3) + digests

    def is_stalled(self) -> bool:
        """Is the PDU that is incomplete now the same as when this was asked last?"""
        stalled = (self._sink is not None or bool(self._tail)) and not self._moved and not self._pauses
        self._moved = False
        return stalled

    # -- pausing -----------------------------------------------------------------------------------------------------

    def pause(self, why: str) -> None:
        """Receive nothing more, and handle nothing more of what is there, for this reason."""
        if not self._pauses and not self.closed:
            self._loop.remove_reader(self._socket)
        if why not in self._pauses:
            self._pauses.append(why)
        self._halted = True

    def resume(self, why: str) -> None:
        """Go on when this was the last reason."""
        if why not in self._pauses:
            return
        self._pauses.remove(why)
        if self._pauses or self.closed:
            return
        self._halted = False
        self._loop.add_reader(self._socket, self._on_readable)
        if self._tail:
            self._loop.call_soon(self._work_off)

    def _work_off(self) -> None:
        """Handle what was received before the pause."""
        if self.closed or self._pauses or not self._tail:
            return
        self.guarded(self._handle_tail)

    def _handle_tail(self) -> None:
        kept = len(self._tail)
        self.buffers.view[:kept] = self._tail
        self._tail = b""
        self._handle(kept)

    def begin_digests(self, header: bool, data: bool) -> None:
        """From the next PDU on, in both directions."""
        self.header_digest, self.data_digest = header, data
        self.digests = header or data
        self._halted = self.digests or bool(self._pauses)

    def end_receiving(self) -> None:
        """Forget what was received; for :meth:`close`."""
        self._loop.remove_reader(self._socket)
        self._halted = True
        self._tail = b""
        self._sink = self._whole = None
        self._sink_data = _NOTHING
