# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""More connections of a session."""

from __future__ import annotations

from pdu.initiator import Initiator

_TAGS_A_CONNECTION = 0x10000


class Joined(Initiator):
    """One more connection of the session that ``first`` opened; they count commands together."""

    def __init__(self, first: Initiator, cid: int) -> None:
        self.first = first
        cmd_sn = first.cmd_sn
        super().__init__(first.socket.getpeername()[:2], name=first.name, isid=first.isid)
        self.cmd_sn = cmd_sn
        self.cid = cid
        self.tsih = first.tsih
        self._tag = cid * _TAGS_A_CONNECTION

    @property
    def cmd_sn(self) -> int:
        return self.first.cmd_sn

    @cmd_sn.setter
    def cmd_sn(self, value: int) -> None:
        self.first.cmd_sn = value

    def join(self, target: str, **keys: str) -> Joined:
        """Log in; ``keys`` are those of a connection, such as MaxRecvDataSegmentLength."""
        identity = {"InitiatorName": self.name, "SessionType": "Normal", "TargetName": target}
        self.send(self.login_pdu({**identity, **keys}, cid=self.cid))
        response = self.receive_login()
        self.keys = {**self.first.keys, **response}
        return self
