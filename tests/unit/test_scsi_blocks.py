# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block commands without a transport: comparing, provisioning, copying, erasing (SBC-4, SPC-4)."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.aio import AioBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi import sense
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.device import Task
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.dispatch import execute, prepare
from hypothesis import given
from hypothesis import strategies as st
from scsi_bench import BLOCK, BLOCKS, Bench, SlowBdev

INVALID_FIELD = (sense.ILLEGAL_REQUEST, 0x24, 0x00)
INVALID_OPCODE = (sense.ILLEGAL_REQUEST, 0x20, 0x00)
OUT_OF_RANGE = (sense.ILLEGAL_REQUEST, 0x21, 0x00)
MISCOMPARE = (sense.MISCOMPARE, 0x1D, 0x00)
A, B, C = b"a" * BLOCK, b"b" * BLOCK, b"c" * BLOCK


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def thick(tmp_path: Path) -> Bench:
    """A file whose space cannot be given back."""

    def submit(function: Any, *arguments: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_result(function(*arguments))
        return future

    return Bench(AioBdev.open("F", str(tmp_path / "disk"), submit, size=BLOCKS * BLOCK))


# -- VERIFY


@pytest.mark.parametrize(
    "cdb", ["2f02 00000001 00 0002 00", "af02 00000001 00000002 00", "8f02 0000000000000001 00000002"]
)
def test_verify_compares_with_what_is_sent(bench: Bench, cdb: str) -> None:
    bench.write(1, A + B)
    bench.good(cdb, A + B)
    task = bench.run(cdb, A + B[:9] + b"!" + B[10:])
    assert struct.unpack_from(">L", task.sense, 3) == (BLOCK + 9,)
    assert bench.fails(cdb, A + C) == MISCOMPARE


def test_verify_compares_one_block_with_many(bench: Bench) -> None:
    bench.write(1, A + A + B)
    bench.good("2f06 00000001 00 0002 00", A)
    assert bench.fails("2f06 00000001 00 0003 00", A) == MISCOMPARE


def test_verify_without_data_wants_none(bench: Bench) -> None:
    bench.good("2f00 00000000 00 0040 00")
    assert bench.fails("2f04 00000000 00 0001 00") == INVALID_FIELD
    assert bench.fails("2f00 00000000 00 0041 00") == OUT_OF_RANGE


def test_write_and_verify_writes(bench: Bench) -> None:
    bench.good("2e02 00000003 00 0001 00", A)
    assert bench.read(3, 1) == A


# -- read, then write


def test_compare_and_write_writes_what_was_expected_to_be_replaced(bench: Bench) -> None:
    bench.write(2, A)
    bench.good("8900 0000000000000002 000000 01", A + B)
    assert bench.read(2, 1) == B
    task = bench.run("8900 0000000000000002 000000 01", A[:7] + b"?" + A[8:] + C)
    assert struct.unpack_from(">L", task.sense, 3) == (0,)
    assert bench.read(2, 1) == B


@given(st.integers(2, 8))
def test_of_many_who_compare_and_write_at_once_one_wins(rivals: int) -> None:
    bench = Bench(SlowBdev("S", BLOCKS, BLOCK))

    async def race() -> list[int]:
        tasks = []
        for number in range(1, rivals + 1):
            task = Task(bench.nexus, bench.lun, bytes.fromhex("8900000000000000000000000001").ljust(16, b"\0"))
            prepare(task)
            task.data_out = bytes(BLOCK) + bytes([number]) * BLOCK
            tasks.append(task)
        left = asyncio.Semaphore(0)
        for task in tasks:
            execute(task, lambda _task: left.release())
        for _task in tasks:
            await asyncio.wait_for(left.acquire(), 10)
        return [task.status for task in tasks]

    assert asyncio.run(race()).count(sense.GOOD) == 1
    assert not bench.lun.state.guarded


def test_a_write_does_not_come_between(bench: Bench) -> None:
    """A WRITE that arrives while COMPARE AND WRITE is at work is carried out after it."""
    bench = Bench(SlowBdev("S", BLOCKS, BLOCK))

    async def both() -> list[bytes]:
        order: list[bytes] = []
        done = asyncio.Event()

        def finished(task: Task) -> None:
            order.append(task.cdb[:1])
            if len(order) == 2:
                done.set()

        for cdb, data in (("8900000000000000000000000001", bytes(BLOCK) + A), ("2a000000000000000100", B)):
            task = Task(bench.nexus, bench.lun, bytes.fromhex(cdb).ljust(16, b"\0"))
            prepare(task)
            task.data_out = data
            execute(task, finished)
        await asyncio.wait_for(done.wait(), 10)
        return order

    assert asyncio.run(both()) == [b"\x89", b"\x2a"]
    assert bench.read(0, 1) == B


def test_orwrite_sets_bits(bench: Bench) -> None:
    bench.write(0, b"\x0f" * BLOCK)
    bench.good("8b00 0000000000000000 00000001", b"\x31" * BLOCK)
    assert bench.read(0, 1) == b"\x3f" * BLOCK


def test_write_atomic_is_offered_where_it_can_be_kept(bench: Bench, thick: Bench) -> None:
    bench.good("9c00 0000000000000000 0000 0002", A + B)
    assert bench.read(0, 2) == A + B
    assert thick.fails("9c00 0000000000000000 0000 0001", A) == INVALID_OPCODE


# -- provisioning


def unmap_list(*ranges: tuple[int, int]) -> bytes:
    body = b"".join(struct.pack(">QL4x", *each) for each in ranges)
    return struct.pack(">HH4x", len(body) + 6, len(body)) + body


def unmap(bench: Bench, *ranges: tuple[int, int]) -> None:
    parameters = unmap_list(*ranges)
    bench.good(f"42000000000000{len(parameters):04x}00", parameters)


def status(bench: Bench, lba: int = 0) -> list[tuple[int, int, int]]:
    """LBA, blocks and provisioning status, from GET LBA STATUS."""
    data = bench.good(f"9e12 {lba:016x} 00000400")
    return [struct.unpack_from(">QLB", data, at) for at in range(8, len(data), 16)]


def test_unmapped_blocks_read_as_zeroes_and_are_reported(bench: Bench) -> None:
    bench.write(0, A * 8)
    unmap(bench, (1, 2), (5, 1))
    assert bench.read(0, 8) == A + bytes(2 * BLOCK) + A * 2 + bytes(BLOCK) + A * 2
    assert status(bench) == [(0, 1, 0), (1, 2, 1), (3, 2, 0), (5, 1, 1), (6, 2, 0), (8, BLOCKS - 8, 1)]


def test_unmap_is_all_or_nothing(bench: Bench) -> None:
    bench.write(0, A)
    parameters = unmap_list((0, 1), (BLOCKS, 1))
    assert bench.fails(f"42000000000000{len(parameters):04x}00", parameters) == OUT_OF_RANGE
    assert bench.read(0, 1) == A


def test_a_thick_disk_says_that_it_cannot_unmap(thick: Bench) -> None:
    assert thick.fails("42000000000000001800", unmap_list((0, 1))) == INVALID_OPCODE
    assert thick.fails("9308 0000000000000000 00000001", bytes(BLOCK)) == INVALID_FIELD
    assert thick.good("9e10 0000000000000000 00000020")[14] == 0
    assert thick.good("1201b200ff00")[4:] == bytes(4)


@pytest.mark.parametrize("cdb", ["4100 00000002 00 0003 00", "9300 0000000000000002 00000003"])
def test_write_same_writes_one_block_over_a_range(bench: Bench, cdb: str) -> None:
    bench.write(0, B * 8)
    bench.good(cdb, A)
    assert bench.read(1, 5) == B + A * 3 + B


def test_write_same_of_no_blocks_goes_to_the_end(bench: Bench) -> None:
    bench.good(f"9300 {BLOCKS - 2:016x} 00000000", A)
    assert bench.read(BLOCKS - 3, 3) == bytes(BLOCK) + A * 2


def test_write_same_without_data_writes_zeroes(bench: Bench) -> None:
    bench.write(0, A * 3)
    bench.good("9301 0000000000000001 00000001")
    assert bench.read(0, 3) == A + bytes(BLOCK) + A
    assert status(bench)[0] == (0, 3, 0)


def test_write_same_with_unmap_gives_the_space_back(bench: Bench) -> None:
    bench.write(0, A * 3)
    bench.good("9309 0000000000000001 00000001")
    assert status(bench)[:2] == [(0, 1, 0), (1, 1, 1)]


@pytest.mark.parametrize("length", [0, BLOCK - 1, 2 * BLOCK])
def test_write_same_takes_exactly_one_block(bench: Bench, length: int) -> None:
    task = bench.run("4100 00000000 00 0001 00", A[:length], expected=length)
    assert task.status == sense.CHECK_CONDITION


@pytest.mark.parametrize("flags", ["10", "20", "18"])
def test_what_write_same_cannot_do_is_an_error(bench: Bench, flags: str) -> None:
    assert bench.fails(f"93{flags} 0000000000000000 00000001", A) == INVALID_FIELD


# -- EXTENDED COPY


def copy_list(naa: bytes, *segments: tuple[int, int, int], list_id: int = 7) -> bytes:
    target = struct.pack(">BxxxBBxB", 0xE4, 1, 3, 8) + naa.ljust(20, b"\0") + struct.pack(">xBH", 2, BLOCK)
    body = b"".join(struct.pack(">BBHHHxxHQQ", 2, 2, 24, 0, 0, blocks, source, to) for source, to, blocks in segments)
    return struct.pack(">BBH4xLL", list_id, 0, len(target), len(body), 0) + target + body


def extended_copy(bench: Bench, parameters: bytes) -> Task:
    return bench.run(f"8300 0000000000000000 {len(parameters):08x}", parameters)


@pytest.mark.parametrize(("source", "to"), [(0, 10), (0, 2), (2, 0)])
def test_blocks_are_copied_even_onto_themselves(bench: Bench, source: int, to: int) -> None:
    data = b"".join(bytes([number]) * BLOCK for number in range(1, 5))
    bench.write(source, data)
    assert extended_copy(bench, copy_list(bench.lun.naa, (source, to, 4))).status == sense.GOOD
    assert bench.read(to, 4) == data


def test_the_outcome_of_a_copy_can_be_asked_for(bench: Bench) -> None:
    assert bench.fails("8400 07 00000000000000 000000ff") == INVALID_FIELD
    extended_copy(bench, copy_list(bench.lun.naa, (0, 8, 2), (2, 10, 2)))
    data = bench.good("8400 07 00000000000000 000000ff")
    assert struct.unpack_from(">BHBL", data, 4) == (1, 2, 1, 2)  # done, two segments, in KiB, 2


def test_a_copy_of_a_unit_that_is_not_here_is_aborted(bench: Bench) -> None:
    task = extended_copy(bench, copy_list(bytes(8), (0, 1, 1)))
    assert (task.sense[2], task.sense[12], task.sense[13]) == (sense.COPY_ABORTED, 0x0D, 0x02)


def test_nothing_is_copied_when_a_segment_is_wrong(bench: Bench) -> None:
    bench.write(0, A)
    task = extended_copy(bench, copy_list(bench.lun.naa, (0, 1, 1), (0, BLOCKS, 1)))
    assert task.status == sense.CHECK_CONDITION
    assert bench.read(1, 1) == bytes(BLOCK)


# -- erasing


@pytest.mark.parametrize("cdb", ["040000000000", "4802 0000000000 0000", "4803 0000000000 0000"])
def test_what_is_erased_is_gone(bench: Bench, cdb: str) -> None:
    bench.write(0, A * BLOCKS)
    bench.good(cdb)
    assert bench.read(0, BLOCKS) == bytes(BLOCKS * BLOCK)
    assert status(bench) == [(0, BLOCKS, 1)]


def test_sanitize_overwrites_with_a_pattern(bench: Bench) -> None:
    pattern = b"\x55\xaa"
    bench.good("4801 0000000000 0006", struct.pack(">BxH", 1, 2) + pattern)
    assert bench.read(0, BLOCKS) == pattern * (BLOCKS * BLOCK // 2)


def test_sanitize_inverts_every_second_pass(bench: Bench) -> None:
    bench.good("4801 0000000000 0005", struct.pack(">BxH", 0x82, 1) + b"\x0f")
    assert bench.read(0, 1) == b"\xf0" * BLOCK


def test_sanitize_at_work_is_told_with_its_progress() -> None:
    bench = Bench(SlowBdev("S", BLOCKS, BLOCK))

    async def meanwhile() -> tuple[Task, Task]:
        pattern = struct.pack(">BxH", 1, 1) + b"x"
        began = Task(bench.nexus, bench.lun, bytes.fromhex("4881000000000000050000").ljust(16, b"\0"))
        prepare(began)
        began.data_out = pattern
        execute(began, lambda _task: None)
        ready = Task(bench.nexus, bench.lun, bytes(16))
        execute(ready, lambda _task: None)
        while bench.lun.state.erasure is not None:
            await asyncio.sleep(0)
        return began, ready

    began, ready = asyncio.run(meanwhile())
    assert began.status == sense.GOOD
    assert (ready.sense[2], ready.sense[12], ready.sense[13], ready.sense[15]) == (sense.NOT_READY, 0x04, 0x1B, 0x80)
    assert bench.read(0, 1) == b"x" * BLOCK


def test_a_sanitize_that_failed_keeps_the_unit_closed_until_one_succeeds() -> None:
    bdev = MallocBdev("M", BLOCKS, BLOCK)
    bench = Bench(bdev)

    def broken(_offset: int, _length: int) -> None:
        raise OSError(5, "broken")

    bdev.unmap = broken  # type: ignore[method-assign, assignment]
    assert bench.fails("4802 0000000000 0000") == (sense.MEDIUM_ERROR, 0x0C, 0x00)
    assert bench.fails("000000000000") == (sense.MEDIUM_ERROR, 0x31, 0x03)
    assert bench.fails("481f 0000000000 0000") == (sense.MEDIUM_ERROR, 0x31, 0x03)
    del bdev.unmap
    bench.good("4802 0000000000 0000")
    bench.good("000000000000")


def test_a_format_that_failed_can_be_repeated() -> None:
    bdev = MallocBdev("M", BLOCKS, BLOCK)
    bench = Bench(bdev)

    def broken(_offset: int, _length: int) -> None:
        raise OSError(5, "broken")

    bdev.unmap = broken  # type: ignore[method-assign, assignment]
    bench.fails("040000000000")
    assert bench.fails("000000000000") == (sense.MEDIUM_ERROR, 0x31, 0x01)
    bench.fails("4802 0000000000 0000")
    assert bench.fails("040000000000") == (sense.MEDIUM_ERROR, 0x31, 0x03)
    del bdev.unmap
    bench.good("4802 0000000000 0000")
    bench.good("040000000000")


def test_what_may_read_as_anything_once_unmapped_is_not_said_to_read_as_zeroes() -> None:
    class Careless(MallocBdev):
        unmaps_to_zeroes = False

    bench = Bench(Careless("M", BLOCKS, BLOCK))
    assert bench.good("9e10 0000000000000000 00000020")[14] == 0x80  # LBPME without LBPRZ
    assert bench.good("1201b200ff00")[5] == 0xE0
    bench.write(0, A)
    bench.good("9308 0000000000000000 00000001", bytes(BLOCK))
    assert status(bench)[0] == (0, 1, 0)  # written, not unmapped: zeroes were asked for
    assert bench.read(0, 1) == bytes(BLOCK)
