# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that a disk is working on when they are aborted, logged out or left behind: none lands late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi import logout
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.unit import UnitState
from engine_process import eventually
from in_process import TargetInProcess
from pdu import cdb, wire
from pdu.initiator import Initiator
from pdu.joined import Joined
from pdu.wire import Pdu

BLOCK = 512
GOOD = 0
UNIT_ATTENTION = 6
ABORT_TASK, ABORT_TASK_SET, CLEAR_TASK_SET, LUN_RESET, WARM_RESET, COLD_RESET = 1, 2, 4, 5, 6, 7
QUERY_TASK, QUERY_TASK_SET, NEXUS_RESET, QUERY_ASYNC_EVENT = 9, 10, 11, 12
COMPLETE, NO_TASK, NO_LUN, SUCCEEDED = 0, 1, 2, 7
OTHER = "iqn.2016-06.io.example:other"
SHORT = 0.2
"""Seconds to wait for what must not come."""


@pytest.fixture
def target() -> Iterator[TargetInProcess]:
    with TargetInProcess() as target:
        yield target


@pytest.fixture
def initiator(target: TargetInProcess) -> Iterator[Initiator]:
    with target.login(MaxConnections="2") as initiator:
        yield initiator


def write_pdu(initiator: Initiator, lba: int, data: bytes, **options: Any) -> Pdu:
    flags = wire.FINAL | wire.WRITE | wire.SIMPLE
    return initiator.command(cdb.write_10(lba, 1), flags=flags, length=BLOCK, data=data, **options)


def working_write(target: TargetInProcess, initiator: Initiator, lba: int, data: bytes, count: int = 1) -> Pdu:
    """A WRITE that the disk does not finish before it is released."""
    target.hold()
    command = write_pdu(initiator, lba, data)
    initiator.send(command)
    target.wait_until_working(count)
    return command


def block(initiator: Initiator, lba: int) -> bytes:
    return initiator.read(cdb.read_10(lba, 1), BLOCK).data


def assert_silent(initiator: Initiator) -> None:
    """Nothing comes for a moment: the target is waiting."""
    initiator.socket.settimeout(SHORT)
    with pytest.raises(TimeoutError):
        initiator.receive()
    initiator.socket.settimeout(3)


def answer_ping(initiator: Initiator) -> None:
    """Receive a NOP-In of the target's own, and tell what has arrived so far."""
    ping = initiator.receive()
    assert (ping.opcode, ping.itt) == (wire.NOP_IN, wire.RESERVED_TAG)
    reply = Pdu(wire.NOP_OUT, immediate=True, itt=wire.RESERVED_TAG, ttt=ping.ttt)
    initiator.send(reply.set(cmd_sn=initiator.cmd_sn, exp_stat_sn=initiator.exp_stat_sn))


def response(initiator: Initiator, request: Pdu) -> int:
    answer = initiator.receive()
    assert (answer.opcode, answer.itt) == (wire.TASK_RESPONSE, request.itt)
    return answer.response


@pytest.mark.parametrize("function", [ABORT_TASK, ABORT_TASK_SET, CLEAR_TASK_SET, LUN_RESET, WARM_RESET, NEXUS_RESET])
def test_an_abort_is_answered_when_the_write_has_come_to_rest(
    target: TargetInProcess, initiator: Initiator, function: int
) -> None:
    command = working_write(target, initiator, 10, b"a" * BLOCK)
    tag = command.itt if function == ABORT_TASK else wire.RESERVED_TAG
    request = initiator.task_request(function, ref_task_tag=tag)
    initiator.send(request)
    assert_silent(initiator)
    target.release()
    assert response(initiator, request) == COMPLETE  # and the write itself is never answered
    if function == NEXUS_RESET:
        assert initiator.execute(cdb.unit_ready()).response.sense == (UNIT_ATTENTION, 0x29, 0x07)
    if function in (LUN_RESET, WARM_RESET):  # who asked for a reset is told of it as well
        assert initiator.execute(cdb.unit_ready()).response.sense == (UNIT_ATTENTION, 0x29, 0x03)
    assert initiator.write(cdb.write_10(10, 1), b"b" * BLOCK, immediate=BLOCK).status == GOOD
    assert block(initiator, 10) == b"b" * BLOCK


def test_an_aborted_command_gives_its_place_in_the_window_back_once(
    target: TargetInProcess, initiator: Initiator
) -> None:
    before = initiator.max_cmd_sn - initiator.exp_cmd_sn
    command = working_write(target, initiator, 10, b"a" * BLOCK)
    requests = [initiator.task_request(ABORT_TASK, ref_task_tag=command.itt) for _each in range(2)]
    initiator.send(*requests)
    target.release()
    assert [response(initiator, request) for request in requests] == [COMPLETE, COMPLETE]
    assert initiator.max_cmd_sn - initiator.exp_cmd_sn == before


def test_after_a_logout_nothing_lands_any_more(target: TargetInProcess, initiator: Initiator) -> None:
    command = working_write(target, initiator, 20, b"l" * BLOCK)
    request = initiator.logout()
    initiator.send(request)
    assert_silent(initiator)
    target.release()
    assert initiator.finish(command).status == GOOD  # what was being done is done and told
    assert initiator.receive().opcode == wire.LOGOUT_RESPONSE
    assert initiator.is_closed()


def test_a_logout_that_cannot_be_waited_for_says_so(
    target: TargetInProcess, initiator: Initiator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logout, "_CLEAN_UP_SECONDS", 0.1)
    working_write(target, initiator, 21, b"l" * BLOCK)
    initiator.send(initiator.logout())
    answer = initiator.receive()
    assert (answer.opcode, answer.response) == (wire.LOGOUT_RESPONSE, 3)  # clean-up failed
    assert initiator.is_closed()


@pytest.mark.parametrize("same_isid", [True, False], ids=["reinstatement", "another session"])
def test_who_comes_back_is_served_after_what_it_left_behind(
    target: TargetInProcess, initiator: Initiator, same_isid: bool
) -> None:
    working_write(target, initiator, 30, b"old." * (BLOCK // 4))
    initiator.close()
    isid = initiator.isid if same_isid else bytes.fromhex("800000000009")
    with target.connect(isid=isid).login(target.name) as again:
        anew = write_pdu(again, 30, b"new." * (BLOCK // 4))
        again.send(anew)
        assert_silent(again)
        target.release()
        assert again.finish(anew).status == GOOD
        assert block(again, 30) == b"new." * (BLOCK // 4)


def test_others_and_other_units_are_served_meanwhile(target: TargetInProcess, initiator: Initiator) -> None:
    working_write(target, initiator, 30, b"o" * BLOCK)
    initiator.close()
    with target.connect(name=OTHER).login(target.name) as other, target.login() as again:
        assert other.execute(cdb.unit_ready()).status == GOOD
        assert again.execute(cdb.unit_ready(), lun=1).status in (GOOD, 2)  # or a unit attention, at once
        late = again.command(cdb.unit_ready())
        again.send(late)
        assert_silent(again)
        target.release()
        again.finish(late)


def test_another_path_of_the_initiator_waits_for_what_a_lost_one_left_behind(
    target: TargetInProcess, initiator: Initiator
) -> None:
    with target.connect(isid=bytes.fromhex("800000000009")).login(target.name) as path:
        working_write(target, initiator, 31, b"old." * (BLOCK // 4))
        initiator.close()
        eventually(lambda: target.call(lambda: len(target.iscsi.sessions.connections)) == 1, "the lost connection")
        anew = write_pdu(path, 31, b"new." * (BLOCK // 4))
        path.send(anew)
        assert_silent(path)
        target.release()
        assert path.finish(anew).status == GOOD
        assert block(path, 31) == b"new." * (BLOCK // 4)


def test_what_waits_behind_a_lost_path_can_be_aborted(target: TargetInProcess, initiator: Initiator) -> None:
    with target.connect(isid=bytes.fromhex("800000000009")).login(target.name) as path:
        working_write(target, initiator, 32, b"old." * (BLOCK // 4))
        initiator.close()
        eventually(lambda: target.call(lambda: len(target.iscsi.sessions.connections)) == 1, "the lost connection")
        anew = write_pdu(path, 32, b"new." * (BLOCK // 4))
        request = path.task_request(ABORT_TASK, ref_task_tag=anew.itt)
        path.send(anew, request)
        assert_silent(path)
        target.release()
        assert response(path, request) == COMPLETE
        assert block(path, 32) == b"old." * (BLOCK // 4)


def test_a_reset_waits_for_what_others_left_behind(target: TargetInProcess, initiator: Initiator) -> None:
    with target.connect(name=OTHER).login(target.name) as other:
        working_write(target, other, 33, b"o" * BLOCK)
    eventually(lambda: target.call(lambda: len(target.iscsi.sessions.connections)) == 1, "the lost connection")
    request = initiator.task_request(LUN_RESET)
    initiator.send(request)
    assert_silent(initiator)
    target.release()
    assert response(initiator, request) == COMPLETE


# -- many tasks


def test_a_clear_task_set_clears_the_commands_of_others_and_tells_them(
    target: TargetInProcess, initiator: Initiator
) -> None:
    with target.connect(name=OTHER).login(target.name) as other:
        working_write(target, other, 40, b"o" * BLOCK)
        request = initiator.task_request(CLEAR_TASK_SET)
        initiator.send(request)
        target.release()
        assert response(initiator, request) == COMPLETE
        assert other.execute(cdb.unit_ready()).response.sense == (UNIT_ATTENTION, 0x2F, 0x00)
        assert other.execute(cdb.unit_ready()).status == GOOD


def test_an_abort_task_set_does_not_touch_the_commands_of_others(target: TargetInProcess, initiator: Initiator) -> None:
    with target.connect(name=OTHER).login(target.name) as other:
        theirs = working_write(target, other, 41, b"t" * BLOCK)
        request = initiator.task_request(ABORT_TASK_SET)
        initiator.send(request)
        assert response(initiator, request) == COMPLETE
        target.release()
        assert other.finish(theirs).status == GOOD


def test_a_request_about_many_tasks_waits_for_the_commands_before_it(
    target: TargetInProcess, initiator: Initiator
) -> None:  # RFC 7143 §4.2.3.3
    with Joined(initiator, 1) as second:
        second.join(target.name)
        target.hold()
        number = initiator.cmd_sn
        request = initiator.task_request(ABORT_TASK_SET).set(cmd_sn=number + 2)
        initiator.send(request)
        assert_silent(initiator)
        second.send(
            write_pdu(second, 50, b"1" * BLOCK, cmd_sn=number), write_pdu(second, 51, b"2" * BLOCK, cmd_sn=number + 1)
        )
        later = write_pdu(second, 52, b"3" * BLOCK, cmd_sn=number + 2)
        second.send(later)
        target.wait_until_working(3)
        target.release()
        assert second.finish(later).status == GOOD  # the only one that was sent after the request
        answer_ping(second)  # its answers have to arrive before that to the request: the response fence
        assert response(initiator, request) == COMPLETE
        second.send(second.nop_out(b"after it"))
        assert_silent(second)  # until the initiator has the answer
        answer_ping(initiator)
        assert second.receive().data == b"after it"


def test_a_reset_is_answered_when_what_it_changed_outlives_the_process(
    target: TargetInProcess, initiator: Initiator, monkeypatch: pytest.MonkeyPatch
) -> None:
    futures: list[asyncio.Future[None]] = []

    def changed(_unit: UnitState) -> Awaitable[None]:
        futures.append(asyncio.get_running_loop().create_future())
        return futures[-1]

    monkeypatch.setattr(UnitState, "changed", changed)
    request = initiator.task_request(LUN_RESET)
    initiator.send(request)
    assert_silent(initiator)
    target.call(lambda: futures[0].set_result(None))
    assert response(initiator, request) == COMPLETE


def test_a_target_reset_does_not_wait_for_commands_before_it(initiator: Initiator) -> None:
    number = initiator.cmd_sn
    request = initiator.task_request(WARM_RESET).set(cmd_sn=number + 2)
    initiator.send(request)
    assert response(initiator, request) == COMPLETE
    initiator.send(write_pdu(initiator, 60, b"x" * BLOCK, cmd_sn=number))  # it counts as received, and aborted
    initiator.cmd_sn = number + 2
    assert initiator.execute(cdb.unit_ready()).response.sense == (UNIT_ATTENTION, 0x29, 0x03)
    assert block(initiator, 60) == bytes(BLOCK)


def test_an_abort_overtaking_its_command_keeps_it_from_being_carried_out(
    initiator: Initiator,
) -> None:  # RFC 7143 §11.6.1
    number = initiator.cmd_sn
    command = write_pdu(initiator, 61, b"x" * BLOCK, cmd_sn=number)
    request = initiator.task_request(ABORT_TASK, ref_task_tag=command.itt).set(cmd_sn=number + 1, ref_cmd_sn=number)
    initiator.send(request)
    assert response(initiator, request) == COMPLETE
    initiator.send(command)
    initiator.cmd_sn = number + 1
    assert block(initiator, 61) == bytes(BLOCK)


def test_a_cold_reset_ends_the_sessions_of_everybody(target: TargetInProcess, initiator: Initiator) -> None:
    with target.connect(name=OTHER).login(target.name) as other:
        request = initiator.task_request(COLD_RESET)
        initiator.send(request)
        assert response(initiator, request) == COMPLETE
        for each in (initiator, other):
            message = each.receive()
            assert (message.opcode, message.async_event) == (wire.ASYNC, 3)
            assert each.is_closed()


# -- asking


def test_a_task_that_is_there_can_be_asked_about(target: TargetInProcess, initiator: Initiator) -> None:
    command = working_write(target, initiator, 70, b"q" * BLOCK)
    for request, expected in (
        (initiator.task_request(QUERY_TASK, ref_task_tag=command.itt), SUCCEEDED),
        (initiator.task_request(QUERY_TASK, ref_task_tag=0x4711), COMPLETE),
        (initiator.task_request(QUERY_TASK_SET), SUCCEEDED),
        (initiator.task_request(QUERY_TASK_SET, lun=9), NO_LUN),
    ):
        initiator.send(request)
        assert response(initiator, request) == expected
    target.release()
    assert initiator.finish(command).status == GOOD
    request = initiator.task_request(QUERY_TASK_SET)
    initiator.send(request)
    assert response(initiator, request) == COMPLETE


def test_a_waiting_unit_attention_can_be_asked_about(target: TargetInProcess, initiator: Initiator) -> None:
    request = initiator.task_request(QUERY_ASYNC_EVENT)
    initiator.send(request)
    assert response(initiator, request) == COMPLETE
    with target.connect(name=OTHER).login(target.name) as other:
        reset = other.task_request(LUN_RESET)
        other.send(reset)
        assert response(other, reset) == COMPLETE
    request = initiator.task_request(QUERY_ASYNC_EVENT)
    initiator.send(request)
    answer = initiator.receive()
    assert (answer.response, bytes(answer.header[8:11])) == (SUCCEEDED, bytes([0x16, 0x29, 0x03]))  # RFC 7144 §6.2


# -- limits


def test_immediate_commands_are_bounded(target: TargetInProcess, initiator: Initiator) -> None:
    target.hold()
    commands = [write_pdu(initiator, 100 + number, b"i" * BLOCK, immediate=True) for number in range(80)]
    initiator.send(*commands)
    rejected = initiator.receive()
    assert (rejected.opcode, rejected.reason) == (wire.REJECT, 6)
    target.release()
    answers = [initiator.receive() for _each in range(79)]
    assert {answer.opcode for answer in answers} == {wire.REJECT, wire.SCSI_RESPONSE}


def test_a_peer_whose_reads_take_much_memory_has_to_wait(target: TargetInProcess, initiator: Initiator) -> None:
    target.hold()
    size = 8 * 2**20
    commands = [
        initiator.command(cdb.read_10(0, size // BLOCK), flags=wire.FINAL | wire.READ | wire.SIMPLE, length=size)
        for _each in range(12)
    ]
    initiator.send(*commands)
    target.wait_until_working(9)  # more than 64 MiB
    assert_silent(initiator)
    assert target.call(lambda: target.disk.working) == 9
    target.release()
    for command in commands:
        assert len(initiator.finish(command).data) == size


def test_a_peer_that_reads_nothing_is_dropped() -> None:
    with TargetInProcess(nop_timeout=1, nop_in_interval=0) as target, target.login() as initiator:
        size = 2**20
        flags = wire.FINAL | wire.READ | wire.SIMPLE
        initiator.send(
            *(initiator.command(cdb.read_10(0, size // BLOCK), flags=flags, length=size) for _each in range(60))
        )
        eventually(lambda: not target.call(lambda: target.iscsi.sessions.connections), "the end of the connection")


def test_a_peer_that_reads_nothing_has_to_wait(target: TargetInProcess, initiator: Initiator) -> None:
    size = 2**20
    commands = [
        initiator.command(cdb.read_10(0, size // BLOCK), flags=wire.FINAL | wire.READ | wire.SIMPLE, length=size)
        for _each in range(60)
    ]
    initiator.send(*commands)

    def queued() -> int:
        return target.call(lambda: max(each.out_bytes for each in target.iscsi.sessions.connections))

    eventually(lambda: queued() > 4 * 2**20, "a full queue")
    assert queued() < 24 * 2**20
    for command in commands:
        assert len(initiator.finish(command).data) == size
