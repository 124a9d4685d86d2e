# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions: an initiator's use of a target, its connections, its command window (RFC 7143 §4.4, §4.2.2)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Callable, Final, NamedTuple

from ..errors import Busy
from ..scsi.device import Nexus
from .keys import Parameters
from .names import comparable
from .node import TargetNode

if TYPE_CHECKING:
    from .connection import Connection

SERIAL_MASK: Final = 0xFFFFFFFF
HALF: Final = 2**31
"""Serial numbers (RFC 1982): a comes before b when (b - a) & SERIAL_MASK is less than this and not 0."""
_MOST_DEFERRED: Final = 16


class Held(NamedTuple):
    """A PDU that came before its turn, with the connection whose it is and stays (RFC 7143 §4.2.2.1)."""

    connection: Connection
    header: bytes
    """With additional header segments."""
    data: bytes


class Deferred(NamedTuple):
    """What is done as soon as every command before ``cmd_sn`` has come."""

    cmd_sn: int
    action: Callable[[], None]


class Session:
    """A discovery session when ``node`` is None."""

    __slots__ = (
        *("tsih", "isid", "initiator", "node", "tag", "parameters", "nexus", "connections"),
        *("exp_cmd_sn", "limit", "waiting", "deferred", "behind", "ended", "on_end", "_counted", "_counted_to"),
    )

    def __init__(
        self,
        tsih: int,
        isid: bytes,
        initiator: str,
        node: TargetNode | None,
        tag: int,
        parameters: Parameters,
        cmd_sn: int,
        queue_depth: int,
    ) -> None:
        self.tsih = tsih
        self.isid = isid
        self.initiator = initiator
        self.node = node
        self.tag = tag
        """The portal group's: with the ISID it tells the sessions of one initiator with one target apart."""
        self.parameters = parameters
        """What the first connection agreed on; each connection has parameters of its own."""
        self.nexus: Nexus | None = None
        if node is not None:
            target_port = sys.intern(f"{node.name},t,0x{tag:04x}")  # the same for many sessions
            self.nexus = Nexus(node.device, f"{initiator},i,0x{isid.hex()}", target_port, relative_port=tag)
        self.connections: dict[int, Connection] = {}
        """By connection identifier (CID). None are left while the session waits for its initiator to come back."""
        self.exp_cmd_sn = cmd_sn
        self._counted = 0
        self._counted_to = cmd_sn
        self.limit = (cmd_sn + queue_depth) & SERIAL_MASK
        """MaxCmdSN + 1: where the window ends. It only moves up, by one for every command that is answered."""
        self.waiting: dict[int, Held | None] = {}
        """By CmdSN what came before its turn; None where a number counts as received and nothing is to be done."""
        self.deferred: list[Deferred] = []
        self.behind = False
        """Something waits or is deferred, so that commands are not simply taken as they come."""
        self.ended = False
        self.on_end: Callable[[Session], None] | None = None
        """Set by the table it is in: called when the initiator stayed away for too long."""

    def __str__(self) -> str:
        return f"session {self.tsih} of {self.initiator} with {self.node.name if self.node else 'discovery'}"

    @property
    def key(self) -> tuple[str, bytes, str, int]:
        """What identifies the I_T nexus; the same again is a reinstatement (RFC 7143 §6.3.5)."""
        return comparable(self.initiator), self.isid, self.node.name if self.node else "", self.tag

    @property
    def who(self) -> tuple[str, str]:
        """Whose commands these are: comparable initiator name, target node name."""
        return comparable(self.initiator), self.node.name if self.node else ""

    # -- the command window ------------------------------------------------------------------------------------------

    @property
    def max_cmd_sn(self) -> int:
        return (self.limit - 1) & SERIAL_MASK

    def count_commands(self) -> int:
        """Commands so far, immediate ones aside; to be called before their numbers have come round once."""
        self._counted += (self.exp_cmd_sn - self._counted_to) & SERIAL_MASK
        self._counted_to = self.exp_cmd_sn
        return self._counted

    def release(self) -> None:
        """A command that took a CmdSN is answered: the window moves."""
        self.limit = (self.limit + 1) & SERIAL_MASK

    def take_turn(self, cmd_sn: int) -> bool:
        """Is it the turn of this command? Then it is that of the next one from now on."""
        if self.behind:
            self.catch_up()
        if cmd_sn != self.exp_cmd_sn or cmd_sn == self.limit or cmd_sn in self.waiting:
            return False
        self.exp_cmd_sn = (cmd_sn + 1) & SERIAL_MASK
        return True

    def is_ahead(self, cmd_sn: int) -> bool:
        """Is it inside the window, and not the next one?"""
        ahead = (cmd_sn - self.exp_cmd_sn) & SERIAL_MASK
        return 0 < ahead < (self.limit - self.exp_cmd_sn) & SERIAL_MASK < HALF

    def hold(self, cmd_sn: int, held: Held) -> None:
        """Keep a command whose turn has not come; what is outside the window is ignored (RFC 7143 §4.2.2.1)."""
        if self.is_ahead(cmd_sn):
            self.waiting.setdefault(cmd_sn, held)
            self.behind = True

    def plug(self, cmd_sn: int) -> bool:
        """Count a command that has not had its turn as received; should it come, it is ignored. False when it has."""
        if cmd_sn != self.exp_cmd_sn and not self.is_ahead(cmd_sn):
            return False
        self.waiting[cmd_sn] = None
        self.behind = True
        return True

    def plug_up_to(self, cmd_sn: int) -> None:
        """Count everything before ``cmd_sn`` as received (RFC 7143 §4.2.3.3 b)."""
        for ahead in range((cmd_sn - self.exp_cmd_sn) & SERIAL_MASK):
            if not self.plug((self.exp_cmd_sn + ahead) & SERIAL_MASK):
                return

    def forget(self, connection: Connection) -> None:
        """The connection is gone, and with it what it brought before its turn."""
        for cmd_sn, held in self.waiting.items():
            if held is not None and held.connection is connection:
                self.waiting[cmd_sn] = None

    def defer(self, cmd_sn: int, action: Callable[[], None]) -> None:
        """Do this when every command before ``cmd_sn`` has come. Raises Busy when too much waits like that."""
        if len(self.deferred) >= _MOST_DEFERRED:
            raise Busy(f"{self}: {_MOST_DEFERRED} requests wait for earlier commands")
        self.deferred.append(Deferred(cmd_sn, action))
        self.behind = True

    def catch_up(self) -> None:
        """Handle what has its turn now, on whatever connection it came."""
        while True:
            self._do_deferred()
            cmd_sn = self.exp_cmd_sn
            if cmd_sn not in self.waiting or cmd_sn == self.limit:
                self.behind = bool(self.waiting or self.deferred)
                return
            held = self.waiting.pop(cmd_sn)
            if held is not None and not (held.connection.closed or held.connection.leaving):
                held.connection.take(memoryview(held.header), memoryview(held.data))
            if self.exp_cmd_sn == cmd_sn:
                self.exp_cmd_sn = (cmd_sn + 1) & SERIAL_MASK
                self.release()

    def _do_deferred(self) -> None:
        for each in list(self.deferred):
            if (self.exp_cmd_sn - each.cmd_sn) & SERIAL_MASK < HALF:
                self.deferred.remove(each)
                each.action()

    # -- the end -----------------------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """The initiator stayed away for Time2Wait and Time2Retain: session time-out (RFC 7143 §6.3.7)."""
        if not self.connections and not self.ended and self.on_end is not None:
            self.on_end(self)
        return None


class SessionTable:
    """All sessions by TSIH."""

    def __init__(self) -> None:
        self._by_tsih: dict[int, Session] = {}
        self._last_tsih = 0
        self._step = 1
        self.on_change: Callable[[int], None] | None = None
        """Told how many there are."""

    def use_every(self, step: int, first: int) -> None:
        """Use one session handle in ``step``, so that the other processes of a target have others."""
        self._step, self._last_tsih = step, first

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_tsih.values()))

    def __len__(self) -> int:
        return len(self._by_tsih)

    def get(self, tsih: int) -> Session | None:
        return self._by_tsih.get(tsih)

    def new_tsih(self) -> int:
        """1..65535, not in use. Raises Busy when all are."""
        most = 0xFFFF // self._step * self._step
        for _each in range(0xFFFF // self._step):
            self._last_tsih = (self._last_tsih + self._step) % most or most
            if self._last_tsih not in self._by_tsih:
                return self._last_tsih
        raise Busy(f"all {0xFFFF // self._step} session handles are in use")

    def add(self, session: Session) -> None:
        self._by_tsih[session.tsih] = session
        if session.nexus is not None:
            session.nexus.device.join(session.nexus)
        if self.on_change is not None:
            self.on_change(len(self))

    def remove(self, session: Session) -> None:
        if self._by_tsih.pop(session.tsih, None) is not None and session.nexus is not None:
            session.nexus.device.leave(session.nexus)
        if self.on_change is not None:
            self.on_change(len(self))

    def of_node(self, node: TargetNode) -> list[Session]:
        return [session for session in self if session.node is node]

    def same_nexus(self, key: tuple[str, bytes, str, int]) -> list[Session]:
        return [session for session in self if session.key == key]

    def oldest_away(self) -> Session | None:
        """The oldest of the sessions that wait for their initiator to come back."""
        return next((session for session in self._by_tsih.values() if not session.connections), None)
