# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions: an initiator's use of a target, its command window and what it negotiated (RFC 7143 §4.4, §4.2.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import Busy
from ..scsi.device import Nexus
from .keys import Parameters
from .names import comparable
from .node import TargetNode

if TYPE_CHECKING:
    from .connection import Connection

SERIAL_MASK = 0xFFFFFFFF
_HALF = 2**31


class Session:
    """A discovery session when ``node`` is None."""

    __slots__ = (
        *("tsih", "isid", "initiator", "node", "tag", "parameters", "nexus", "connection"),
        *("exp_cmd_sn", "limit", "waiting"),
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
        self.nexus: Nexus | None = None
        if node is not None:
            ports = f"{initiator},i,0x{isid.hex()}", f"{node.name},t,0x{tag:04x}"
            self.nexus = Nexus(node.device, *ports, relative_port=tag)
        self.connection: Connection | None = None
        self.exp_cmd_sn = cmd_sn
        self.limit = (cmd_sn + queue_depth) & SERIAL_MASK
        """MaxCmdSN + 1: where the window ends. It only moves up, by one for every command that is answered."""
        self.waiting: dict[int, tuple[bytes, bytes]] = {}
        """PDUs (header, data) by CmdSN that came before their turn."""

    @property
    def key(self) -> tuple[str, bytes, str, int]:
        """What identifies the I_T nexus; the same again is a reinstatement (RFC 7143 §6.3.5)."""
        return comparable(self.initiator), self.isid, self.node.name if self.node else "", self.tag

    @property
    def max_cmd_sn(self) -> int:
        return (self.limit - 1) & SERIAL_MASK

    def release(self) -> None:
        """A command that took a CmdSN is answered: the window moves."""
        self.limit = (self.limit + 1) & SERIAL_MASK

    def hold(self, cmd_sn: int, header: bytes, data: bytes) -> None:
        """Keep a command whose turn has not come; what is outside the window is ignored (RFC 7143 §4.2.2.1)."""
        ahead = (cmd_sn - self.exp_cmd_sn) & SERIAL_MASK
        window = (self.limit - self.exp_cmd_sn) & SERIAL_MASK
        if 0 < ahead < window < _HALF:
            self.waiting.setdefault(cmd_sn, (header, data))


class SessionTable:
    """All sessions by TSIH."""

    def __init__(self) -> None:
        self._by_tsih: dict[int, Session] = {}
        self._last_tsih = 0

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_tsih.values()))

    def __len__(self) -> int:
        return len(self._by_tsih)

    def get(self, tsih: int) -> Session | None:
        return self._by_tsih.get(tsih)

    def new_tsih(self) -> int:
        """1..65535, not in use. Raises Busy when all are."""
        for _each in range(0xFFFF):
            self._last_tsih = self._last_tsih % 0xFFFF + 1
            if self._last_tsih not in self._by_tsih:
                return self._last_tsih
        raise Busy("all 65535 session handles are in use")

    def add(self, session: Session) -> None:
        self._by_tsih[session.tsih] = session
        if session.nexus is not None:
            session.nexus.device.nexuses.append(session.nexus)

    def remove(self, session: Session) -> None:
        if self._by_tsih.pop(session.tsih, None) is not None and session.nexus is not None:
            session.nexus.device.leave(session.nexus)

    def of_node(self, node: TargetNode) -> list[Session]:
        return [session for session in self if session.node is node]

    def same_nexus(self, key: tuple[str, bytes, str, int]) -> list[Session]:
        return [session for session in self if session.key == key]
