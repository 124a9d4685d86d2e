# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CHAP without a network: known answers, hosts without MD5, and what no sequence of keys can achieve."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.auth import Auth, AuthGroup, Secret
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.chap import (
    AuthenticationError,
    Authenticator,
    response,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.security import Security
from hypothesis import given
from hypothesis import strategies as st

SECRET = Secret("alice", "wonderland-0001", "queen", "of-hearts-00002")
USERS = {"alice": SECRET}


def test_the_response_is_that_of_rfc_1994() -> None:
    assert response(5, 0x21, "secret", b"\x01\x02") == hashlib.md5(b"\x21secret\x01\x02").digest()


def test_a_host_without_md5_does_not_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = hashlib.new

    def fips(name: str, *data: Any) -> Any:
        if name == "md5":
            raise ValueError("disabled for FIPS")
        return genuine(name, *data)

    monkeypatch.setattr(hashlib, "new", fips)
    assert dict(Authenticator(USERS, mutual=False).step({"CHAP_A": "5,7"}))["CHAP_A"] == "7"
    with pytest.raises(AuthenticationError, match=r"possible here: 6 \(sha1\), 7 \(sha256\), 8 \(sha3_256\)"):
        Authenticator(USERS, mutual=False).step({"CHAP_A": "5"})


@pytest.mark.parametrize(
    ("auth", "users", "offered", "chosen"),
    [
        (Auth(disable_chap=True), USERS, "CHAP,None", "None"),
        (Auth(require_chap=True), USERS, "None,CHAP", "CHAP"),
        (Auth(), USERS, "CHAP,None", "CHAP"),
        (Auth(), USERS, "None,CHAP", "None"),
        (Auth(), {}, "CHAP,None", "None"),
    ],
)
def test_the_policy_decides_what_is_chosen(auth: Auth, users: dict[str, Secret], offered: str, chosen: str) -> None:
    security = Security(auth, AuthGroup(1, users.values()), "target node x")
    assert security.answer([("AuthMethod", offered)]) == [("AuthMethod", chosen)]
    assert security.is_satisfied == (chosen == "None")


@pytest.mark.parametrize(
    ("auth", "users", "offered"),
    [
        (Auth(disable_chap=True), USERS, "CHAP"),
        (Auth(require_chap=True), USERS, "None"),
        (Auth(require_chap=True), {}, "CHAP"),
        (Auth(), {}, "CHAP"),
        (Auth(), USERS, "KRB5"),
    ],
)
def test_what_the_policy_does_not_take_is_refused(auth: Auth, users: dict[str, Secret], offered: str) -> None:
    with pytest.raises(AuthenticationError, match="target node x"):
        Security(auth, AuthGroup(1, users.values()), "target node x").answer([("AuthMethod", offered)])


VALUES = st.sampled_from(["5", "7", "alice", "0x00", "0x" + "ab" * 16, "0bAAAA", "", "CHAP", "None"]) | st.text(
    max_size=40
)
STEPS = st.dictionaries(
    st.sampled_from(["AuthMethod", "CHAP_A", "CHAP_I", "CHAP_C", "CHAP_N", "CHAP_R"]), VALUES, max_size=6
)


@given(st.lists(STEPS, max_size=6))
def test_nobody_gets_in_without_the_secret(steps: list[dict[str, str]]) -> None:
    security = Security(Auth(require_chap=True), AuthGroup(1, [SECRET]), "target node x")
    complaints = []
    for step in steps:
        try:
            answers = security.answer(list(step.items()))
        except AuthenticationError as error:
            complaints.append(str(error))
            break
        assert not security.is_satisfied
        assert "CHAP_R" not in dict(answers)
    assert not [each for each in complaints if SECRET.secret in each]
