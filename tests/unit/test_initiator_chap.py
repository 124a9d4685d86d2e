# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CHAP as an initiator proves and checks it."""

from __future__ import annotations

import base64
import hashlib

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.chap import Credentials, Exchange
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.errors import InitiatorError

ALGORITHMS = {"5": "md5", "7": "sha256"}
ONE_WAY = Credentials("db1", "not-for-your-eyes")
MUTUAL = Credentials("db1", "not-for-your-eyes", "storage1", "nor-for-theirs")


def digest(algorithm: str, identifier: int, secret: str, challenge: bytes) -> bytes:
    return hashlib.new(ALGORITHMS[algorithm], bytes((identifier,)) + secret.encode() + challenge).digest()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("write", [lambda c: f"0x{c.hex()}", lambda c: f"0b{base64.b64encode(c).decode()}"])
def test_the_response_proves_the_secret_whatever_the_challenge_is_written_in(algorithm: str, write) -> None:  # type: ignore[no-untyped-def]
    challenge = b"0123456789abcdef"
    answer = Exchange(ONE_WAY, "target t").respond({"CHAP_A": algorithm, "CHAP_I": "7", "CHAP_C": write(challenge)})
    assert answer == {"CHAP_N": "db1", "CHAP_R": f"0x{digest(algorithm, 7, ONE_WAY.secret, challenge).hex()}"}


def target_proof(answer: dict[str, str], secret: str | None) -> dict[str, str]:
    response = digest("7", int(answer["CHAP_I"]), secret or "", bytes.fromhex(answer["CHAP_C"][2:]))
    return {"CHAP_N": "storage1", "CHAP_R": f"0x{response.hex()}"}


def test_a_target_that_knows_its_secret_is_believed_and_another_one_is_not() -> None:
    proof = Exchange(MUTUAL, "target t")
    answer = proof.respond({"CHAP_A": "7", "CHAP_I": "1", "CHAP_C": "0x00"})
    proof.check(target_proof(answer, MUTUAL.msecret))
    for said in ({}, target_proof(answer, "a-guess"), {**target_proof(answer, MUTUAL.msecret), "CHAP_N": "other"}):
        with pytest.raises(InitiatorError, match="does not prove to be"):
            proof.check(said)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"CHAP_A": "9", "CHAP_I": "1", "CHAP_C": "0x00"}, "which was not offered"),
        ({"CHAP_A": "5", "CHAP_I": "256", "CHAP_C": "0x00"}, "cannot be read"),
        ({"CHAP_A": "5", "CHAP_I": "1", "CHAP_C": "0xzz"}, "cannot be read"),
        ({"CHAP_A": "5", "CHAP_I": "1", "CHAP_C": f"0x{'00' * 1025}"}, "cannot be read"),
        ({}, "which was not offered"),
    ],
)
def test_a_challenge_that_makes_no_sense_ends_the_login(asked: dict[str, str], says: str) -> None:
    with pytest.raises(InitiatorError, match=says):
        Exchange(ONE_WAY, "target t").respond(asked)
