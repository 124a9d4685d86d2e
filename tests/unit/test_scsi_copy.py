# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EXTENDED COPY between logical units while others use them (SPC-4 §6.3)."""

from __future__ import annotations

import asyncio
import struct
from typing import NamedTuple

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi import sense
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.device import Task
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.dispatch import execute, prepare
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.unit import LogicalUnit
from scsi_bench import BLOCK, BLOCKS, Bench, SlowBdev

A, B = b"a" * BLOCK, b"b" * BLOCK


class Command(NamedTuple):
    lun: LogicalUnit
    cdb: bytes
    data: bytes


def compare_and_write(lun: LogicalUnit, old: bytes, new: bytes) -> Command:
    return Command(lun, bytes.fromhex("8900 0000000000000000 000000 01"), old + new)


def copy(by: LogicalUnit, source: LogicalUnit, to: LogicalUnit) -> Command:
    """Block 0, by a command to the unit ``by``."""
    targets = b"".join(
        struct.pack(">BxxxBBxB", 0xE4, 1, 3, 8) + lun.naa.ljust(20, b"\0") + struct.pack(">xBH", 2, BLOCK)
        for lun in (source, to)
    )
    segment = struct.pack(">BBHHHxxHQQ", 2, 2, 24, 0, 1, 1, 0, 0)
    data = struct.pack(">BBH4xLL", 7, 0, len(targets), len(segment), 0) + targets + segment
    return Command(by, struct.pack(">B9xL", 0x83, len(data)), data)


class Units:
    """LUNs 0, 1 and 2 of one device, all slow."""

    def __init__(self) -> None:
        self.bench = Bench(SlowBdev("S0", BLOCKS, BLOCK))
        others = [self.bench.device.add(number, SlowBdev(f"S{number}", BLOCKS, BLOCK)) for number in (1, 2)]
        self.luns = [self.bench.lun, *others]
        self.bench.nexus.attentions.clear()

    def run(self, *commands: Command, leave: LogicalUnit | None = None) -> list[int]:
        """Begin all at once, in this order, and then take ``leave`` away; gives their statuses."""

        async def all_of_them() -> list[int]:
            done = asyncio.Semaphore(0)
            tasks = []
            for lun, cdb, data in commands:
                task = Task(self.bench.nexus, lun, cdb.ljust(16, b"\0"))
                prepare(task)
                task.data_out = data
                tasks.append(task)
            for task in tasks:
                execute(task, lambda _task: done.release())
            if leave is not None:
                self.bench.device.remove(leave.id)
                self.bench.nexus.attentions.clear()
            for _task in tasks:
                await asyncio.wait_for(done.acquire(), 10)
            assert not any(lun.state.guarded for lun in self.luns)
            return [task.status for task in tasks]

        return asyncio.run(all_of_them())

    def block(self, number: int) -> bytes:
        self.bench.lun = self.luns[number]
        return self.bench.read(0, 1)

    def write(self, number: int, data: bytes) -> None:
        self.bench.lun = self.luns[number]
        self.bench.write(0, data)


@pytest.fixture
def units() -> Units:
    return Units()


@pytest.mark.parametrize("by", [0, 2])
def test_a_copy_takes_what_compare_and_write_leaves(units: Units, by: int) -> None:
    zero, one = units.luns[:2]
    statuses = units.run(compare_and_write(one, bytes(BLOCK), A), copy(units.luns[by], one, zero))
    assert statuses == [sense.GOOD, sense.GOOD]
    assert units.block(0) == A


def test_compare_and_write_compares_with_what_a_copy_leaves(units: Units) -> None:
    zero, one = units.luns[:2]
    units.write(0, A)
    assert units.run(copy(zero, zero, one), compare_and_write(one, A, B)) == [sense.GOOD, sense.GOOD]
    assert units.block(1) == B


def test_copies_both_ways_do_not_wait_for_each_other_for_ever(units: Units) -> None:
    zero, one = units.luns[:2]
    units.write(0, A)
    statuses = units.run(
        compare_and_write(zero, A, B),
        compare_and_write(one, bytes(BLOCK), A),
        copy(zero, zero, one),
        copy(one, one, zero),
        compare_and_write(zero, A, A),
        compare_and_write(one, A, A),
    )
    assert statuses[:4] == [sense.GOOD] * 4


def test_a_unit_that_goes_while_a_copy_waits_for_it_is_not_reached(units: Units) -> None:
    zero, one = units.luns[:2]
    statuses = units.run(compare_and_write(one, bytes(BLOCK), A), copy(zero, one, zero), leave=one)
    assert statuses[1] == sense.CHECK_CONDITION
    assert units.block(0) == bytes(BLOCK)


def test_nothing_is_copied_to_a_unit_that_another_process_serves(units: Units) -> None:
    zero, one = units.luns[:2]
    units.write(0, A)
    one.state.is_away = True
    assert units.run(copy(zero, zero, one)) == [sense.CHECK_CONDITION]
    assert units.block(1) == bytes(BLOCK)
