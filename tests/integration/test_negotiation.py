# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts longer than a PDU, keys given twice or by the wrong side, digests, and texts after login (RFC 7143 §6, §13)."""

from __future__ import annotations

import pytest
from engine_process import Target
from pdu import wire
from pdu.checks import answers_pings
from pdu.initiator import Initiator
from pdu.wire import RESERVED_TAG, Pdu, parse_text, text_data

INITIATOR_ERROR = (2, 0)

pytestmark = pytest.mark.usefixtures("engine_survives", "others_are_served")


@pytest.fixture(scope="module", params=["header_digest", "data_digest"])
def strict(target: Target, request: pytest.FixtureRequest) -> tuple[str, str]:
    """The name of a node that requires a digest, and the key of that digest."""
    flag = request.param
    target.engine.rpc(
        "iscsi_create_target_node",
        name=flag.replace("_", "-"),
        alias_name="",
        pg_ig_maps=[{"pg_tag": 1, "ig_tag": 2}],
        luns=[{"lun_id": 0, "bdev_name": target.engine.malloc(flag, 1)}],
        queue_depth=8,
        disable_chap=True,
        **{flag: True},
    )
    return f"iqn.2016-06.io.spdk:{flag.replace('_', '-')}", {"header_digest": "HeaderDigest"}.get(flag, "DataDigest")


def identity(target: Target) -> dict[str, str]:
    return {"InitiatorName": "iqn.2026-01.test.openlun:initiator", "TargetName": target.name}


def status(response: Pdu) -> tuple[int, int]:
    assert response.opcode == wire.LOGIN_RESPONSE
    return response.status_class, response.status_detail


def say(initiator: Initiator, pairs: dict[str, str], **stages: int | bool) -> Pdu:
    initiator.send(initiator.login_pdu(pairs, **stages))  # type: ignore[arg-type]
    return initiator.receive()


def piece(initiator: Initiator, data: bytes, *, more: bool) -> Pdu:
    """A login request with part of a text."""
    pdu = initiator.login_pdu({}, transit=not more)
    if more:
        pdu.header[1] |= wire.CONTINUE
    pdu.data = data
    return pdu.set(data_length=len(data))


# -- long texts in a login -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 30])
def test_a_login_in_pieces_of_any_size(target: Target, size: int) -> None:
    text = text_data({**identity(target), "MaxBurstLength": "8192"})
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    if len(pieces) > 64:
        pieces = [*pieces[:60], b"".join(pieces[60:])]
    with target.connect() as initiator:
        for each in pieces[:-1]:
            initiator.send(piece(initiator, each, more=True))
            response = initiator.receive()
            assert (status(response), response.data, response.flags & 0xC3) == ((0, 0), b"", 0)
        initiator.send(piece(initiator, pieces[-1], more=False))
        response = initiator.receive()
        assert response.tsih != 0
        assert ("MaxBurstLength", "8192") in parse_text(response.data)


def test_a_piece_longer_than_any_may_be_is_refused(target: Target) -> None:
    with target.connect() as initiator:
        text = text_data(identity(target))
        initiator.send(piece(initiator, text + b"X" * (8192 - len(text)), more=True))
        assert status(initiator.receive()) == (0, 0)
        initiator.send(piece(initiator, b"X" * 8193, more=True))
        assert status(initiator.receive()) == INITIATOR_ERROR
    assert "8193 bytes in a login PDU; 8192 are allowed" in target.engine.words()


def test_a_long_answer_comes_in_pieces(target: Target) -> None:
    questions = {f"X-test.openlun.{number}": "?" for number in range(100)}
    with target.connect() as initiator:
        keys = {**identity(target), "MaxRecvDataSegmentLength": "512", **questions}
        response = say(initiator, keys)
        text = b""
        while response.flags & wire.CONTINUE:
            assert (status(response), response.flags & wire.FINAL, response.tsih) == ((0, 0), 0, 0)
            assert len(response.data) <= 512
            text += response.data
            response = say(initiator, {})
        answers = dict(parse_text(text + response.data))
        assert response.flags & 0x83 == wire.FINAL | 3
        assert response.tsih != 0
    assert {answers[name] for name in questions} == {"NotUnderstood"}
    assert answers["TargetPortalGroupTag"] == "1"


def test_who_does_not_hear_the_answer_out_is_refused(target: Target) -> None:
    questions = {f"X-test.openlun.{number}": "?" for number in range(100)}
    with target.connect() as initiator:
        response = say(initiator, {**identity(target), "MaxRecvDataSegmentLength": "512", **questions})
        assert response.flags & wire.CONTINUE
        assert status(say(initiator, {"X-test.openlun.more": "?"})) == INITIATOR_ERROR


def test_a_text_cannot_both_go_on_and_lead_to_the_next_stage(target: Target) -> None:
    with target.connect() as initiator:
        pdu = initiator.login_pdu(identity(target))
        pdu.header[1] |= wire.CONTINUE
        initiator.send(pdu)
        assert status(initiator.receive()) == INITIATOR_ERROR


@pytest.mark.parametrize("field", ["tsih", "cid"])
def test_a_login_stays_that_of_one_connection(target: Target, field: str) -> None:
    with target.connect() as initiator:
        say(initiator, identity(target), transit=False)
        initiator.send(initiator.login_pdu({}).set(**{field: 9}))
        assert status(initiator.receive()) == INITIATOR_ERROR


# -- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["MaxBurstLength", "HeaderDigest", "X-test.openlun.colour"])
def test_a_key_is_negotiated_once(target: Target, name: str) -> None:
    with target.connect() as initiator:
        assert status(say(initiator, {**identity(target), name: "512"}, transit=False)) == (0, 0)
        assert status(say(initiator, {name: "512"})) == INITIATOR_ERROR


def test_who_it_is_may_be_said_again(target: Target) -> None:
    with target.connect() as initiator:
        assert status(say(initiator, {**identity(target), "AuthMethod": "None"}, csg=0, nsg=1)) == (0, 0)
        assert say(initiator, identity(target)).tsih != 0


@pytest.mark.parametrize("name", ["InitiatorName", "TargetName"])
def test_who_it_is_does_not_change(target: Target, name: str) -> None:
    with target.connect() as initiator:
        say(initiator, identity(target), transit=False)
        assert status(say(initiator, {name: "iqn.2026-01.test.openlun:another"})) == INITIATOR_ERROR


@pytest.mark.parametrize("name", ["AuthMethod", "CHAP_A", "SendTargets"])
def test_keys_of_another_stage_are_rejected(target: Target, name: str) -> None:
    with target.login(**{name: "None"}) as initiator:
        assert initiator.keys[name] == "Reject"
        assert answers_pings(initiator)


def test_a_name_that_differs_in_form_only_is_the_same(target: Target) -> None:  # RFC 7143 §4.2.7.1, NFKC
    name = "iqn.2026-01.test.openlun:initiator"
    with target.connect(name=name).login(target.name) as first:
        wide = name.replace("test", "\uff34\uff25\uff33\uff34")  # TEST in full width
        with target.connect(name=wide).login(target.name) as second:
            assert first.is_closed()
            assert answers_pings(second)


@pytest.mark.parametrize(
    "name", ["iqn.2026-01.test openlun", "iqn.2026-01.test\nopenlun", "disk1", "iqn.", f"iqn.{'x' * 220}"]
)
def test_what_can_be_no_name_is_refused(target: Target, name: str) -> None:
    with target.connect() as initiator:
        assert status(say(initiator, {**identity(target), "InitiatorName": name})) == INITIATOR_ERROR


# -- digests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offered", ["None", "SHA1"])
def test_a_node_that_requires_a_digest_lets_nobody_in_without(
    target: Target, strict: tuple[str, str], offered: str
) -> None:
    node, key = strict
    with target.connect() as initiator:
        response = say(initiator, {**identity(target), "TargetName": node, key: offered})
        assert status(response) == INITIATOR_ERROR
    assert f"the target node requires {key}=CRC32C" in target.engine.words()


def test_a_node_offers_the_digest_that_it_requires(target: Target, strict: tuple[str, str]) -> None:
    node, key = strict
    with target.connect() as initiator:
        response = say(initiator, {**identity(target), "TargetName": node})
        assert (status(response), response.flags & wire.FINAL) == ((0, 0), 0)
        assert (key, "CRC32C") in parse_text(response.data)
        assert say(initiator, {key: "CRC32C"}).tsih != 0


@pytest.mark.parametrize("answer", [{}, {"HeaderDigest": "None", "DataDigest": "None"}, {"X-test.openlun.more": "?"}])
def test_its_offer_is_to_be_taken(target: Target, strict: tuple[str, str], answer: dict[str, str]) -> None:
    node, _key = strict
    with target.connect() as initiator:
        say(initiator, {**identity(target), "TargetName": node})
        assert status(say(initiator, answer)) == INITIATOR_ERROR


def test_nobody_gets_around_it_by_leaving_the_stage_out(target: Target, strict: tuple[str, str]) -> None:
    node, _key = strict
    with target.connect() as initiator:
        assert status(say(initiator, {**identity(target), "TargetName": node}, csg=0, nsg=3)) == INITIATOR_ERROR


# -- texts after login -----------------------------------------------------------------------------------------------


def text(initiator: Initiator, data: bytes, flags: int = wire.FINAL, ttt: int = RESERVED_TAG) -> Pdu:
    pdu = initiator.text({}, ttt=ttt)
    pdu.header[1] = flags
    pdu.data = data
    initiator.send(pdu.set(data_length=len(data)))
    return initiator.receive()


def test_a_text_request_may_come_in_pieces(target: Target) -> None:
    with target.login() as initiator:
        first = text(initiator, b"SendTar", wire.CONTINUE)
        assert (first.opcode, first.data, first.flags) == (wire.TEXT_RESPONSE, b"", 0)
        assert first.ttt != RESERVED_TAG
        last = text(initiator, b"gets=\0", ttt=first.ttt)
        assert (last.flags, last.ttt) == (wire.FINAL, RESERVED_TAG)
        assert ("TargetName", target.name) in parse_text(last.data)


def test_who_is_not_done_gets_no_final_answer(target: Target) -> None:
    with target.login() as initiator:
        first = text(initiator, b"X-test.openlun.colour=blue\0", 0)
        assert (first.flags, parse_text(first.data)) == (0, [("X-test.openlun.colour", "NotUnderstood")])
        last = text(initiator, b"", ttt=first.ttt)
        assert (last.flags, last.data, last.ttt) == (wire.FINAL, b"", RESERVED_TAG)


def test_a_new_negotiation_ends_the_one_before(target: Target) -> None:
    with target.login() as initiator:
        first = text(initiator, b"SendTar", wire.CONTINUE)
        assert text(initiator, b"SendTargets=\0").flags == wire.FINAL
        assert text(initiator, b"gets=\0", ttt=first.ttt).opcode == wire.REJECT
        assert text(initiator, b"SendTargets=\0").flags == wire.FINAL


@pytest.mark.parametrize("flags", [wire.FINAL | wire.CONTINUE, wire.FINAL])
def test_a_text_that_makes_no_sense_is_rejected(target: Target, flags: int) -> None:
    with target.login() as initiator:
        assert text(initiator, b"nonsense\0", flags).opcode == wire.REJECT
        assert text(initiator, b"SendTargets=\0").flags == wire.FINAL


def test_endless_text_is_cut_off(target: Target) -> None:
    with target.login() as initiator:
        response = text(initiator, b"X-test.openlun=", wire.CONTINUE)
        for _each in range(20):
            response = text(initiator, b"a" * 8000, wire.CONTINUE, response.ttt)
            if response.opcode == wire.REJECT:
                break
        assert response.opcode == wire.REJECT
        assert text(initiator, b"SendTargets=\0").flags == wire.FINAL


def test_what_login_settled_is_settled(target: Target) -> None:
    with target.login() as initiator:
        answers = dict(parse_text(text(initiator, b"MaxBurstLength=512\0HeaderDigest=CRC32C\0SendTargets=All\0").data))
        assert answers == dict.fromkeys(("MaxBurstLength", "HeaderDigest", "SendTargets"), "Reject")


def test_the_length_of_segments_is_declared_anew(target: Target) -> None:
    with target.login() as initiator:
        assert text(initiator, b"MaxRecvDataSegmentLength=512\0").data == b""
        initiator.send(initiator.nop_out(bytes(2000)))
        assert len(initiator.receive().data) == 512
