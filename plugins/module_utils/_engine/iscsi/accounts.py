# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who did how much: totals of each initiator at each target node, and the logins that were refused.

Nothing of this costs a command anything: commands are counted by their numbers, bytes by the kernel.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from .connection import Connection
    from .session import Session

_MAX_REMEMBERED: Final = 4096
"""Initiators whose totals are kept after they left; more count as one."""
OTHERS: Final = ("", "")
"""In the place of target node and initiator, those that are too many to tell apart."""

# The beginning of Linux's struct tcp_info (uapi/linux/tcp.h).
_TCP_INFO: Final = struct.Struct("=8B24L4Q")
_ROUND_TRIP, _ACKED, _RECEIVED = 8 + 15, 8 + 24 + 2, 8 + 24 + 3


class Traffic(NamedTuple):
    """What went over a TCP connection: bytes, and the time to the peer and back in microseconds. 0 where unknown."""

    received: int = 0
    sent: int = 0
    round_trip_us: int = 0


class Total(NamedTuple):
    sessions: int = 0
    """That began."""
    commands: int = 0
    received: int = 0
    sent: int = 0

    def plus(self, sessions: int = 0, commands: int = 0, received: int = 0, sent: int = 0) -> Total:
        return Total(self.sessions + sessions, self.commands + commands, self.received + received, self.sent + sent)


def traffic_of(sock: socket.socket) -> Traffic:
    """What the kernel counted (tcp(7), TCP_INFO); ``sent`` is what the peer acknowledged."""
    try:
        values = _TCP_INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))
    except (OSError, struct.error):  # it is closed, or a kernel before 4.1
        return Traffic()
    return Traffic(values[_RECEIVED], values[_ACKED], values[_ROUND_TRIP])


class Accounts:
    """``refused`` counts logins by status class and detail."""

    def __init__(self) -> None:
        self.refused: Counter[int] = Counter()
        self._past: dict[tuple[str, str], Total] = {}

    def joined(self, session: Session, first: bool) -> None:
        """A connection logged in; ``first`` of its session."""
        if first:
            self._add(session, Total(sessions=1))

    def left(self, connection: Connection) -> None:
        """A connection closes; its socket is still open."""
        if connection.session is not None:
            traffic = traffic_of(connection.tcp)
            self._add(connection.session, Total(received=traffic.received, sent=traffic.sent))

    def ended(self, session: Session) -> None:
        self._add(session, Total(commands=session.count_commands()))

    def _add(self, session: Session, more: Total) -> None:
        key = _key(session)
        if key not in self._past and len(self._past) >= _MAX_REMEMBERED:
            key = OTHERS
        self._past[key] = self._past.get(key, Total()).plus(*more)

    def totals(self, sessions: Iterable[Session]) -> Iterator[tuple[tuple[str, str], Total]]:
        """(target node, initiator) and what they did since the engine started; discovery has no target node."""
        now = dict(self._past)
        for session in sessions:
            key = _key(session) if _key(session) in now else OTHERS
            total = now.get(key, Total()).plus(commands=session.count_commands())
            for connection in session.connections.values():
                traffic = traffic_of(connection.tcp)
                total = total.plus(received=traffic.received, sent=traffic.sent)
            now[key] = total
        yield from sorted(now.items())


def connection_to_rpc(connection: Connection, worker: int = 0) -> dict[str, Any]:
    """As iscsi_get_connections gives it; initiator, portal group and counters are ours."""
    session = connection.session
    node = session.node if session else None
    traffic = traffic_of(connection.tcp)
    return {
        "id": connection.number,
        "cid": connection.cid,
        "tsih": session.tsih if session else 0,
        "state": "exiting" if connection.leaving else "running" if session else "invalid",
        "login_phase": "full_feature_phase" if session else "security_negotiation_phase",
        "initiator_addr": connection.peer,
        "target_addr": connection.local,
        "target_node_name": node.name.partition(":")[2] if node else "",
        "thread_name": f"iscsi_poll_group_{worker}",
        "initiator_name": session.initiator if session else "",
        "portal_group_tag": connection.portal.tag,
        "commands": session.count_commands() if session else 0,
        "bytes_received": traffic.received,
        "bytes_sent": traffic.sent,
        "round_trip_us": traffic.round_trip_us,
    }


def _key(session: Session) -> tuple[str, str]:
    return session.node.name if session.node is not None else "", session.initiator
