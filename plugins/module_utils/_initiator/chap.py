# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CHAP as an initiator speaks it (RFC 1994, RFC 7143 §12.1.3). No message made here holds a secret."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from .errors import InitiatorError

if TYPE_CHECKING:
    from collections.abc import Mapping

_HASHES: Final = {"7": "sha256", "8": "sha3_256", "6": "sha1", "5": "md5"}  # in the order in which they are offered
_CHALLENGE_BYTES: Final = 32
_MOST_BYTES: Final = 1024  # of a challenge, RFC 7143 §12.1.3


class Credentials(NamedTuple):
    """What the initiator proves and, with ``msecret``, what the target has to prove to it."""

    user: str
    secret: str
    muser: str | None = None
    msecret: str | None = None

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r})"

    @property
    def methods(self) -> str:
        """AuthMethod to offer to a target that is to be used. One that has to prove itself cannot choose None."""
        return "CHAP" if self.msecret is not None else "CHAP,None"


def algorithms() -> str:
    """CHAP_A: what this host has; hosts in FIPS mode lack some."""
    return ",".join(number for number, name in _HASHES.items() if _is_possible(name))


class Exchange:
    """One exchange. All raise InitiatorError; ``place`` begins its message."""

    def __init__(self, credentials: Credentials, place: str) -> None:
        self._credentials = credentials
        self._place = place
        self._algorithm = ""
        self._identifier = secrets.randbelow(256)
        self._challenge = secrets.token_bytes(_CHALLENGE_BYTES)

    def respond(self, answers: Mapping[str, str]) -> dict[str, str]:
        """The keys that answer the target's challenge, and the challenge in return."""
        self._algorithm = answers.get("CHAP_A", "")
        if self._algorithm not in algorithms().split(","):
            raise InitiatorError(f"{self._place}: the target wants CHAP_A={self._algorithm!r}, which was not offered.")
        try:
            identifier = int(answers["CHAP_I"], 0)
            challenge = _binary(answers["CHAP_C"])
            if len(challenge) > _MOST_BYTES:
                raise ValueError("too long")
            proof = self._proof(identifier, self._credentials.secret, challenge)
        except (KeyError, ValueError):
            raise InitiatorError(f"{self._place}: the target's CHAP challenge cannot be read.") from None
        keys = {"CHAP_N": self._credentials.user, "CHAP_R": f"0x{proof.hex()}"}
        if self._credentials.msecret is not None:
            keys.update({"CHAP_I": str(self._identifier), "CHAP_C": f"0x{self._challenge.hex()}"})
        return keys

    def check(self, answers: Mapping[str, str]) -> None:
        """Did the target prove itself, if it had to?"""
        mine = self._credentials
        if mine.msecret is None:
            return
        expected = self._proof(self._identifier, mine.msecret, self._challenge)
        try:
            right = hmac.compare_digest(_binary(answers["CHAP_R"]), expected)
        except (KeyError, ValueError):
            right = False
        if not right or (mine.muser is not None and answers.get("CHAP_N") != mine.muser):
            raise InitiatorError(f"{self._place}: the target does not prove to be {mine.muser or 'who it should be'}.")

    def _proof(self, identifier: int, secret: str, challenge: bytes) -> bytes:
        return hashlib.new(_HASHES[self._algorithm], bytes((identifier,)) + secret.encode() + challenge).digest()


def _is_possible(name: str) -> bool:
    try:
        hashlib.new(name)
    except ValueError:
        return False
    return True


def _binary(text: str) -> bytes:
    """Raises ValueError."""
    prefix, digits = text[:2].lower(), text[2:]
    if prefix == "0x":
        return bytes.fromhex(digits.zfill(len(digits) + 1 & ~1))
    if prefix == "0b":
        try:
            return base64.b64decode(digits, validate=True)
        except binascii.Error as error:
            raise ValueError("no base64") from error
    raise ValueError("no binary value")
