# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text keys: syntax and result functions (RFC 7143 §6, §13)."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.keys import (
    KEYS,
    Negotiation,
    Parameters,
    our_values,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.options import Options
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.text import (
    TextError,
    build_binary,
    build_text,
    parse_binary,
    parse_number,
    parse_text,
)
from hypothesis import given
from hypothesis import strategies as st

OURS = our_values(Options())
NAMES = st.from_regex(r"[A-Z][A-Za-z0-9.+@_-]{0,62}", fullmatch=True)
VALUES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=300)


def negotiate(name: str, offered: str, **phase: bool) -> tuple[str | None, Parameters]:
    agreed = Parameters()
    return Negotiation(OURS, agreed, **phase).answer(name, offered), agreed


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
        ("MaxConnections", "8", "2"),
        ("HeaderDigest", "CRC32C,None", "CRC32C"),
        ("HeaderDigest", "None,CRC32C", "None"),
        ("DataDigest", "SHA1,CRC32C", "CRC32C"),
        ("DataDigest", "SHA1", "Reject"),
        ("MaxBurstLength", "0x10000", "65536"),
        ("IFMarker", "Yes", "No"),
        ("OFMarkInt", "2048", "Reject"),
        ("TaskReporting", "FastAbort,RFC3720", "RFC3720"),
        ("iSCSIProtocolLevel", "3", "2"),
        ("iSCSIProtocolLevel", "1", "1"),
        ("SendTargets", "All", "Reject"),
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


@pytest.mark.parametrize("name", ["InitiatorAlias", "TargetName", "TargetPortalGroupTag"])
def test_who_declares_something_gets_no_answer(name: str) -> None:
    assert negotiate(name, "something")[0] is None


def test_a_declaration_is_not_answered() -> None:
    text, agreed = negotiate("MaxRecvDataSegmentLength", "65536")
    assert text is None
    assert agreed.peer_receive_limit == 65536


def test_data_transfer_keys_are_irrelevant_in_discovery() -> None:
    assert negotiate("MaxBurstLength", "65536", discovery=True)[0] == "Irrelevant"


@pytest.mark.parametrize("phase", [{"leading": False}, {"login": False}], ids=["further connection", "after login"])
def test_what_the_first_connection_decides_is_settled(phase: dict[str, bool]) -> None:
    text, agreed = negotiate("MaxBurstLength", "512", **phase)
    assert text == "Reject"
    assert agreed.values == Parameters().values


def test_digests_are_up_to_each_connection_until_it_is_logged_in() -> None:
    assert negotiate("HeaderDigest", "CRC32C", leading=False)[0] == "CRC32C"
    assert negotiate("HeaderDigest", "CRC32C", login=False)[0] == "Reject"


def test_a_further_connection_begins_with_the_session_s_values_and_its_own_defaults() -> None:
    first = Parameters()
    first.values.update(MaxBurstLength=512, HeaderDigest="CRC32C")
    first.peer_receive_limit = 512
    further = first.of_further_connection()
    assert (further.number("MaxBurstLength"), further.header_digest) == (512, False)
    assert further.peer_receive_limit == Parameters().peer_receive_limit


@given(st.binary(min_size=1, max_size=64))
def test_a_built_binary_value_parses_to_the_same_bytes(value: bytes) -> None:
    assert parse_binary(build_binary(value), 64) == value
    assert parse_binary("0b" + base64.b64encode(value).decode(), 64) == value


@pytest.mark.parametrize("text", ["", "0x", "0b", "0xzz", "0b!", "0bQ", "abcd", "0b===", "0x" + "00" * 65, "0x 1"])
def test_what_is_no_binary_value_of_that_length(text: str) -> None:
    assert parse_binary(text, 64) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("0X1f", 31), ("-1", None), ("٣", None), ("1" * 21, None), ("0x", None), ("1 ", None)],
)
def test_numbers(text: str, number: int | None) -> None:
    assert parse_number(text) == number


@given(st.sampled_from(sorted(KEYS)), st.text(max_size=30))
def test_no_offer_brings_a_value_out_of_range(name: str, offered: str) -> None:
    _text, agreed = negotiate(name, offered)
    key = KEYS[name]
    if key.high:
        assert key.low <= agreed.number(name) <= key.high
