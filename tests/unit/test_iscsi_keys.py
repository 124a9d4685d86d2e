# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text keys: syntax and result functions (RFC 7143 §6, §13)."""

from __future__ import annotations

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.keys import (
    KEYS,
    Parameters,
    TextError,
    answer,
    build_text,
    our_values,
    parse_text,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.options import Options
from hypothesis import given
from hypothesis import strategies as st

OURS = our_values(Options())
NAMES = st.from_regex(r"[A-Z][A-Za-z0-9.+@_-]{0,62}", fullmatch=True)
VALUES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=300)


def negotiate(name: str, offered: str, discovery: bool = False) -> tuple[str | None, Parameters]:
    agreed = Parameters()
    answered = answer(name, offered, OURS, agreed, discovery)
    return (answered[1] if answered else None), agreed


@given(st.dictionaries(NAMES, VALUES, max_size=20))
def test_a_built_text_parses_to_the_same_pairs(pairs: dict[str, str]) -> None:
    assert parse_text(build_text(list(pairs.items()))) == list(pairs.items())


@pytest.mark.parametrize("text", [b"NoEquals\0", b"=value\0", b"K" * 64 + b"=v\0", b"A=1\0A=2\0", b"A=\xff\0"])
def test_a_malformed_text_is_an_error(text: bytes) -> None:
    with pytest.raises(TextError):
        parse_text(text)


@pytest.mark.parametrize("name", ["MaxBurstLength", "FirstBurstLength", "MaxConnections", "MaxOutstandingR2T"])
@given(st.integers(512, 65535))
def test_minimum_keys_give_the_smaller_value(name: str, offered: int) -> None:
    text, agreed = negotiate(name, str(offered))
    assert text == str(min(offered, int(OURS[name])))
    assert agreed.number(name) == int(text)


@given(st.integers(0, 3600))
def test_time2wait_gives_the_larger_value(offered: int) -> None:
    assert negotiate("DefaultTime2Wait", str(offered))[0] == str(max(offered, Options().default_time2wait))


@pytest.mark.parametrize(
    ("name", "offered", "result"),
    [
        ("InitialR2T", "No", "No"),
        ("InitialR2T", "Yes", "Yes"),
        ("ImmediateData", "No", "No"),
        ("ImmediateData", "Yes", "Yes"),
        ("DataPDUInOrder", "No", "Yes"),
        ("ErrorRecoveryLevel", "2", "0"),
        ("MaxConnections", "8", "1"),
        ("HeaderDigest", "CRC32C,None", "None"),
        ("DataDigest", "CRC32C", "Reject"),
        ("MaxBurstLength", "0x10000", "65536"),
        ("IFMarker", "Yes", "No"),
        ("X-com.example.thing", "1", "NotUnderstood"),
    ],
)
def test_results_of_the_rfc(name: str, offered: str, result: str) -> None:
    assert negotiate(name, offered)[0] == result


@pytest.mark.parametrize(
    ("name", "offered"),
    [
        ("MaxBurstLength", "511"),
        ("MaxBurstLength", "16777216"),
        ("MaxBurstLength", "-1"),
        ("MaxBurstLength", "many"),
        ("MaxBurstLength", ""),
        ("InitialR2T", "yes"),
        ("InitialR2T", ""),
        ("MaxRecvDataSegmentLength", "1"),
        ("MaxRecvDataSegmentLength", "0xzz"),
    ],
)
def test_an_impossible_value_is_rejected_and_changes_nothing(name: str, offered: str) -> None:
    text, agreed = negotiate(name, offered)
    assert text == "Reject"
    assert agreed.values == Parameters().values
    assert agreed.peer_receive_limit == Parameters().peer_receive_limit


def test_a_declaration_is_not_answered() -> None:
    text, agreed = negotiate("MaxRecvDataSegmentLength", "65536")
    assert text is None
    assert agreed.peer_receive_limit == 65536


def test_data_transfer_keys_are_irrelevant_in_discovery() -> None:
    assert negotiate("MaxBurstLength", "65536", discovery=True)[0] == "Irrelevant"


@given(st.sampled_from(sorted(KEYS)), st.text(max_size=30))
def test_no_offer_brings_a_value_out_of_range(name: str, offered: str) -> None:
    _text, agreed = negotiate(name, offered)
    key = KEYS[name]
    if key.high:
        assert key.low <= agreed.number(name) <= key.high
