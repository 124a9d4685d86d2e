# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is counted of bdevs and of initiators with LUNs, and the text that Prometheus reads."""

from __future__ import annotations

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.histogram import Histogram
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.statistics import BORDERS, Statistics, Tally
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.exposition import (
    Buckets,
    Family,
    Sample,
    render,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi import commands, sbc, unit
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.device import Device, Nexus, Task
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.sense import (
    ILLEGAL_REQUEST,
    LbaOutOfRange,
    ReservationConflict,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.use import OTHERS, READS, WRITES, Use
from hypothesis import given
from hypothesis import strategies as st

READ_10, WRITE_10, INQUIRY = bytes([0x28, *bytes(15)]), bytes([0x2A, *bytes(15)]), bytes([0x12, *bytes(15)])
TIMES = st.integers(1, 2**36)


def device(*bdevs: str) -> Device:
    made = Device("iqn.2026-01.test:disk")
    for number, name in enumerate(bdevs or ("M",)):
        made.add(number, MallocBdev(name, 2048, 512))
    return made


def connect(to: Device, initiator: str = "iqn.2026-01.test:a") -> Nexus:
    nexus = Nexus(to, f"{initiator},i,0x800000000001", f"{to.name},t,0x0001", 1)
    to.join(nexus)
    return nexus


def use_of(nexus: Nexus, lun: int = 0) -> Use:
    use = nexus.use(lun << 48)
    assert use is not None
    return use


# -- tallies


@given(st.lists(st.tuples(TIMES, st.integers(1, 9))))
def test_a_tally_knows_how_many_took_at_most_so_long(operations: list[tuple[int, int]]) -> None:
    tally = Tally()
    for took, count in operations:
        tally.add(took, count, 512 * count)
    assert tally.operations == sum(tally.buckets) == sum(count for _took, count in operations)
    assert tally.bytes == 512 * tally.operations
    assert tally.ticks == sum(took * count for took, count in operations)
    assert tally.most == max((took for took, _count in operations), default=0)
    assert tally.least == min((took for took, _count in operations), default=0)
    for place, border in enumerate(BORDERS):
        at_most = sum(count for took, count in operations if took <= border)
        assert sum(tally.buckets[: place + 1]) == at_most


@pytest.mark.parametrize(
    ("mode", "left"),
    [("none", (1, 70, 70, 2)), ("all", (0, 0, 0, 0)), ("maxmin", (1, 70, 0, 2)), ("error", (1, 70, 70, 0))],
)
def test_statistics_are_reset_as_spdk_does(mode: str, left: tuple[int, ...]) -> None:
    stats = Statistics()
    stats.unmap.add(70)
    stats.errors = 2
    stats.reset(mode)
    assert stats.unmap.least == stats.unmap.most
    assert (stats.unmap.operations, stats.unmap.ticks, stats.unmap.most, stats.errors) == left


# -- who uses what


def test_reads_and_writes_are_those_of_the_command_table() -> None:
    for handler, opcodes in ((sbc.read, READS), (sbc.write, WRITES)):
        assert {command.opcode for command in commands.COMMANDS if command.handler is handler} == opcodes


def test_commands_of_a_wake_up_took_as_long_as_it() -> None:
    disk = device()
    disk.histogram = Histogram()
    use = use_of(connect(disk))
    use.reads, use.bytes_read, use.writes, use.bytes_written, use.others = 2, 1024, 1, 4096, 3
    use.settle(9000)
    use.settle(10**9)
    stats = disk.luns[0].bdev.stats
    for tally in (use.read, stats.read):
        assert (tally.operations, tally.bytes, tally.ticks, tally.most) == (2, 1024, 18000, 9000)
    for tally in (use.write, stats.write):
        assert (tally.operations, tally.bytes, tally.ticks, tally.most) == (1, 4096, 9000, 9000)
    assert (use.other.operations, use.other.ticks) == (3, 27000)
    assert sum(disk.histogram.buckets) == 6


def test_a_failed_command_moves_nothing_and_is_no_operation_of_the_bdev() -> None:
    disk = device()
    nexus = connect(disk)
    use, stats = use_of(nexus), disk.luns[0].bdev.stats
    task = Task(nexus, use.lun, READ_10)
    task.fail(LbaOutOfRange())
    use.count(task, 50)
    assert (use.read.operations, use.read.bytes, stats.read.operations) == (1, 0, 0)
    task = Task(nexus, use.lun, WRITE_10)
    task.data_out = bytes(512)
    task.fail(ReservationConflict())
    use.count(task, 50)
    assert (use.write.operations, use.write.bytes, stats.write.operations) == (1, 0, 0)
    task = Task(nexus, use.lun, INQUIRY)
    task.aborted = True
    use.count(task, 50)
    assert use.errors == {(0x02, ILLEGAL_REQUEST): 1, (0x18, 0): 1, (0x40, 0): 1}


def test_the_sense_key_is_found_in_either_format() -> None:
    disk = device()
    nexus = connect(disk)
    use = use_of(nexus)
    for descriptors in (False, True):
        use.lun.state.modes = use.lun.state.modes._replace(descriptor_sense=descriptors)
        task = Task(nexus, use.lun, READ_10)
        task.fail(LbaOutOfRange(information=2**40))
        use.count(task, 50)
    assert use.errors == {(0x02, ILLEGAL_REQUEST): 2}


def test_what_an_initiator_did_stays_when_it_leaves_and_goes_with_the_lun() -> None:
    disk = device("M", "N")
    first = connect(disk)
    use = use_of(first)
    disk.leave(first)
    again = connect(disk)
    assert use_of(again) is use
    assert use_of(again, 1) is not use
    assert use_of(connect(disk, "iqn.2026-01.test:b")) is not use
    disk.remove(0)
    assert again.use(0) is None
    assert not again.uses
    disk.add(0, MallocBdev("O", 2048, 512))
    assert use_of(again) is not use
    assert use_of(again).lun is disk.luns[0]


def test_a_hidden_lun_is_not_used() -> None:
    disk = device()
    nexus = connect(disk)
    nexus.group = 1
    assert use_of(nexus)
    disk.mask(0, (2,))
    assert nexus.uses == {}
    assert nexus.use(0) is None


def test_too_many_initiators_count_as_one_for_each_lun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "_MOST_USES", 3)
    disk = device("M", "N")
    names = [f"iqn.2026-01.test:{number}" for number in range(5)]
    uses = [use_of(connect(disk, name), lun) for name in names for lun in (0, 1)]
    assert [use.initiator for use in uses] == [names[0], names[0], names[1], *[OTHERS] * 7]
    assert len(set(map(id, uses))) == 5
    assert use_of(connect(disk, names[0])) is uses[0]


# -- Prometheus


def test_a_histogram_is_cumulative_and_names_are_escaped() -> None:
    buckets = Buckets((0.5, 1.0), (1, 2, 4), 9.25)
    text = render(
        [
            Family("some_seconds", "histogram", "Time.", [Sample(buckets, {"who": 'a "b"\\\n'})]),
            Family("none_total", "counter", "Nothing.", []),
            Family("up", "gauge", "Is it?", [Sample(1)]),
        ]
    )
    who = r'who="a \"b\"\\\n"'
    assert text == (
        "# HELP openlun_some_seconds Time.\n"
        "# TYPE openlun_some_seconds histogram\n"
        f'openlun_some_seconds_bucket{{{who},le="0.5"}} 1\n'
        f'openlun_some_seconds_bucket{{{who},le="1.0"}} 3\n'
        f'openlun_some_seconds_bucket{{{who},le="+Inf"}} 7\n'
        f"openlun_some_seconds_sum{{{who}}} 9.25\n"
        f"openlun_some_seconds_count{{{who}}} 7\n"
        "# HELP openlun_up Is it?\n"
        "# TYPE openlun_up gauge\n"
        "openlun_up 1\n"
    )
