# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""R2Ts, what is agreed on anew, additional header segments, rejects and events (RFC 7143 §4.5, §11)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from engine_process import Launch, Target
from pdu import cdb, wire
from pdu.initiator import Initiator
from pdu.wire import RESERVED_TAG, Pdu, parse_text

BLOCK = 512
GOOD, CHECK_CONDITION = 0, 2
ILLEGAL_REQUEST = 5
WRITE = wire.FINAL | wire.WRITE | wire.SIMPLE
READ = wire.FINAL | wire.READ | wire.SIMPLE
PROTOCOL_ERROR, SNACK_REJECT, DATA_ACK, INVALID_FIELD = 4, 3, 8, 9
OUT_OF_ORDER, INCORRECT_AMOUNT = (0xB, 0x4B, 0), (0xB, 0x0C, 0x0D)


def pattern(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


@pytest.fixture
def initiator(target: Target) -> Iterator[Initiator]:
    with target.login() as initiator:
        yield initiator


pytestmark = pytest.mark.usefixtures("engine_survives")


def rejected(initiator: Initiator, pdu: Pdu) -> int:
    """The reason for which the target rejects ``pdu``, of which it sends the header back."""
    initiator.send(pdu)
    answer = initiator.receive()
    assert (answer.opcode, answer.data) == (wire.REJECT, bytes(pdu.header))
    return answer.reason


# -- several R2Ts at a time


@pytest.fixture
def bursts(target: Target) -> Iterator[tuple[Initiator, Pdu, list[Pdu], bytes]]:
    """A WRITE of 12 blocks in bursts of 4 blocks, three of which are asked for at once; its R2Ts and its data."""
    keys = {"MaxOutstandingR2T": "4", "InitialR2T": "Yes", "ImmediateData": "No", "MaxBurstLength": "2048"}
    with target.login(**keys) as initiator:
        assert initiator.keys["MaxOutstandingR2T"] == "4"
        data = pattern(12 * BLOCK, 2)
        command = initiator.command(cdb.write_10(100, 12), flags=WRITE, length=len(data))
        initiator.send(command)
        yield initiator, command, [initiator.receive() for _each in range(3)], data


def test_as_many_bursts_are_asked_for_as_was_agreed_on(bursts: tuple[Initiator, Pdu, list[Pdu], bytes]) -> None:
    _initiator, command, r2ts, _data = bursts
    assert [(r2t.opcode, r2t.itt, r2t.r2t_sn) for r2t in r2ts] == [(wire.R2T, command.itt, sn) for sn in range(3)]
    assert [(r2t.buffer_offset, r2t.desired_length) for r2t in r2ts] == [(0, 2048), (2048, 2048), (4096, 2048)]
    assert len({r2t.ttt for r2t in r2ts}) == 3


def test_a_write_is_done_when_all_bursts_have_come(bursts: tuple[Initiator, Pdu, list[Pdu], bytes]) -> None:
    initiator, command, r2ts, data = bursts
    for r2t in r2ts:
        initiator.answer_r2t(r2t, data)
    assert initiator.finish(command).status == GOOD
    assert initiator.read(cdb.read_10(100, 12), len(data)).data == data


def test_the_pdus_of_several_bursts_may_mix(bursts: tuple[Initiator, Pdu, list[Pdu], bytes]) -> None:
    initiator, command, r2ts, data = bursts
    for number in range(4):
        for r2t in r2ts:
            offset = r2t.buffer_offset + number * BLOCK
            piece = data[offset : offset + BLOCK]
            initiator.send(initiator.data_out(r2t.itt, r2t.ttt, offset, piece, data_sn=number, final=number == 3))
    assert initiator.finish(command).status == GOOD
    assert initiator.read(cdb.read_10(100, 12), len(data)).data == data


def test_a_burst_with_the_tag_of_another_is_refused_and_nothing_is_written(
    bursts: tuple[Initiator, Pdu, list[Pdu], bytes],
) -> None:
    initiator, command, r2ts, _data = bursts
    before = initiator.read(cdb.read_10(100, 12), 12 * BLOCK).data
    wrong = initiator.data_out(command.itt, r2ts[1].ttt, 0, bytes(2048), data_sn=0, final=True)
    assert rejected(initiator, wrong) == PROTOCOL_ERROR
    assert initiator.finish(command).response.sense == OUT_OF_ORDER
    assert initiator.read(cdb.read_10(100, 12), 12 * BLOCK).data == before


# -- lengths


@pytest.fixture(params=["in a row", "one by one"])
def either(launch: Launch, request: pytest.FixtureRequest) -> Target:
    """A LUN whose READs and WRITEs are handled in a row, and one that shows another bdev's memory."""
    engine = launch()
    bdev = engine.malloc("Disk0", 1)
    if request.param == "one by one":
        engine.rpc("bdev_passthru_create", base_bdev_name=bdev, name="Pass0")
        bdev = "Pass0"
    engine.initiator_group()
    return Target(engine, engine.portal_group(), engine.node("either", bdev))


@pytest.mark.parametrize("more", [b"", bytes(BLOCK)], ids=["complete", "more to come"])
@pytest.mark.parametrize("final", [0, wire.FINAL], ids=["unsolicited", "solicited"])
def test_more_immediate_data_than_the_first_burst_is_refused(either: Target, more: bytes, final: int) -> None:
    with either.login(FirstBurstLength="1024") as initiator:
        whole = initiator.write(cdb.write_10(0, 2), pattern(2 * BLOCK), immediate=2 * BLOCK)
        assert whole.status == GOOD
        length = 3 * BLOCK + len(more)
        command = initiator.command(
            cdb.write_10(0, length // BLOCK),
            flags=wire.WRITE | wire.SIMPLE | final,
            length=length,
            data=bytes(3 * BLOCK),
        )
        assert rejected(initiator, command) == PROTOCOL_ERROR
        if not final:
            initiator.send(initiator.data_out(command.itt, RESERVED_TAG, 3 * BLOCK, more, data_sn=0, final=True))
        assert initiator.read(cdb.read_10(0, 3), 3 * BLOCK).data == pattern(2 * BLOCK) + bytes(BLOCK)


def test_data_after_the_command_counts_towards_the_first_burst(initiator: Initiator, target: Target) -> None:
    before = initiator.read(cdb.read_10(0, 4), 4 * BLOCK).data
    with target.connect(isid=b"\x80\0\0\0\0\x09").login(target.name, FirstBurstLength="1024") as other:
        command = other.command(cdb.write_10(0, 4), flags=wire.WRITE | wire.SIMPLE, length=4 * BLOCK, data=bytes(BLOCK))
        other.send(command)
        beyond = other.data_out(command.itt, RESERVED_TAG, BLOCK, bytes(2 * BLOCK), data_sn=0, final=True)
        assert rejected(other, beyond) == PROTOCOL_ERROR
        assert other.finish(command).response.sense == OUT_OF_ORDER
    assert initiator.read(cdb.read_10(0, 4), 4 * BLOCK).data == before


def test_more_data_than_was_asked_for_is_refused(bursts: tuple[Initiator, Pdu, list[Pdu], bytes]) -> None:
    initiator, command, r2ts, data = bursts
    before = initiator.read(cdb.read_10(100, 12), 12 * BLOCK).data
    first = initiator.data_out(command.itt, r2ts[0].ttt, 0, data[:2048], data_sn=0, final=False)
    initiator.send(first)
    beyond = initiator.data_out(command.itt, r2ts[0].ttt, 2048, data[2048:2560], data_sn=1, final=True)
    assert rejected(initiator, beyond) == PROTOCOL_ERROR
    assert initiator.finish(command).response.sense == OUT_OF_ORDER
    assert initiator.read(cdb.read_10(100, 12), 12 * BLOCK).data == before


@pytest.mark.parametrize("solicited", [True, False])
def test_a_sequence_that_ends_too_early_fails_its_command(target: Target, solicited: bool) -> None:
    keys = {"ImmediateData": "No", "FirstBurstLength": "2048", "MaxBurstLength": "2048"}
    with target.login(**keys) as initiator:
        before = initiator.read(cdb.read_10(100, 8), 8 * BLOCK).data
        flags = WRITE if solicited else wire.WRITE | wire.SIMPLE
        command = initiator.command(cdb.write_10(100, 8), flags=flags, length=8 * BLOCK)
        initiator.send(command)
        tag = initiator.receive().ttt if solicited else RESERVED_TAG
        short = initiator.data_out(command.itt, tag, 0, bytes(BLOCK), data_sn=0, final=True)
        assert rejected(initiator, short) == PROTOCOL_ERROR
        assert initiator.finish(command).response.sense == INCORRECT_AMOUNT
        assert initiator.read(cdb.read_10(100, 8), 8 * BLOCK).data == before


@pytest.mark.parametrize(("longest", "limit"), [(2048, 65536), (2048, 1536), (2048, 2048), (2560, 1024)])
def test_read_data_comes_in_sequences_of_the_length_agreed_on(either: Target, longest: int, limit: int) -> None:
    """Each ends with the final bit, and none is longer than MaxBurstLength (RFC 7143 §13.13)."""
    keys = {"MaxBurstLength": str(longest), "MaxRecvDataSegmentLength": str(limit), "FirstBurstLength": "512"}
    with either.login(**keys) as initiator:
        outcome = initiator.read(cdb.read_10(0, 13), 13 * BLOCK)
        assert len(outcome.data) == 13 * BLOCK
        ends = [pdu.buffer_offset + len(pdu.data) for pdu in outcome.pdus if pdu.flags & wire.FINAL]
        assert ends == [*range(longest, 13 * BLOCK, longest), 13 * BLOCK]
        assert max(len(pdu.data) for pdu in outcome.pdus) <= limit


def test_the_receive_limit_may_be_declared_anew(initiator: Initiator) -> None:
    initiator.send(initiator.text({"MaxRecvDataSegmentLength": "1024"}))
    assert initiator.receive().opcode == wire.TEXT_RESPONSE
    pdus = initiator.read(cdb.read_10(0, 8), 8 * BLOCK).pdus
    assert [len(pdu.data) for pdu in pdus] == [1024] * 4
    assert [pdu.data_sn for pdu in pdus] == [0, 1, 2, 3]


def test_what_only_a_login_negotiates_is_refused_later(initiator: Initiator) -> None:
    initiator.send(initiator.text({"MaxBurstLength": "1024"}))
    assert parse_text(initiator.receive().data) == [("MaxBurstLength", "Reject")]


def test_a_text_request_may_come_in_parts(initiator: Initiator) -> None:
    whole = b"MaxRecvDataSegmentLength=1024\0SendTargets=\0"
    first = Pdu(wire.TEXT, wire.CONTINUE, data=whole[:20], itt=initiator.next_tag(), ttt=RESERVED_TAG)
    initiator.send(initiator.numbered(first))
    more = initiator.receive()
    assert (more.opcode, more.flags, more.data) == (wire.TEXT_RESPONSE, 0, b"")
    assert more.ttt != RESERVED_TAG
    last = Pdu(wire.TEXT, data=whole[20:], itt=first.itt, ttt=more.ttt)
    initiator.send(initiator.numbered(last))
    answer = initiator.receive()
    assert (answer.flags, answer.ttt) == (wire.FINAL, RESERVED_TAG)
    assert parse_text(answer.data)[0][0] == "TargetName"


def test_immediate_data_longer_than_the_transfer_is_refused(initiator: Initiator) -> None:
    command = initiator.command(cdb.write_10(0, 1), flags=WRITE, length=BLOCK, data=bytes(2 * BLOCK))
    assert rejected(initiator, command) == PROTOCOL_ERROR
    assert initiator.execute(cdb.unit_ready()).status == GOOD  # the window goes on


def test_a_large_pdu_that_needs_padding_is_put_together(initiator: Initiator) -> None:
    initiator.send(initiator.text({"MaxRecvDataSegmentLength": "262144"}))
    initiator.receive()
    data = pattern(200_001, 5)
    whole = bytes(initiator.nop_out(data))
    for start in range(0, len(whole), 50_000):
        initiator.socket.sendall(whole[start : start + 50_000])
    assert initiator.receive().data == data


# -- additional header segments


def ahs(kind: int, content: bytes) -> bytes:
    whole = struct.pack(">HB", len(content), kind) + content
    return whole + bytes(-len(whole) % 4)


def with_ahs(initiator: Initiator, code: bytes, segments: bytes, **options: Any) -> Pdu:
    plain = initiator.command(code[:16], **options)
    plain.ahs = segments
    return plain.set(ahs_words=len(segments) // 4)


def test_a_long_cdb_is_understood_as_a_whole(initiator: Initiator) -> None:
    variable = b"\x7f" + bytes(6) + b"\x18" + b"\xff\xff" + bytes(22)  # an unknown service action of 32 bytes
    command = with_ahs(initiator, variable, ahs(1, b"\0" + variable[16:]))
    initiator.send(command)
    assert initiator.finish(command).response.sense == (ILLEGAL_REQUEST, 0x20, 0)
    assert initiator.execute(cdb.unit_ready()).status == GOOD


def test_a_long_cdb_may_be_held_until_its_turn(initiator: Initiator) -> None:
    number = initiator.cmd_sn
    later = with_ahs(initiator, bytes(16), ahs(1, b"\0" + bytes(16)), cmd_sn=number + 1)
    first = initiator.command(cdb.unit_ready(), cmd_sn=number)
    initiator.send(later, first)
    assert [initiator.receive().itt for _each in range(2)] == [first.itt, later.itt]


def test_both_residuals_of_a_command_that_goes_both_ways_are_told(initiator: Initiator) -> None:
    data = pattern(BLOCK, 6)
    initiator.write(cdb.write_10(300, 1), data, immediate=BLOCK)
    flags = wire.FINAL | wire.READ | wire.WRITE | wire.SIMPLE
    room = ahs(2, struct.pack(">xL", 2048))
    command = with_ahs(initiator, cdb.read_10(300, 1), room, flags=flags, length=1024)
    initiator.send(command)
    outcome = initiator.finish(command)
    assert outcome.data == data
    assert outcome.response.opcode == wire.SCSI_RESPONSE
    assert outcome.residual == (wire.UNDERFLOW, 1024)  # the READ took none of the data that was announced
    assert (outcome.response.flags & 0x18, outcome.response.read_residual) == (0x08, 2048 - BLOCK)
    assert outcome.response.exp_data_sn == 1


WRONG_SEGMENTS = {"unknown type": ahs(9, bytes(5)), "a read length one way": ahs(2, bytes(5)), "zeros": bytes(8)}


@pytest.mark.parametrize("segments", WRONG_SEGMENTS.values(), ids=WRONG_SEGMENTS)
def test_header_segments_that_do_not_exist_are_refused(initiator: Initiator, segments: bytes) -> None:
    assert rejected(initiator, with_ahs(initiator, cdb.unit_ready(), segments)) == INVALID_FIELD
    assert initiator.execute(cdb.unit_ready()).status == GOOD


def test_only_commands_have_header_segments(initiator: Initiator) -> None:
    ping = initiator.nop_out()
    ping.ahs = bytes(4)
    assert rejected(initiator, ping.set(ahs_words=1)) == INVALID_FIELD


# -- what is refused at ErrorRecoveryLevel 0


@pytest.mark.parametrize(("kind", "reason"), [(0, SNACK_REJECT), (1, SNACK_REJECT), (2, DATA_ACK), (3, SNACK_REJECT)])
def test_nothing_can_be_asked_for_again(initiator: Initiator, kind: int, reason: int) -> None:
    assert rejected(initiator, Pdu(wire.SNACK, wire.FINAL | kind, itt=RESERVED_TAG, ttt=RESERVED_TAG)) == reason


# -- events


def test_a_new_lun_is_an_event_for_those_who_are_logged_in(target: Target, initiator: Initiator) -> None:
    bdev = target.engine.malloc("Event0", mebibytes=1)
    target.engine.rpc("iscsi_target_node_add_lun", name=target.name, bdev_name=bdev)
    message = initiator.receive()
    assert (message.opcode, message.async_event, message.itt) == (wire.ASYNC, 0, RESERVED_TAG)
    assert message.sense == (6, 0x3F, 0x0E)
    target.engine.rpc("bdev_malloc_delete", name=bdev)
    assert initiator.receive().sense == (6, 0x3F, 0x0E)


def test_a_dropped_connection_is_told_why(initiator: Initiator) -> None:
    initiator.send(initiator.nop_out().set(data_length=2**20))  # more than the target ever takes
    message = initiator.receive()
    assert (message.opcode, message.async_event) == (wire.ASYNC, 2)
    assert initiator.is_closed()
