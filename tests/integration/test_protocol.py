# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The full feature phase on the wire (RFC 7143 §4.2, §11), spoken PDU by PDU, and what a bad peer may send."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Iterator

import pytest
from engine_process import Target
from pdu import cdb, wire
from pdu.initiator import Closed, Initiator
from pdu.wire import RESERVED_TAG, Pdu

BLOCK = 512
ILLEGAL_REQUEST = 5
UNIT_ATTENTION = 6
GOOD, CHECK_CONDITION = 0, 2

pytestmark = pytest.mark.usefixtures("engine_survives", "others_are_served")


@pytest.fixture
def initiator(target: Target) -> Iterator[Initiator]:
    with target.login() as initiator:
        yield initiator


def pattern(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


# -- command numbering


def test_a_command_beyond_the_window_is_ignored(initiator: Initiator) -> None:  # RFC 7143 §4.2.2.1
    beyond = initiator.command(cdb.unit_ready(), cmd_sn=initiator.max_cmd_sn + 1)
    ping = initiator.nop_out(b"still here")
    initiator.send(beyond, ping)
    answer = initiator.receive()
    assert (answer.opcode, answer.itt, answer.data) == (wire.NOP_IN, ping.itt, b"still here")
    assert initiator.execute(cdb.unit_ready()).status == GOOD


def test_a_command_before_the_window_is_ignored(initiator: Initiator) -> None:
    initiator.execute(cdb.unit_ready())
    late = initiator.command(cdb.unit_ready(), cmd_sn=initiator.exp_cmd_sn - 1)
    ping = initiator.nop_out()
    initiator.send(late, ping)
    assert initiator.receive().itt == ping.itt


def test_commands_are_carried_out_in_the_order_of_their_numbers(initiator: Initiator) -> None:
    number = initiator.cmd_sn
    second = initiator.command(cdb.unit_ready(), cmd_sn=number + 1)
    first = initiator.command(cdb.unit_ready(), cmd_sn=number)
    initiator.send(second, first)
    assert [initiator.receive().itt, initiator.receive().itt] == [first.itt, second.itt]


def test_immediate_commands_take_no_number(initiator: Initiator) -> None:
    expected = initiator.exp_cmd_sn
    command = initiator.command(cdb.unit_ready(), immediate=True)
    initiator.send(command)
    assert initiator.finish(command).response.exp_cmd_sn == expected


def test_a_command_moves_the_window_by_one(initiator: Initiator) -> None:
    before = (initiator.exp_cmd_sn, initiator.max_cmd_sn)
    response = initiator.execute(cdb.unit_ready()).response
    assert (response.exp_cmd_sn, response.max_cmd_sn) == (before[0] + 1, before[1] + 1)


def test_status_numbers_count_answers(initiator: Initiator) -> None:
    first, second = (initiator.execute(cdb.unit_ready()).response.stat_sn for _each in range(2))
    assert second == first + 1


def test_many_commands_in_one_segment_are_all_answered_in_order(initiator: Initiator) -> None:
    commands = [
        initiator.command(cdb.read_10(lba, 1), flags=wire.FINAL | wire.READ | wire.SIMPLE, length=BLOCK)
        for lba in range(32)
    ]
    initiator.send(*commands)
    assert [initiator.finish(command).status for command in commands] == [GOOD] * 32


def test_a_command_may_arrive_byte_by_byte(initiator: Initiator) -> None:
    command = initiator.command(cdb.unit_ready())
    for byte in bytes(command):
        initiator.send(bytes([byte]))
    assert initiator.finish(command).status == GOOD


# -- NOP, text, logout


@pytest.mark.parametrize("size", [0, 1, 3, 4, 1000])
def test_a_ping_returns_its_data(initiator: Initiator, size: int) -> None:
    ping = initiator.nop_out(pattern(size))
    initiator.send(ping)
    answer = initiator.receive()
    assert (answer.opcode, answer.itt, answer.ttt, answer.data) == (wire.NOP_IN, ping.itt, RESERVED_TAG, ping.data)


def test_a_ping_may_take_a_command_number(initiator: Initiator) -> None:
    initiator.send(initiator.nop_out(b"numbered", immediate=False))
    assert initiator.receive().data == b"numbered"
    assert initiator.execute(cdb.unit_ready()).status == GOOD


def test_a_nop_with_the_reserved_tag_is_not_answered(initiator: Initiator) -> None:
    silent = initiator.nop_out(b"hush").set(itt=RESERVED_TAG)
    ping = initiator.nop_out(b"answer me")
    initiator.send(silent, ping)
    assert initiator.receive().data == b"answer me"


def test_a_long_ping_comes_back_no_longer_than_the_initiator_takes(target: Target) -> None:
    with target.login(MaxRecvDataSegmentLength="512") as initiator:
        initiator.send(initiator.nop_out(pattern(2048)))
        assert initiator.receive().data == pattern(2048)[:512]


def test_logout_ends_the_connection(initiator: Initiator) -> None:
    request = initiator.logout()
    initiator.send(request)
    answer = initiator.receive()
    assert (answer.opcode, answer.itt, answer.response) == (wire.LOGOUT_RESPONSE, request.itt, 0)
    assert initiator.is_closed()


def test_the_same_initiator_logging_in_again_replaces_its_session(target: Target) -> None:  # RFC 7143 §6.3.5
    with target.login() as first, target.login() as second:
        assert first.is_closed()
        assert second.execute(cdb.unit_ready()).response.sense == (UNIT_ATTENTION, 0x29, 0x07)  # I_T nexus loss
        assert second.execute(cdb.unit_ready()).status == GOOD


# -- reading


def test_a_read_comes_in_pdus_no_longer_than_the_initiator_takes(target: Target) -> None:
    data = pattern(16 * BLOCK)
    with target.login(MaxRecvDataSegmentLength="1024", MaxBurstLength="4096", FirstBurstLength="4096") as initiator:
        initiator.write(cdb.write_10(100, 16), data)
        outcome = initiator.read(cdb.read_10(100, 16), len(data))
    assert outcome.data == data
    arrived = [pdu for pdu in outcome.pdus if pdu.opcode == wire.DATA_IN]
    assert [len(pdu.data) for pdu in arrived] == [1024] * 8
    assert [pdu.data_sn for pdu in arrived] == list(range(8))
    assert [pdu.buffer_offset for pdu in arrived] == list(range(0, 8192, 1024))
    assert [pdu.final for pdu in arrived] == [False, False, False, True] * 2


def test_good_status_comes_with_the_last_data(initiator: Initiator) -> None:
    outcome = initiator.read(cdb.read_10(0, 8), 8 * BLOCK)
    assert [pdu.opcode for pdu in outcome.pdus] == [wire.DATA_IN]
    assert outcome.status == GOOD


def test_a_read_shorter_than_expected_says_so(initiator: Initiator) -> None:
    outcome = initiator.read(cdb.read_10(0, 1), 3 * BLOCK)
    assert (len(outcome.data), outcome.residual) == (BLOCK, (wire.UNDERFLOW, 2 * BLOCK))


def test_a_read_longer_than_expected_is_cut_and_says_so(initiator: Initiator) -> None:
    outcome = initiator.read(cdb.read_10(0, 4), BLOCK)
    assert (len(outcome.data), outcome.residual) == (BLOCK, (wire.OVERFLOW, 3 * BLOCK))


@pytest.mark.parametrize("read", [cdb.read_10, cdb.read_16])
def test_a_read_beyond_the_end_is_refused(initiator: Initiator, read: type) -> None:
    blocks = 64 * 2**20 // BLOCK
    outcome = initiator.read(read(blocks - 1, 2), 2 * BLOCK)
    assert (outcome.status, outcome.data, outcome.response.sense) == (CHECK_CONDITION, b"", (ILLEGAL_REQUEST, 0x21, 0))


# -- writing


@pytest.mark.parametrize("immediate", [0, BLOCK, 4 * BLOCK])
@pytest.mark.parametrize("unsolicited", [0, 2 * BLOCK])
def test_a_write_asks_for_exactly_what_was_not_sent(target: Target, immediate: int, unsolicited: int) -> None:
    data = pattern(64 * BLOCK, immediate + unsolicited)
    first_burst = str(max(BLOCK, immediate + unsolicited))
    with target.login(FirstBurstLength=first_burst, MaxBurstLength="8192") as initiator:
        outcome = initiator.write(cdb.write_10(200, 64), data, immediate=immediate, unsolicited=unsolicited)
        assert outcome.status == GOOD
        assert initiator.read(cdb.read_10(200, 64), len(data)).data == data
    wanted = [(pdu.buffer_offset, pdu.desired_length) for pdu in outcome.pdus if pdu.opcode == wire.R2T]
    sent = immediate + unsolicited
    assert wanted == [(offset, min(8192, len(data) - offset)) for offset in range(sent, len(data), 8192)]


def test_a_write_without_unsolicited_data_is_asked_for_in_bursts(target: Target) -> None:
    data = pattern(40 * BLOCK)
    with target.login(
        InitialR2T="Yes", ImmediateData="No", MaxBurstLength="8192", FirstBurstLength="8192"
    ) as initiator:
        outcome = initiator.write(cdb.write_10(300, 40), data)
        assert initiator.read(cdb.read_10(300, 40), len(data)).data == data
    r2ts = [pdu for pdu in outcome.pdus if pdu.opcode == wire.R2T]
    assert [(pdu.r2t_sn, pdu.buffer_offset, pdu.desired_length) for pdu in r2ts] == [
        (0, 0, 8192),
        (1, 8192, 8192),
        (2, 16384, 4096),
    ]
    assert RESERVED_TAG not in {pdu.ttt for pdu in r2ts}


def test_a_write_within_the_first_burst_needs_no_asking(initiator: Initiator) -> None:
    data = pattern(64 * BLOCK)
    outcome = initiator.write(cdb.write_16(400, 64), data, immediate=4096, unsolicited=len(data) - 4096)
    assert [pdu.opcode for pdu in outcome.pdus] == [wire.SCSI_RESPONSE]
    assert initiator.read(cdb.read_16(400, 64), len(data)).data == data


def test_unsolicited_data_may_come_in_many_pdus(initiator: Initiator) -> None:
    data = pattern(8 * BLOCK)
    command = initiator.command(cdb.write_10(500, 8), flags=wire.WRITE | wire.SIMPLE, length=len(data))
    pieces = [
        initiator.data_out(
            command.itt,
            RESERVED_TAG,
            number * BLOCK,
            data[number * BLOCK : (number + 1) * BLOCK],
            data_sn=number,
            final=number == 7,
        )
        for number in range(8)
    ]
    initiator.send(command, *pieces)
    assert initiator.finish(command).status == GOOD
    assert initiator.read(cdb.read_10(500, 8), len(data)).data == data


def test_two_writes_whose_data_interleave_do_not_mix(target: Target) -> None:
    one, two = pattern(16 * BLOCK, 1), pattern(16 * BLOCK, 2)
    with target.login(InitialR2T="Yes", ImmediateData="No") as initiator:
        flags = wire.FINAL | wire.WRITE | wire.SIMPLE
        commands = [initiator.command(cdb.write_10(lba, 16), flags=flags, length=len(one)) for lba in (600, 616)]
        initiator.send(*commands)
        requests = {request.itt: request for request in (initiator.receive(), initiator.receive())}
        assert {request.opcode for request in requests.values()} == {wire.R2T}
        bursts = [
            [
                initiator.data_out(command.itt, requests[command.itt].ttt, n * BLOCK, block, data_sn=n, final=n == 15)
                for n, block in enumerate(data[at : at + BLOCK] for at in range(0, len(data), BLOCK))
            ]
            for command, data in zip(commands, (one, two))
        ]
        initiator.send(*(pdu for pair in zip(*bursts) for pdu in pair))
        assert sorted((initiator.receive().itt, initiator.receive().itt)) == sorted(command.itt for command in commands)
        assert initiator.read(cdb.read_10(600, 32), 32 * BLOCK).data == one + two


def test_a_write_of_less_than_announced_says_so(initiator: Initiator) -> None:
    outcome = initiator.write(cdb.write_10(700, 1), pattern(2 * BLOCK), immediate=2 * BLOCK)
    assert (outcome.status, outcome.residual) == (GOOD, (wire.UNDERFLOW, BLOCK))


def test_a_write_of_more_than_announced_says_so(initiator: Initiator) -> None:
    outcome = initiator.write(cdb.write_10(700, 4), pattern(BLOCK), immediate=BLOCK)
    assert outcome.residual == (wire.OVERFLOW, 3 * BLOCK)


def test_a_write_of_no_blocks_is_good(initiator: Initiator) -> None:
    outcome = initiator.write(cdb.write_10(0, 0), b"")
    assert (outcome.status, outcome.residual) == (GOOD, (0, 0))


def test_a_write_beyond_the_end_is_refused_and_its_data_swallowed(initiator: Initiator) -> None:
    blocks = 64 * 2**20 // BLOCK
    outcome = initiator.write(cdb.write_10(blocks - 1, 4), pattern(4 * BLOCK), immediate=BLOCK, unsolicited=3 * BLOCK)
    assert (outcome.status, outcome.response.sense) == (CHECK_CONDITION, (ILLEGAL_REQUEST, 0x21, 0))
    assert initiator.execute(cdb.unit_ready()).status == GOOD


def test_a_read_sees_the_write_before_it_in_the_same_segment(initiator: Initiator) -> None:
    data = pattern(BLOCK, 77)
    write = initiator.command(
        cdb.write_10(800, 1), flags=wire.FINAL | wire.WRITE | wire.SIMPLE, length=BLOCK, data=data
    )
    read = initiator.command(cdb.read_10(800, 1), flags=wire.FINAL | wire.READ | wire.SIMPLE, length=BLOCK)
    initiator.send(write, read)
    assert initiator.finish(write).status == GOOD
    assert initiator.finish(read).data == data


def test_a_read_keeps_what_it_read_when_a_write_follows(target: Target) -> None:
    """Reads whose data still waits in the socket are not overtaken by a later write to the same blocks."""
    before, after = pattern(512 * BLOCK, 1), pattern(512 * BLOCK, 2)
    with target.login(FirstBurstLength="262144") as initiator:
        initiator.write(cdb.write_10(1000, 512), before, immediate=len(before))
        reads = [
            initiator.command(cdb.read_10(1000, 512), flags=wire.FINAL | wire.READ | wire.SIMPLE, length=len(before))
            for _each in range(16)
        ]
        write = initiator.command(
            cdb.write_10(1000, 512), flags=wire.FINAL | wire.WRITE | wire.SIMPLE, length=len(after), data=after
        )
        initiator.send(*reads, write)
        outcomes = [initiator.finish(command) for command in (*reads, write)]
        assert {outcome.data for outcome in outcomes[:-1]} == {before}
        assert initiator.read(cdb.read_10(1000, 512), len(after)).data == after


# -- what a bad peer sends


@pytest.mark.parametrize("opcode", [0x07, 0x0F, 0x11, 0x1C, 0x1F, 0x3E])
def test_an_unknown_opcode_is_rejected_with_its_header(initiator: Initiator, opcode: int) -> None:  # RFC 7143 §11.17
    strange = Pdu(opcode, immediate=True, itt=77, cmd_sn=initiator.cmd_sn, exp_stat_sn=initiator.exp_stat_sn)
    initiator.send(strange)
    answer = initiator.receive()
    assert (answer.opcode, answer.reason, answer.itt, answer.data) == (wire.REJECT, 5, RESERVED_TAG, bytes(strange))
    assert initiator.execute(cdb.unit_ready()).status == GOOD


def test_an_unknown_scsi_command_gets_sense_data(initiator: Initiator) -> None:
    outcome = initiator.execute(b"\xfe" + bytes(15))
    assert (outcome.status, outcome.response.sense) == (CHECK_CONDITION, (ILLEGAL_REQUEST, 0x20, 0))


def test_a_lun_that_is_not_there_gets_sense_data(initiator: Initiator) -> None:
    outcome = initiator.execute(cdb.unit_ready(), lun=9)
    assert (outcome.status, outcome.response.sense) == (CHECK_CONDITION, (ILLEGAL_REQUEST, 0x25, 0))


def test_inquiry_of_a_lun_that_is_not_there_says_so(initiator: Initiator) -> None:
    outcome = initiator.read(cdb.inquiry(), 255, lun=9)
    assert (outcome.status, outcome.data[0]) == (GOOD, 0x7F)


@pytest.mark.parametrize("length", [0xFFFFFF, 2**20])
def test_a_data_segment_longer_than_declared_ends_the_connection(initiator: Initiator, length: int) -> None:
    initiator.send(initiator.nop_out().set(data_length=length))
    assert initiator.is_closed()


@pytest.mark.parametrize("sent", [1, 47, 48, 60])
def test_a_connection_that_ends_within_a_pdu_is_forgotten(target: Target, sent: int) -> None:
    with target.login() as initiator:
        initiator.send(bytes(initiator.nop_out(pattern(100)))[:sent])


def test_a_connection_that_ends_within_a_write_writes_nothing_more(target: Target) -> None:
    data = pattern(64 * BLOCK, 5)
    with target.login() as initiator:
        initiator.write(cdb.write_10(2000, 64), data, immediate=len(data))
    with target.login(InitialR2T="Yes", ImmediateData="No") as initiator:
        initiator.send(
            initiator.command(cdb.write_10(2000, 64), flags=wire.FINAL | wire.WRITE | wire.SIMPLE, length=len(data))
        )
        r2t = initiator.receive()
        initiator.send(initiator.data_out(r2t.itt, r2t.ttt, 0, bytes(BLOCK), data_sn=0, final=False))
    with target.login() as initiator:
        assert initiator.read(cdb.read_10(2001, 63), 63 * BLOCK).data == data[BLOCK:]


@pytest.mark.parametrize(
    ("field", "value"),
    [("data_sn", 5), ("buffer_offset", BLOCK), ("buffer_offset", 2**31), ("ttt", 0x1234)],
)
def test_data_that_does_not_fit_its_request_is_not_written(target: Target, field: str, value: int) -> None:
    data = pattern(8 * BLOCK, 6)
    with target.login() as initiator:
        initiator.write(cdb.write_10(2100, 8), data, immediate=len(data))
        initiator.send(
            initiator.command(cdb.write_10(2100, 8), flags=wire.FINAL | wire.WRITE | wire.SIMPLE, length=len(data))
        )
        r2t = initiator.receive()
        wrong = initiator.data_out(r2t.itt, r2t.ttt, 0, bytes(8 * BLOCK), data_sn=0, final=True).set(**{field: value})
        initiator.send(wrong)
        assert initiator.is_rejected_or_closed()
    with target.login() as initiator:
        assert initiator.read(cdb.read_10(2100, 8), len(data)).data == data


def test_more_data_than_the_first_burst_is_not_written(target: Target) -> None:
    data = pattern(8 * BLOCK, 7)
    with target.login() as initiator:
        initiator.write(cdb.write_10(2200, 8), data, immediate=len(data))
    with target.login(FirstBurstLength="512") as initiator:
        command = initiator.command(cdb.write_10(2200, 8), flags=wire.WRITE | wire.SIMPLE, length=len(data))
        initiator.send(
            command, initiator.data_out(command.itt, RESERVED_TAG, 0, bytes(8 * BLOCK), data_sn=0, final=True)
        )
        assert initiator.is_rejected_or_closed()
    with target.login() as initiator:
        assert initiator.read(cdb.read_10(2200, 8), len(data)).data == data


def test_immediate_data_that_was_not_agreed_is_not_written(target: Target) -> None:
    data = pattern(BLOCK, 8)
    with target.login() as initiator:
        initiator.write(cdb.write_10(2300, 1), data, immediate=BLOCK)
    with target.login(ImmediateData="No") as initiator:
        initiator.send(
            initiator.command(
                cdb.write_10(2300, 1), flags=wire.FINAL | wire.WRITE | wire.SIMPLE, length=BLOCK, data=bytes(BLOCK)
            )
        )
        with contextlib.suppress(Closed):
            assert initiator.receive().opcode in (wire.REJECT, wire.SCSI_RESPONSE)
    with target.login() as initiator:
        assert initiator.read(cdb.read_10(2300, 1), BLOCK).data == data


def test_data_for_no_command_is_dropped(
    initiator: Initiator,
) -> None:  # it may belong to an aborted task: RFC 7143 §11.5.1
    ping = initiator.nop_out(b"still here")
    initiator.send(initiator.data_out(0x4711, 0x4711, 0, bytes(BLOCK), data_sn=0, final=True), ping)
    assert initiator.receive().data == b"still here"


def test_a_tag_in_use_is_refused(target: Target) -> None:
    with target.login(InitialR2T="Yes", ImmediateData="No") as initiator:
        flags = wire.FINAL | wire.WRITE | wire.SIMPLE
        first = initiator.command(cdb.write_10(0, 1), flags=flags, length=BLOCK)
        initiator.send(first)
        assert initiator.receive().opcode == wire.R2T
        initiator.send(initiator.command(cdb.unit_ready()).set(itt=first.itt))
        assert initiator.is_rejected_or_closed()


def test_a_second_login_on_a_session_is_refused(initiator: Initiator) -> None:
    initiator.send(initiator.login_pdu({"InitiatorName": initiator.name}))
    assert initiator.is_rejected_or_closed()


def test_random_headers_harm_one_connection_at_most(target: Target) -> None:
    chance = random.Random(20261101)
    with target.connect(isid=bytes.fromhex("8000000000aa")).login(target.name) as witness:
        for _each in range(150):
            with target.login() as initiator:
                header = bytearray(chance.randbytes(48))
                header[0] &= 0x7F
                if chance.random() < 0.7:
                    header[0] = chance.choice([0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x10]) | chance.choice(
                        [0, wire.IMMEDIATE]
                    )
                    header[24:28] = struct.pack(">L", initiator.cmd_sn)
                header[4:8] = bytes([0, 0, 0, chance.choice([0, 0, 4, 200])])
                initiator.send(bytes(header) + chance.randbytes(header[7]))
            assert witness.execute(cdb.unit_ready()).status == GOOD


def test_random_bytes_instead_of_a_login_harm_nobody(target: Target) -> None:
    chance = random.Random(20261102)
    for _each in range(50):
        with target.connect() as initiator:
            initiator.send(chance.randbytes(chance.choice([1, 48, 300])))


def test_idle_connections_do_not_keep_others_out(target: Target) -> None:
    waiting = [target.connect() for _each in range(50)]
    try:
        with target.login() as initiator:
            assert initiator.execute(cdb.unit_ready()).status == GOOD
    finally:
        for connection in waiting:
            connection.close()
