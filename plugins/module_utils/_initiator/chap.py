# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CHAP as an initiator does it: prove a secret without telling it, let the target prove its own (RFC 7143 §12.1.3)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from .errors import InitiatorError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALGORITHMS: Final = {"7": "sha256", "5": "md5"}  # the IANA's numbers; in the order of preference
_CHALLENGE_BYTES: Final = {"7": 32, "5": 16}
_MOST_BYTES: Final = 1024


class Credentials(NamedTuple):
    """What this side proves itself with; with ``msecret`` the target has to prove itself, too."""

    user: str
    secret: str
    muser: str | None = None
    msecret: str | None = None


class Proof:
    """One exchange. ``place`` names the target in errors."""

    def __init__(self, credentials: Credentials, place: str) -> None:
        self._credentials = credentials
        self._place = place
        self._algorithm = ""
        self._identifier = os.urandom(1)
        self._challenge = b""

    def offer(self) -> dict[str, str]:
        """The first message: which ways of hashing there are."""
        return {"CHAP_A": ",".join(_ALGORITHMS)}

    def respond(self, asked: Mapping[str, str]) -> dict[str, str]:
        """The answer to the target's challenge. Raises InitiatorError."""
        self._algorithm = asked.get("CHAP_A", "")
        if self._algorithm not in _ALGORITHMS:
            raise InitiatorError(f"{self._place}: asks for CHAP in a way that this initiator does not know.")
        identifier, challenge = self._number(asked.get("CHAP_I", "")), _binary(asked.get("CHAP_C", ""))
        if identifier is None or challenge is None:
            raise InitiatorError(f"{self._place}: sent a CHAP challenge that cannot be read.")
        response = self._hash(bytes((identifier,)), self._credentials.secret, challenge)
        answer = {"CHAP_N": self._credentials.user, "CHAP_R": f"0x{response.hex()}"}
        if self._credentials.msecret is not None:
            # A challenge of our own, never the target's: it could be answered without the secret.
            self._challenge = os.urandom(_CHALLENGE_BYTES[self._algorithm])
            answer.update(CHAP_I=str(self._identifier[0]), CHAP_C=f"0x{self._challenge.hex()}")
        return answer

    def check(self, proof: Mapping[str, str]) -> None:
        """Raises InitiatorError if the target has not proved itself and should have."""
        if self._credentials.msecret is None:
            return
        response = _binary(proof.get("CHAP_R", "")) or b""
        expected = self._hash(self._identifier, self._credentials.msecret, self._challenge)
        if proof.get("CHAP_N") != self._credentials.muser or not hmac.compare_digest(response, expected):
            raise InitiatorError(
                f"{self._place}: the target did not prove itself. Compare muser and msecret with its auth group; "
                "if they are right, this is not the target that you mean."
            )

    def _hash(self, identifier: bytes, secret: str, challenge: bytes) -> bytes:
        made = hashlib.new(_ALGORITHMS[self._algorithm], usedforsecurity=False)
        made.update(identifier + secret.encode() + challenge)
        return made.digest()

    @staticmethod
    def _number(text: str) -> int | None:
        try:
            number = int(text, 0)
        except ValueError:
            return None
        return number if 0 <= number <= 255 else None


def _binary(text: str) -> bytes | None:
    """A large binary value: 0x and hexadecimal digits, or 0b and base 64 (RFC 7143 §6.1)."""
    kind, digits = text[:2].lower(), text[2:]
    try:
        if kind == "0x":
            value = bytes.fromhex(digits if len(digits) % 2 == 0 else f"0{digits}")
        elif kind == "0b":
            value = base64.b64decode(digits, validate=True)
        else:
            return None
    except (ValueError, binascii.Error):
        return None
    return value if len(value) <= _MOST_BYTES else None
