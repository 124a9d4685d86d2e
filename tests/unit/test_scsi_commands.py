# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SCSI commands without a transport: what they return and how they fail."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import Exists, Invalid
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi import sense
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.commands import COMMANDS
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.device import Device, Nexus, Task
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.dispatch import execute, prepare
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.unit import Options
from hypothesis import given
from hypothesis import strategies as st

BLOCKS = 64


@pytest.fixture
def device() -> Device:
    made = Device("iqn.2016-06.io.spdk:disk1")
    made.add(0, MallocBdev("M", BLOCKS, 512))
    return made


@pytest.fixture
def nexus(device: Device) -> Nexus:
    made = Nexus(device, "iqn.x:a,i,0x1", f"{device.name},t,0x0001", relative_port=1)
    device.nexuses.append(made)
    return made


Run = Callable[..., Task]


@pytest.fixture
def run(nexus: Nexus) -> Run:
    def issue(cdb: str, data: bytes = b"", lun: int = 0) -> Task:
        task = Task(nexus, nexus.device.luns.get(lun), bytes.fromhex(cdb).ljust(16, b"\0"))
        finished: list[Any] = []
        if data:
            prepare(task)
            task.data_out = data
        if task.status == sense.GOOD:
            execute(task, finished.append)
            assert finished == [task]
        return task

    return issue


def failure(task: Task) -> tuple[int, int, int]:
    assert task.status == sense.CHECK_CONDITION
    return task.sense[2] & 0xF, task.sense[12], task.sense[13]


def data_in(task: Task) -> bytes:
    assert task.status == sense.GOOD
    assert task.data_in is not None
    return bytes(task.data_in)


def test_every_command_has_one_row() -> None:
    keys = [(row.opcode, row.service_action) for row in COMMANDS]
    assert len(set(keys)) == len(keys)


@given(st.binary(min_size=16, max_size=16))
def test_no_cdb_is_a_bug_of_the_engine(cdb: bytes) -> None:
    asyncio.run(_any_cdb(cdb))


async def _any_cdb(cdb: bytes) -> None:
    made = Device("iqn.2016-06.io.spdk:disk1")
    made.add(0, MallocBdev("M", BLOCKS, 512))
    for lun in (made.luns[0], None):
        task = Task(Nexus(made, "i", "t", 1), lun, cdb)
        prepare(task)
        if task.status == sense.GOOD:
            execute(task, lambda _task: None)
        if task.status != sense.GOOD:
            assert failure(task) != (sense.HARDWARE_ERROR, 0x44, 0x00)


def test_unknown_opcode(run: Run) -> None:
    assert failure(run("ee")) == (sense.ILLEGAL_REQUEST, 0x20, 0x00)


def test_unknown_service_action_points_at_the_field(run: Run) -> None:
    task = run("9e1f")
    assert failure(task) == (sense.ILLEGAL_REQUEST, 0x24, 0x00)
    assert task.sense[15:18] == bytes([0xC0 | 0x08 | 4, 0, 1])


def test_a_unit_that_another_process_serves_becomes_ready(device: Device, run: Run) -> None:
    state = device.luns[0].state
    state.is_away = True
    state.refresh()
    data_in(run("12000000ff"))
    register = run("5f00 00000000 000018", bytes(24))
    for task in (run("000000000000"), run("2a00 00000003 00 0001 00", b"a" * 512), register):
        assert failure(task) == (sense.NOT_READY, 0x04, 0x01)
    state.is_away = False
    state.refresh()
    assert data_in(run("2800 00000003 00 0001 00")) == bytes(512)


def test_write_then_read(run: Run) -> None:
    run("2a00 00000003 00 0002 00", b"a" * 512 + b"b" * 512)
    assert data_in(run("2800 00000002 00 0003 00")) == bytes(512) + b"a" * 512 + b"b" * 512


@pytest.mark.parametrize("cdb", ["08000000 0100", "2800 00000000 00 0001 00", "a800 00000000 00000001 00"])
def test_reads_of_every_width_see_the_same_block(run: Run, cdb: str) -> None:
    run("0a000000 0100", b"x" * 512)
    assert data_in(run(cdb)) == b"x" * 512


def test_read_6_of_zero_blocks_is_256(nexus: Nexus, run: Run) -> None:
    nexus.device.add(1, MallocBdev("Big", 512, 512))
    nexus.attentions.clear()
    assert len(data_in(run("080000000000", lun=1))) == 256 * 512


@pytest.mark.parametrize("cdb", ["2800 00000040 00 0001 00", "2800 0000003f 00 0002 00", "2800 00000040 00 0000 00"])
def test_beyond_the_end(run: Run, cdb: str) -> None:
    assert failure(run(cdb)) == (sense.ILLEGAL_REQUEST, 0x21, 0x00)


def test_write_protected_unit(nexus: Nexus, run: Run) -> None:
    nexus.device.add(1, nexus.device.luns[0].bdev, Options(readonly=True))
    nexus.attentions.clear()
    assert failure(run("2a00 00000000 00 0001 00", b"x" * 512, lun=1)) == (sense.DATA_PROTECT, 0x27, 0x00)
    assert data_in(run("1a003f00 ff00", lun=1))[2] & 0x80
    run("2a00 00000000 00 0001 00", b"x" * 512)
    assert data_in(run("2800 00000000 00 0001 00", lun=1)) == b"x" * 512


@pytest.mark.parametrize(("cdb", "length"), [("120000002400", 36), ("12000000ff00", 96), ("120000000500", 5)])
def test_inquiry_is_cut_to_the_allocation_length(run: Run, cdb: str, length: int) -> None:
    assert len(data_in(run(cdb))) == length


def test_inquiry_where_there_is_no_unit(run: Run) -> None:
    assert data_in(run("120000006000", lun=9))[0] == 0x7F
    assert failure(run("000000000000", lun=9)) == (sense.ILLEGAL_REQUEST, 0x25, 0x00)


@pytest.mark.parametrize("page", [0x00, 0x80, 0x83, 0xB0])
def test_vital_product_data_says_its_length(run: Run, page: int) -> None:
    data = data_in(run(f"1201{page:02x}02ff00"))
    assert data[1] == page
    assert struct.unpack(">H", data[2:4])[0] == len(data) - 4


def test_the_identity_follows_the_uuid(run: Run, nexus: Nexus) -> None:
    bdev = nexus.device.luns[0].bdev
    before = data_in(run("12018302ff00"))
    nexus.device.add(1, MallocBdev("Again", 8, 512, uuid=bdev.uuid))
    nexus.attentions.clear()
    assert data_in(run("12018302ff00", lun=1)) == before
    assert bdev.uuid.replace("-", "").encode() in before


def test_capacity(run: Run) -> None:
    assert data_in(run("25000000000000000000")) == struct.pack(">LL", BLOCKS - 1, 512)
    assert data_in(run("9e10 0000000000000000 00000020 00"))[:12] == struct.pack(">QL", BLOCKS - 1, 512)


def test_report_luns_lists_what_is_there(run: Run, nexus: Nexus) -> None:
    nexus.device.add(5, MallocBdev("N", 8, 512))
    data = data_in(run("a000000000000000ff000000"))
    assert data == struct.pack(">L4x", 16) + struct.pack(">H6x", 0) + struct.pack(">H6x", 5)


def test_a_unit_attention_is_told_once_and_inquiry_does_not_take_it(run: Run, nexus: Nexus) -> None:
    nexus.device.add(1, MallocBdev("N", 8, 512))
    data_in(run("120000006000"))
    assert failure(run("000000000000")) == (sense.UNIT_ATTENTION, 0x3F, 0x0E)
    assert run("000000000000").status == sense.GOOD


def test_request_sense_takes_the_unit_attention(run: Run, nexus: Nexus) -> None:
    nexus.device.capacity_changed(nexus.device.luns[0].bdev)
    assert data_in(run("03000000ff00"))[2] == sense.UNIT_ATTENTION
    assert data_in(run("03000000ff00"))[2] == sense.NO_SENSE


def test_mode_sense_has_the_caching_page_with_write_cache_on(run: Run) -> None:
    data = data_in(run("1a080800ff00"))
    assert data[4:7] == bytes([0x08, 0x12, 0x04])


def test_only_what_takes_effect_can_be_changed(run: Run) -> None:
    assert data_in(run("1a084800ff00"))[6:] == bytes([0x04]) + bytes(17)  # WCE
    assert not any(data_in(run("1a084100ff00"))[6:])


def test_saved_pages_are_not_offered(run: Run) -> None:
    assert failure(run("1a08c800ff00")) == (sense.ILLEGAL_REQUEST, 0x39, 0x00)


def test_lun_ids_are_checked(device: Device) -> None:
    bdev = device.luns[0].bdev
    with pytest.raises(Exists, match="LUN 0 is taken by bdev M"):
        device.add(0, bdev)
    with pytest.raises(Invalid, match="LUN 256"):
        device.add(256, bdev)
    assert device.free_lun_id() == 1


def test_both_addressing_methods_find_the_unit(device: Device) -> None:
    device.add(7, MallocBdev("N", 8, 512))
    assert device.by_field[0x0007 << 48] is device.by_field[0x4007 << 48] is device.luns[7]
    device.remove(7)
    assert 0x0007 << 48 not in device.by_field
