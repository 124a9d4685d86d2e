# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a logical unit says of itself, and what initiators may change of it (SPC-4, SBC-4)."""

from __future__ import annotations

import struct

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi import sense
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.alua import State
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.commands import COMMANDS, find
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.unit import Options
from scsi_bench import BLOCK, Bench

INVALID_FIELD = (sense.ILLEGAL_REQUEST, 0x24, 0x00)
INVALID_PARAMETER = (sense.ILLEGAL_REQUEST, 0x26, 0x00)
WRITE_PROTECTED = (sense.DATA_PROTECT, 0x27, 0x00)
PATHS_CHANGED = (sense.UNIT_ATTENTION, 0x2A, 0x06)
NO_MEDIUM = (sense.NOT_READY, 0x3A, 0x00)


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- REPORT SUPPORTED OPERATION CODES


def test_usage_data_belongs_to_its_command() -> None:
    for row in COMMANDS:
        usage = bytes.fromhex(row.usage)
        assert (usage[0], len(usage)) == (row.opcode, row.cdb_length), row.name
        if row.service_action is not None:
            assert usage[1] & 0x1F == row.service_action, row.name


def test_every_command_is_reported_and_found(bench: Bench) -> None:
    data = bench.good("a30c 00 00 0000 0000ffff")
    entries = [struct.unpack_from(">BxHxBH", data, at) for at in range(4, len(data), 8)]
    assert len(entries) == len(COMMANDS)
    for opcode, action, flags, length in entries:
        row = find(bytes((opcode, action)).ljust(16, b"\0"))
        assert (row.service_action is not None, row.cdb_length) == (bool(flags & 0x01), length)


def test_one_command_is_reported_with_what_of_its_cdb_counts(bench: Bench) -> None:
    data = bench.good("a30c 01 28 0000 0000ffff")
    assert data[:4] == bytes((0, 3, 0, 10))
    assert data[5] & 0x18 == 0x18  # DPO and FUA
    assert bench.good("a30c 03 fe 0000 0000ffff")[1] == 0x01
    assert bench.fails("a30c 01 9e 0000 0000ffff") == INVALID_FIELD


# -- mode parameters


def select(page: bytes | bytearray) -> str:
    return f"15100000{4 + len(page):02x}00"


def change(bench: Bench, code: int, byte: int, bits: int) -> None:
    page = bytearray(bench.good(f"1a08{code:02x}00ff00")[4:])
    page[byte] ^= bits
    bench.good(select(page), bytes(4) + bytes(page))


def test_software_write_protection_takes_effect_and_others_learn_of_it(bench: Bench) -> None:
    other = bench.connect("b")
    change(bench, 0x0A, 4, 0x08)
    assert bench.fails("2a000000000000000100", bytes(BLOCK)) == WRITE_PROTECTED
    assert bench.good("1a080800ff00")[2] & 0x80
    assert bench.fails("000000000000", nexus=other) == (sense.UNIT_ATTENTION, 0x2A, 0x01)
    change(bench, 0x0A, 4, 0x08)
    bench.good("2a000000000000000100", bytes(BLOCK))


def test_descriptor_sense_has_room_for_any_lba(bench: Bench) -> None:
    change(bench, 0x0A, 2, 0x04)
    task = bench.run("88000000001234567890 00000001")
    assert task.sense[:4] == bytes((0x72, sense.ILLEGAL_REQUEST, 0x21, 0x00))
    assert struct.unpack_from(">Q", task.sense, 12) == (0x1234567890,)


def test_without_a_write_cache_every_write_is_flushed() -> None:
    flushed: list[int] = []

    class Counting(MallocBdev):
        def flush(self) -> None:
            flushed.append(1)

    bench = Bench(Counting("M", 64, BLOCK))
    bench.write(0, bytes(BLOCK))
    assert not flushed
    change(bench, 0x08, 2, 0x04)
    bench.write(0, bytes(BLOCK))
    assert len(flushed) == 1


@pytest.mark.parametrize(("code", "byte", "bits"), [(0x08, 2, 0x01), (0x0A, 3, 0x80), (0x01, 2, 0x80)])
def test_what_has_no_effect_cannot_be_changed(bench: Bench, code: int, byte: int, bits: int) -> None:
    page = bytearray(bench.good(f"1a08{code:02x}00ff00")[4:])
    page[byte] ^= bits
    assert bench.fails(select(page), bytes(4) + bytes(page)) == INVALID_PARAMETER


def test_a_reset_gives_the_default_mode_parameters_back(bench: Bench) -> None:
    change(bench, 0x0A, 4, 0x08)
    bench.lun.state.reset()
    assert bench.fails("000000000000") == (sense.UNIT_ATTENTION, 0x29, 0x03)
    bench.good("2a000000000000000100", bytes(BLOCK))


# -- the medium


@pytest.fixture
def removable() -> Bench:
    return Bench(options=Options(removable=True))


def test_a_medium_can_be_ejected_and_loaded(removable: Bench) -> None:
    other = removable.connect("b")
    assert removable.good("120000002400")[1] == 0x80
    removable.good("1b000000 02 00")
    assert removable.fails("000000000000") == NO_MEDIUM
    assert removable.fails("28000000000000000100") == NO_MEDIUM
    removable.good("120000002400")
    removable.good("1b000000 03 00")
    removable.good("000000000000")
    assert removable.fails("000000000000", nexus=other) == (sense.UNIT_ATTENTION, 0x28, 0x00)


def test_a_medium_stays_while_somebody_needs_it(removable: Bench) -> None:
    other = removable.connect("b")
    removable.good("1e000000 01 00", nexus=other)
    assert removable.fails("1b000000 02 00") == (sense.ILLEGAL_REQUEST, 0x53, 0x02)
    removable.device.leave(other)
    removable.good("1b000000 02 00")


def test_a_fixed_disk_cannot_be_taken_away(bench: Bench) -> None:
    assert bench.fails("1b000000 02 00") == INVALID_FIELD
    bench.good("1b000000 00 00")
    bench.good("000000000000")


# -- access states


def test_target_port_groups_are_the_portal_groups(bench: Bench) -> None:
    bench.device.set_ports([1, 7])
    assert bench.fails("000000000000") == PATHS_CHANGED
    bench.device.set_ports([7, 1])
    data = bench.good("a30a 00000000 000000ff")
    groups = [struct.unpack_from(">BBHxBxBxxH", data, at) for at in range(4, len(data), 12)]
    assert [(group, port, state) for state, _support, group, _why, _count, port in groups] == [(1, 1, 0), (7, 7, 0)]


def test_a_path_in_standby_takes_no_reads_and_the_others_learn_of_it(bench: Bench) -> None:
    other = bench.connect("b", port=2)
    bench.good("a40a 00000000 00000008", bytes(4) + struct.pack(">BxH", State.STANDBY, 2))
    assert bench.fails("000000000000", nexus=other) == PATHS_CHANGED
    assert bench.fails("28000000000000000100", nexus=other) == (sense.NOT_READY, 0x04, 0x0B)
    bench.good("120000002400", nexus=other)
    bench.good("28000000000000000100")
    bench.good("a40a 00000000 00000008", bytes(4) + struct.pack(">BxH", State.OPTIMIZED, 2), other)
    bench.good("28000000000000000100", nexus=other)


def test_it_is_told_who_changed_an_access_state(bench: Bench) -> None:
    bench.device.set_ports([1, 2, 3])
    assert bench.fails("000000000000") == PATHS_CHANGED
    bench.good("a40a 00000000 00000008", bytes(4) + struct.pack(">BxH", State.STANDBY, 2))
    assert bench.device.set_access({3: State.UNAVAILABLE})
    assert not bench.device.set_access({1: State.OPTIMIZED, 3: State.UNAVAILABLE})
    assert bench.fails("000000000000") == PATHS_CHANGED
    data = bench.good("a30a 00000000 000000ff")
    assert [(data[at], data[at + 5]) for at in range(4, len(data), 12)] == [(0, 0), (2, 1), (3, 2)]


def test_a_port_group_that_is_not_there_is_an_error(bench: Bench) -> None:
    assert bench.fails("a40a 00000000 00000008", bytes(4) + struct.pack(">BxH", 0, 9)) == INVALID_PARAMETER


# -- buffers, pages, attentions


def test_the_echo_buffer_gives_back_what_was_written(bench: Bench) -> None:
    bench.good("3b0a 00 000000 000008 00", b"12345678")
    assert bench.good("3c0a 00 000000 0000ff 00") == b"12345678"
    assert bench.good("3c0a 00 000000 0000ff 00", nexus=bench.connect("b")) == b""


@pytest.mark.parametrize("page", [0x00, 0x80, 0x83, 0x85, 0x86, 0x87, 0x88, 0x8F, 0xB0, 0xB1, 0xB2])
def test_every_vital_product_data_page_is_listed_and_says_its_length(bench: Bench, page: int) -> None:
    assert page in bench.good("12010000ff00")[4:]
    data = bench.good(f"1201{page:02x}02ff00")
    assert (data[1], struct.unpack_from(">H", data, 2)[0]) == (page, len(data) - 4)


@pytest.mark.parametrize("page", [0x00, 0x19, 0x2F])
def test_every_log_page_is_listed_and_says_its_length(bench: Bench, page: int) -> None:
    assert page in bench.good("4d00 40 00 00 0000 ffff 00")[4:]
    data = bench.good(f"4d00 {0x40 | page:02x} 00 00 0000 ffff 00")
    assert struct.unpack_from(">H", data, 2)[0] == len(data) - 4


def test_a_physical_block_of_many_is_reported() -> None:
    bench = Bench(MallocBdev("M", 64, BLOCK, physical_block_size=4096))
    assert bench.good("9e10 0000000000000000 00000020")[13] & 0x0F == 3


def test_report_luns_tells_what_has_changed(bench: Bench) -> None:
    bench.device.add(1, MallocBdev("N", 8, BLOCK))
    bench.good("a000000000000000ff000000")
    bench.good("000000000000")


def test_a_disk_behind_two_luns_has_one_state() -> None:
    bench = Bench()
    bench.device.add(1, bench.lun.bdev)
    bench.nexus.attentions.clear()
    change(bench, 0x0A, 4, 0x08)
    assert bench.device.luns[1].readonly
    bench.device.remove(0)
    bench.device.remove(1)
    assert list(bench.device.units) == []
