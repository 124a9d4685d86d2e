# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where several processes serve target nodes: a new connection is read until it says which node it wants.

What was read and, where its first request came in several PDUs, answered until then goes along with the socket: who
takes it over begins at the beginning, and keeps to itself what the initiator was told already.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from . import pdu
from .keys import RECEIVE_LIMIT
from .login import LOGIN_SECONDS, Login
from .login_request import Request
from .text import TextError, parse_text

if TYPE_CHECKING:
    from .node import TargetNode
    from .portal import Portal
    from .target import IscsiTarget

_log = logging.getLogger(__name__)

_ROOM: Final = 65536


class Arrival(NamedTuple):
    """A connection whose login began."""

    sock: socket.socket
    portal: Portal
    received: bytes = b""
    """Everything that came over it."""
    answered: int = 0
    """To how many of the PDUs in there the initiator has its answer."""


class Elsewhere(Protocol):
    """The other processes that serve target nodes of this target."""

    def take(self, node: TargetNode, arrival: Arrival) -> bool:
        """Let the process that serves the node go on with a login; False when that is this one."""

    async def see_off(self, node: TargetNode, seconds: int) -> None:
        """The node is to go: end its sessions, as :meth:`Sessions.see_off` does. Raises Busy when that cannot be."""

    def stay(self, node: TargetNode) -> None:
        """It does not go after all: let initiators log in again."""

    def touched(self, node: TargetNode) -> None:
        """It shows less now, though perhaps nobody named it."""


class Reception:
    """One connection, until it is known who serves it."""

    def __init__(self, arrival: Arrival, target: IscsiTarget, elsewhere: Elsewhere) -> None:
        sock = arrival.sock
        sock.setblocking(False)
        self._address = sock.getpeername()[0]
        self._socket = sock
        self._portal = arrival.portal
        self._target = target
        self._elsewhere = elsewhere
        self._received = bytearray()
        self._looked_at = 0
        """Bytes of PDUs that are understood."""
        self._text = b""
        self._answered = 0
        self._login = Login(target, arrival.portal.tag, self._address)
        """Answers requests that say that they go on; never more than that."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._on_readable)
        target.receptions.add(self)
        target.clock.watch(self, LOGIN_SECONDS)

    def __str__(self) -> str:
        return f"connection from {self._address}"

    def due(self) -> float | None:
        """Called by the clock."""
        _log.warning("%s dropped: no login within %d s", self, LOGIN_SECONDS)
        self.close()
        return None

    def close(self) -> None:
        self._end()
        self._socket.close()

    def _end(self) -> None:
        self._loop.remove_reader(self._socket)
        self._target.clock.forget(self)
        self._target.receptions.discard(self)

    def _on_readable(self) -> None:
        try:
            received = self._socket.recv(_ROOM)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            _log.info("%s lost: %s", self, error.strerror)
            received = b""
        if not received:
            self.close()
            return
        self._received += received
        try:
            while self._next_pdu():
                pass
        except Exception:  # pylint: disable=broad-except
            _log.exception("%s dropped: bug in the engine", self)
            self.close()

    def _next_pdu(self) -> bool:
        """Look at the next PDU, if it is there; True when there may be one more to look at."""
        received, at = self._received, self._looked_at
        if len(received) - at < pdu.HEADER:
            return False
        (lengths,) = pdu.LENGTHS.unpack_from(received, at)
        length, begin = lengths & 0xFFFFFF, at + pdu.HEADER + (lengths >> 24) * 4
        if received[at] & pdu.OPCODE_MASK != pdu.LOGIN or length > RECEIVE_LIMIT:
            return self._serve_here()  # that is, refuse: nobody logs in like that
        end = begin + (length + 3 & ~3)
        if len(received) < end:
            return False
        data = bytes(received[begin : begin + length])
        self._text += data
        header = bytes(received[at : at + pdu.HEADER])
        if not Request(*pdu.LOGIN_PDU.unpack(header)).continues:
            return self._decide()
        reply = self._login.handle(memoryview(header), 0, memoryview(data))
        if reply.failed:
            return self._serve_here()
        try:
            self._socket.send(b"".join(reply.response))
        except OSError as error:
            _log.info("%s lost: %s", self, error.strerror)
            self.close()
            return False
        self._answered += 1
        self._looked_at = end
        return True

    def _decide(self) -> bool:
        try:
            keys = dict(parse_text(self._text))
        except TextError:
            return self._serve_here()
        node = self._target.find_node(keys.get("TargetName", ""))
        if node is None or node.is_closed or keys.get("SessionType", "Normal") != "Normal":
            return self._serve_here()
        self._end()
        arrival = Arrival(self._socket, self._portal, bytes(self._received), self._answered)
        if not self._elsewhere.take(node, arrival):
            self._target.admit(arrival)
        return False

    def _serve_here(self) -> bool:
        self._end()
        self._target.admit(Arrival(self._socket, self._portal, bytes(self._received), self._answered))
        return False
