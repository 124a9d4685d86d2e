# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An initiator's login: CHAP if there are credentials, then the keys of a simple session (RFC 7143 §6.3, §11.12)."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Callable, Final, NamedTuple

from . import wire
from .chap import Exchange, algorithms
from .errors import InitiatorError
from .text import decoded, encoded
from .wire import FINAL, IMMEDIATE, Pdu

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .chap import Credentials

_RECEIVES: Final = 262144
_KEYS: Final = {
    "HeaderDigest": "None",
    "DataDigest": "None",
    "MaxRecvDataSegmentLength": str(_RECEIVES),
    "DefaultTime2Wait": "2",
    "DefaultTime2Retain": "0",
    "ErrorRecoveryLevel": "0",
}
_NORMAL_KEYS: Final = {
    "InitialR2T": "Yes",
    "ImmediateData": "No",
    "MaxBurstLength": "262144",
    "FirstBurstLength": "65536",
    "MaxOutstandingR2T": "1",
    "MaxConnections": "1",
    "DataPDUInOrder": "Yes",
    "DataSequenceInOrder": "Yes",
}
_SECURITY, _OPERATIONAL, _FULL_FEATURE = 0, 1, 3
_CONTINUES: Final = 0x40  # C bit, §11.13.2
_MOST_STEPS: Final = 64

_STATUS: Final = {  # class and detail, §11.13.5
    0x0101: "moved to another portal for a while",
    0x0102: "moved to another portal",
    0x0201: "refuses to authenticate: wrong user or secret of CHAP, or only one side wants CHAP",
    0x0202: "does not let this initiator in",
    0x0203: "does not exist there",
    0x0204: "was removed",
    0x0206: "has as many sessions as it takes",
    0x0207: "misses a parameter",
    0x0301: "is out of service",
    0x0302: "is out of resources",
}


class Who(NamedTuple):
    """Who logs in to what; no ``target`` means a discovery session."""

    initiator: str
    target: str | None
    credentials: Credentials | None = None


class Login:
    """One login. ``exchange`` sends a Login Request and gives the response; ``place`` begins every error's message."""

    def __init__(self, who: Who, exchange: Callable[[Pdu], Pdu], place: str) -> None:
        self._who = who
        self._exchange = exchange
        self._place = place
        # A random ISID (§11.12.5): another session of the same name is not taken over.
        self._isid = b"\x80" + os.urandom(3) + b"\0\0"
        self._steps = 0

    def run(self) -> dict[str, str]:
        """Log in and give what the target answered. Raises InitiatorError."""
        target = self._who.target
        identity = {"InitiatorName": self._who.initiator, "SessionType": "Normal" if target else "Discovery"}
        if target is not None:
            identity["TargetName"] = target
        if self._who.credentials is not None:
            self._authenticate(identity, self._who.credentials)
            identity = {}
        keys = {**identity, **_KEYS, **(_NORMAL_KEYS if target is not None else {})}
        return self._stage(keys, _OPERATIONAL, _FULL_FEATURE)

    def _authenticate(self, identity: Mapping[str, str], credentials: Credentials) -> None:
        methods = "CHAP,None" if self._who.target is None else credentials.methods
        answers = self._say({**identity, "AuthMethod": methods}, _SECURITY)[0]
        if answers.get("AuthMethod") != "CHAP":
            self._stage({}, _SECURITY, _OPERATIONAL)
            return
        chap = Exchange(credentials, self._place)
        keys = chap.respond(self._say({"CHAP_A": algorithms()}, _SECURITY)[0])
        chap.check(self._stage(keys, _SECURITY, _OPERATIONAL))

    def _stage(self, keys: Mapping[str, str], stage: int, then: int) -> dict[str, str]:
        """Say ``keys``, and go on until the target follows to the stage ``then``."""
        answers, follows = self._say(keys, stage, then)
        while not follows:
            more, follows = self._say({}, stage, then)
            answers.update(more)
        return answers

    def _say(self, keys: Mapping[str, str], stage: int, then: int | None = None) -> tuple[dict[str, str], bool]:
        """One text and the whole answer to it; with ``then``, also whether the target goes on to that stage."""
        flags = stage << 2 | (0 if then is None else FINAL | then)
        data, text = encoded(keys), b""
        while True:
            self._steps += 1
            if self._steps > _MOST_STEPS:
                raise InitiatorError(f"{self._place}: the login does not come to an end.")
            rest = struct.pack(">HH", 1, 0)
            answer = self._exchange(Pdu(wire.LOGIN | IMMEDIATE, flags, self._isid + b"\0\0", 0, rest, data))
            status = answer.word(36) >> 16
            if status:
                raise InitiatorError(f"{self._place}: {_STATUS.get(status, f'refused the login ({status:#06x})')}.")
            text += answer.data
            if not answer.flags & _CONTINUES:
                follows = then is not None and answer.flags & (FINAL | 3) == FINAL | then
                return dict(decoded(text)), follows
            data = b""
