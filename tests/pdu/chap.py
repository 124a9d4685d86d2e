# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The initiator's side of CHAP, step by step, so that a test can get any step wrong (RFC 7143 §12.1.3)."""

from __future__ import annotations

import hashlib
from typing import Final

from pdu import wire
from pdu.initiator import OPERATIONAL, Initiator, LoginRefused
from pdu.wire import Pdu, parse_text

HASHES: Final = {"5": "md5", "6": "sha1", "7": "sha256", "8": "sha3_256"}


def proof(algorithm: str, identifier: int, secret: str, challenge: bytes) -> bytes:
    return hashlib.new(HASHES[algorithm], bytes([identifier]) + secret.encode() + challenge).digest()


class ChapLogin:
    """A login to ``target``, without one to discovery, that has agreed on AuthMethod=CHAP."""

    def __init__(self, initiator: Initiator, target: str | None, methods: str = "CHAP,None") -> None:
        self.initiator = initiator
        self.identity = {"InitiatorName": initiator.name, "SessionType": "Normal" if target else "Discovery"}
        if target:
            self.identity["TargetName"] = target
        self.answers: dict[str, str] = {}
        self.algorithm = ""
        self.identifier = 0
        self.challenge = b""
        self.say({**self.identity, "AuthMethod": methods})

    def say(self, pairs: dict[str, str], *, transit: bool = False, csg: int = 0, nsg: int = 1) -> Pdu:
        """Send a login request and keep the answers. Raises LoginRefused."""
        self.initiator.send(self.initiator.login_pdu(pairs, csg=csg, nsg=nsg, transit=transit))
        response = self.initiator.receive()
        if response.status_class:
            raise LoginRefused(response.status_class, response.status_detail)
        self.answers.update(parse_text(response.data))
        return response

    def ask(self, algorithms: str = "5") -> ChapLogin:
        """Get the challenge."""
        self.say({"CHAP_A": algorithms})
        self.algorithm = self.answers["CHAP_A"]
        self.identifier = int(self.answers["CHAP_I"])
        self.challenge = bytes.fromhex(self.answers["CHAP_C"][2:])
        return self

    def response(self, secret: str) -> str:
        return "0x" + proof(self.algorithm, self.identifier, secret, self.challenge).hex()

    def prove(self, user: str, secret: str, **more: str) -> Pdu:
        """Answer the challenge; ``more`` are further keys, such as a challenge in return."""
        return self.say({"CHAP_N": user, "CHAP_R": self.response(secret), **more}, transit=True)

    def proves_it(self, secret: str, identifier: int, challenge: bytes) -> bool:
        """Did the target answer that challenge with that secret?"""
        return self.answers["CHAP_R"] == "0x" + proof(self.algorithm, identifier, secret, challenge).hex()

    def finish(self) -> Initiator:
        """On to full feature phase."""
        response = self.say(OPERATIONAL, transit=True, csg=1, nsg=3)
        if response.flags & 0x83 != wire.FINAL | 3:
            raise AssertionError(f"the login did not end: {response}")
        self.initiator.tsih = response.tsih
        self.initiator.keys = {**OPERATIONAL, **self.answers}
        return self.initiator
