# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CHAP: an initiator proves that it knows a secret, the target that it knows another (RFC 1994, RFC 7143 §12.1.3).

Nothing here logs or shows a secret, a challenge or a response.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Final

from .auth import Secret
from .text import Pairs, build_binary, parse_binary, parse_number

ALGORITHMS: Final = {5: "md5", 6: "sha1", 7: "sha256", 8: "sha3_256"}
"""CHAP_A to the name of the hash (RFC 7143 §12.1.3, IANA's registry of PPP authentication algorithms)."""
_MOST_BYTES: Final = 1024
_KEYS: Final = frozenset({"CHAP_A", "CHAP_I", "CHAP_C", "CHAP_N", "CHAP_R"})


class AuthenticationError(Exception):
    """The initiator did not prove who it is. The message is for the target's log, not for the initiator."""


def is_chap_key(name: str) -> bool:
    return name in _KEYS


def response(algorithm: int, identifier: int, secret: str, challenge: bytes) -> bytes:
    """What knows ``secret`` answers to ``challenge``."""
    return hashlib.new(ALGORITHMS[algorithm], bytes((identifier,)) + secret.encode() + challenge).digest()


def is_available(algorithm: int) -> bool:
    """Hosts in FIPS mode have no MD5, for instance."""
    try:
        hashlib.new(ALGORITHMS[algorithm])
    except (KeyError, ValueError):
        return False
    return True


class Authenticator:
    """The target's side of one exchange: a list of algorithms, a challenge, a response, perhaps a challenge in return.

    ``users`` are the secrets of an auth group by user name. With ``mutual`` the initiator has to challenge the target.
    """

    def __init__(self, users: Mapping[str, Secret], mutual: bool) -> None:
        self._users = users
        self._mutual = mutual
        self._algorithm = 0
        self._identifier = secrets.randbelow(256)
        self._challenge = b""
        self.user: str | None = None
        """Who the initiator has proved to be."""

    def step(self, keys: Mapping[str, str]) -> Pairs:
        """Answer the CHAP keys of one login request. Raises AuthenticationError."""
        if self.user is not None:
            raise AuthenticationError("CHAP keys after CHAP was done")
        return self._verify(keys) if self._challenge else self._challenge_it(keys)

    def _challenge_it(self, keys: Mapping[str, str]) -> Pairs:
        """Take the first of its algorithms that is possible here."""
        offered = _value(keys, "CHAP_A")
        numbers = (parse_number(each) for each in offered.split(","))
        chosen = next((each for each in numbers if each is not None and is_available(each)), None)
        if chosen is None:
            possible = ", ".join(f"{number} ({name})" for number, name in ALGORITHMS.items() if is_available(number))
            raise AuthenticationError(f"CHAP_A={offered[:80]!r}; possible here: {possible}")
        self._algorithm = chosen
        self._challenge = secrets.token_bytes(hashlib.new(ALGORITHMS[chosen]).digest_size)
        return [
            ("CHAP_A", str(chosen)),
            ("CHAP_I", str(self._identifier)),
            ("CHAP_C", build_binary(self._challenge)),
        ]

    def _verify(self, keys: Mapping[str, str]) -> Pairs:
        user = _value(keys, "CHAP_N")
        given = parse_binary(_value(keys, "CHAP_R"), _MOST_BYTES)
        if given is None:
            raise AuthenticationError(f"user {user[:255]!r}: CHAP_R is no binary value of at most {_MOST_BYTES} bytes")
        known = self._users.get(user)
        # An unknown user costs as much time as a wrong secret.
        secret = known.secret if known is not None else secrets.token_hex(16)
        right = hmac.compare_digest(response(self._algorithm, self._identifier, secret, self._challenge), given)
        if known is None or not known.secret:
            raise AuthenticationError(f"the auth group has no user {user[:255]!r} with a secret")
        if not right:
            raise AuthenticationError(f"user {user!r} has another secret in the auth group")
        answers = self._prove(keys, known)
        self.user = user
        return answers

    def _prove(self, keys: Mapping[str, str], known: Secret) -> Pairs:
        """Answer the initiator's own challenge, if it has one."""
        if "CHAP_I" not in keys and "CHAP_C" not in keys:
            if self._mutual:
                raise AuthenticationError(
                    f"user {known.user!r} wants no proof from the target; mutual CHAP is required"
                )
            return []
        identifier = parse_number(_value(keys, "CHAP_I"))
        challenge = parse_binary(_value(keys, "CHAP_C"), _MOST_BYTES)
        if identifier is None or identifier > 255 or challenge is None:
            raise AuthenticationError(
                f"user {known.user!r}: CHAP_I is not in 0..255, or CHAP_C not binary of at most {_MOST_BYTES} bytes"
            )
        if hmac.compare_digest(challenge, self._challenge):
            raise AuthenticationError(f"user {known.user!r} reflects the target's own challenge")
        if not known.muser or not known.msecret:
            raise AuthenticationError(
                f"user {known.user!r} wants mutual CHAP, for which its secret in the auth group needs muser and msecret"
            )
        if hmac.compare_digest(known.msecret.encode(), known.secret.encode()):
            raise AuthenticationError(f"user {known.user!r} has the same secret for both directions")
        proof = response(self._algorithm, identifier, known.msecret, challenge)
        return [("CHAP_N", known.muser), ("CHAP_R", build_binary(proof))]


def _value(keys: Mapping[str, str], name: str) -> str:
    try:
        return keys[name]
    except KeyError:
        raise AuthenticationError(f"no {name}") from None
