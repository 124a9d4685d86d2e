# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Aborting commands and resetting logical units on the wire (RFC 7143 §11.5), and changes under live sessions."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from engine_process import Target
from pdu import cdb, wire
from pdu.initiator import Initiator
from pdu.wire import Pdu

BLOCK = 512
GOOD = 0
UNIT_ATTENTION = 6
RESET = (UNIT_ATTENTION, 0x29, 0x03)
"""Everybody is told, whoever asked for it: SAM-5 §6.3.3."""
ABORT_TASK, ABORT_TASK_SET, LUN_RESET, TARGET_WARM_RESET, TASK_REASSIGN = 1, 2, 5, 6, 8
COMPLETE, NO_TASK, NO_LUN, CANNOT_REASSIGN, NOT_SUPPORTED = 0, 1, 2, 4, 5

OTHER = "iqn.2016-06.io.example:other"


@pytest.fixture
def initiator(target: Target) -> Iterator[Initiator]:
    """One whose WRITEs wait for an R2T."""
    with target.login(InitialR2T="Yes", ImmediateData="No") as initiator:
        yield initiator


def waiting_write(initiator: Initiator, lba: int) -> tuple[Pdu, Pdu]:
    """A WRITE of one block and the R2T that asks for its data."""
    command = initiator.command(cdb.write_10(lba, 1), flags=wire.FINAL | wire.WRITE | wire.SIMPLE, length=BLOCK)
    initiator.send(command)
    r2t = initiator.receive()
    assert r2t.opcode == wire.R2T
    return command, r2t


def manage(initiator: Initiator, request: Pdu) -> int:
    initiator.send(request)
    answer = initiator.receive()
    assert (answer.opcode, answer.itt) == (wire.TASK_RESPONSE, request.itt)
    return answer.response


def block(initiator: Initiator, lba: int) -> bytes:
    return initiator.read(cdb.read_10(lba, 1), BLOCK).data


@pytest.mark.parametrize("function", [ABORT_TASK, ABORT_TASK_SET, LUN_RESET, TARGET_WARM_RESET])
def test_a_write_that_waits_for_data_can_be_aborted_and_never_lands(initiator: Initiator, function: int) -> None:
    lba = 100 + function
    command, r2t = waiting_write(initiator, lba)
    tag = command.itt if function == ABORT_TASK else wire.RESERVED_TAG
    assert manage(initiator, initiator.task_request(function, ref_task_tag=tag)) == COMPLETE
    initiator.send(initiator.data_out(command.itt, r2t.ttt, 0, b"x" * BLOCK, data_sn=0, final=True))
    if function in (LUN_RESET, TARGET_WARM_RESET):
        assert initiator.execute(cdb.unit_ready()).response.sense == RESET
    assert block(initiator, lba) == bytes(BLOCK)


def test_an_aborted_command_gives_its_place_in_the_window_back(initiator: Initiator) -> None:
    before = initiator.max_cmd_sn - initiator.exp_cmd_sn
    command, _r2t = waiting_write(initiator, 200)
    manage(initiator, initiator.task_request(ABORT_TASK, ref_task_tag=command.itt))
    assert initiator.max_cmd_sn - initiator.exp_cmd_sn == before


def test_aborting_what_is_not_there_says_so(initiator: Initiator) -> None:
    assert manage(initiator, initiator.task_request(ABORT_TASK, ref_task_tag=0x4711)) == NO_TASK


@pytest.mark.parametrize("function", [ABORT_TASK_SET, LUN_RESET])
def test_a_lun_that_is_not_there_cannot_be_reset(initiator: Initiator, function: int) -> None:
    assert manage(initiator, initiator.task_request(function, lun=9)) == NO_LUN


@pytest.mark.parametrize(
    ("function", "answer"), [(TASK_REASSIGN, CANNOT_REASSIGN), (3, NOT_SUPPORTED), (99, NOT_SUPPORTED)]
)
def test_what_is_not_supported_says_so(initiator: Initiator, function: int, answer: int) -> None:
    assert manage(initiator, initiator.task_request(function)) == answer


def test_an_abort_does_not_touch_other_commands(initiator: Initiator) -> None:
    first, _r2t = waiting_write(initiator, 300)
    second, r2t = waiting_write(initiator, 301)
    manage(initiator, initiator.task_request(ABORT_TASK, ref_task_tag=first.itt))
    initiator.send(initiator.data_out(second.itt, r2t.ttt, 0, b"y" * BLOCK, data_sn=0, final=True))
    answer = initiator.receive()
    assert (answer.opcode, answer.itt) == (wire.SCSI_RESPONSE, second.itt)
    assert block(initiator, 301) == b"y" * BLOCK


def test_a_reset_aborts_the_writes_of_others_and_tells_them(target: Target, initiator: Initiator) -> None:
    with target.connect(name=OTHER).login(target.name, InitialR2T="Yes", ImmediateData="No") as other:
        command, r2t = waiting_write(other, 400)
        assert manage(initiator, initiator.task_request(LUN_RESET)) == COMPLETE
        other.send(other.data_out(command.itt, r2t.ttt, 0, b"z" * BLOCK, data_sn=0, final=True))
        outcome = other.execute(cdb.unit_ready())
        assert outcome.response.sense == RESET
        assert other.execute(cdb.unit_ready()).status == GOOD
        assert block(other, 400) == bytes(BLOCK)


def test_a_new_lun_is_told_to_those_who_are_logged_in(target: Target, initiator: Initiator) -> None:
    bdev = target.engine.malloc("Added", mebibytes=1)
    target.engine.rpc("iscsi_target_node_add_lun", name=target.name, bdev_name=bdev)
    assert initiator.execute(cdb.unit_ready()).response.sense == (UNIT_ATTENTION, 0x3F, 0x0E)
    luns = initiator.read(cdb.report_luns(), 4096).data
    assert int.from_bytes(luns[:4], "big") == 16
    target.engine.rpc("bdev_malloc_delete", name=bdev)
    assert initiator.execute(cdb.unit_ready()).response.sense == (UNIT_ATTENTION, 0x3F, 0x0E)


def test_deleting_a_node_asks_its_initiators_to_log_out(target: Target) -> None:
    engine = target.engine
    node = engine.node("leaving", engine.malloc("Leaving", mebibytes=1))
    with (
        target.connect().login(node) as initiator,
        target.connect(name=OTHER).login(target.name) as unrelated,
        ThreadPoolExecutor(1) as pool,
    ):
        deletion = pool.submit(engine.rpc, "iscsi_delete_target_node", name=node)
        message = initiator.receive()
        assert (message.opcode, message.async_event) == (wire.ASYNC, 1)
        initiator.send(initiator.logout())
        assert initiator.receive().opcode == wire.LOGOUT_RESPONSE
        assert deletion.result() is True
        assert unrelated.execute(cdb.unit_ready()).status == GOOD
    assert node not in [each["name"] for each in engine.rpc("iscsi_get_target_nodes")]
    engine.rpc("bdev_malloc_delete", name="Leaving")
