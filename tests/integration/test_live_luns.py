# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LUNs under load: several initiators at once, while LUNs come, go, grow, and the engine is killed."""

from __future__ import annotations

import random
import signal
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from engine_process import Engine, Launch, Target
from pdu import cdb
from pdu.initiator import Initiator, Outcome

BLOCK = 512
GOOD = 0
UNIT_ATTENTION, MISCOMPARE = 6, 14
FUA = 0x08


def names() -> list[str]:
    return [f"iqn.2016-06.io.example:host{number}" for number in range(2)]


def retried(initiator: Initiator, command: bytes, *, data: bytes = b"", length: int = 0) -> Outcome:
    """Repeat a command that met a unit attention."""
    while True:
        if data:
            outcome = initiator.write(command, data, immediate=len(data))
        else:
            outcome = initiator.read(command, length)
        if outcome.status == GOOD or outcome.response.sense[0] != UNIT_ATTENTION:
            return outcome


@pytest.fixture(params=["malloc", "holes"])
def disk(request: pytest.FixtureRequest, launch: Launch, tmp_path: Path) -> Target:
    engine = launch()
    engine.initiator_group()
    port = engine.portal_group()
    if request.param == "malloc":
        bdev = engine.malloc("D", 4)
    else:
        bdev = engine.aio("D", tmp_path / "disk", size=4 * 2**20, fallocate=True)
    return Target(engine, port, engine.node("disk", bdev))


def exercise(disk: Target, name: str, number: int, stop: Event) -> int:
    """Write, unmap and read blocks of every second 64 at random; each has to be what a model says."""
    chance = random.Random(number)
    model: dict[int, bytes] = {}
    steps = 0
    with disk.connect(name=name).login(disk.name) as initiator:
        while not stop.is_set() or steps < 200:
            lba = chance.randrange(64) * 128 + number * 64 + chance.randrange(60)
            blocks = chance.randrange(1, 4)
            data = chance.randbytes(blocks * BLOCK)
            kind = chance.randrange(4)
            if kind == 0:
                ranges = struct.pack(">HH4xQL4x", 22, 16, lba, blocks)
                assert retried(initiator, struct.pack(">B6xHx", 0x42, 24), data=ranges).status == GOOD
                data = bytes(blocks * BLOCK)
            elif kind == 1:
                assert retried(initiator, cdb.write_16(lba, blocks), data=data).status == GOOD
            else:
                expected = b"".join(model.get(each, bytes(BLOCK)) for each in range(lba, lba + blocks))
                outcome = retried(initiator, cdb.read_10(lba, blocks), length=blocks * BLOCK)
                assert (outcome.status, outcome.data) == (GOOD, expected)
                data = b""
            for at in range(0, len(data), BLOCK):
                model[lba + at // BLOCK] = data[at : at + BLOCK]
            steps += 1
    return steps


def change_luns(engine: Engine, node: str, directory: Path) -> None:
    """Add, grow, remove."""
    for turn in range(5):
        bdev = engine.aio(f"Extra{turn}", directory / f"extra{turn}", size=2**20)
        engine.rpc("iscsi_target_node_add_lun", name=node, bdev_name=bdev)
        engine.rpc("bdev_aio_resize", name=bdev, size=2 * 2**20)
        engine.rpc("bdev_aio_delete", name=bdev)


def test_data_stays_whole_while_luns_come_and_go(disk: Target, tmp_path: Path) -> None:
    stop = Event()
    with ThreadPoolExecutor(2) as pool:
        hosts = [pool.submit(exercise, disk, name, number, stop) for number, name in enumerate(names())]
        try:
            change_luns(disk.engine, disk.name, tmp_path)
        finally:
            stop.set()
        assert all(host.result() >= 200 for host in hosts)
    assert "Traceback" not in disk.engine.words()


def test_two_hosts_that_compare_and_write_never_both_win(disk: Target) -> None:
    rounds = 40

    def count(name: str) -> int:
        """Add 1 to the counter in block 0, as often as that is done without the other coming in between."""
        with disk.connect(name=name).login(disk.name) as initiator:
            won = 0
            while won < rounds:
                old = retried(initiator, cdb.read_10(0, 1), length=BLOCK).data
                (value,) = struct.unpack_from(">Q", old)
                new = struct.pack(">Q", value + 1).ljust(BLOCK, b"\0")
                command = struct.pack(">BBQ3xBBB", 0x89, 0, 0, 1, 0, 0)
                outcome = retried(initiator, command, data=old + new)
                won += outcome.status == GOOD
                assert outcome.status == GOOD or outcome.response.sense[0] == MISCOMPARE
            return won

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(count, names())) == 2 * rounds
    with disk.login() as initiator:
        assert struct.unpack_from(">Q", initiator.read(cdb.read_10(0, 1), BLOCK).data) == (2 * rounds,)


def test_what_was_written_with_fua_survives_a_kill(launch: Launch, tmp_path: Path) -> None:
    engine = launch(state=True)
    engine.initiator_group()
    port = engine.portal_group()
    target = Target(engine, port, engine.node("disk", engine.aio("D", tmp_path / "disk", size=2**20)))
    command = bytearray(cdb.write_10(3, 1))
    command[1] = FUA
    with target.login() as initiator:
        assert initiator.write(bytes(command), b"f" * BLOCK, immediate=BLOCK).status == GOOD
    engine.restart(signal.SIGKILL)
    with target.login() as initiator:
        assert initiator.read(cdb.read_10(3, 1), BLOCK).data == b"f" * BLOCK


def test_a_read_only_lun_is_one_wherever_it_is_shown(launch: Launch) -> None:
    engine = launch(state=True)
    engine.initiator_group()
    port = engine.portal_group()
    target = Target(engine, port, engine.node("disk", engine.malloc("M", 1)))
    engine.rpc("iscsi_target_node_add_lun", name=target.name, bdev_name="M", lun_id=4, readonly=True)
    shown = engine.rpc("iscsi_get_target_nodes")[0]["luns"]
    assert shown == [{"bdev_name": "M", "lun_id": 0}, {"bdev_name": "M", "lun_id": 4, "readonly": True}]
    engine.restart()
    assert engine.rpc("iscsi_get_target_nodes")[0]["luns"] == shown
    with target.login() as initiator:
        outcome = initiator.write(cdb.write_10(0, 1), b"x" * BLOCK, immediate=BLOCK, lun=4)
        assert outcome.response.sense == (7, 0x27, 0x00)
        assert initiator.write(cdb.write_10(0, 1), b"x" * BLOCK, immediate=BLOCK).status == GOOD
        assert initiator.read(cdb.read_10(0, 1), BLOCK, lun=4).data == b"x" * BLOCK


def test_a_hole_gives_the_space_back_to_the_file_system(launch: Launch, tmp_path: Path) -> None:
    engine = launch()
    engine.initiator_group()
    port = engine.portal_group()
    file = tmp_path / "disk"
    target = Target(engine, port, engine.node("disk", engine.aio("D", file, size=4 * 2**20, fallocate=True)))
    before = file.stat().st_blocks
    ranges = struct.pack(">HH4xQL4x", 22, 16, 0, 2 * 2**20 // BLOCK)
    with target.login() as initiator:
        outcome = initiator.write(struct.pack(">B6xHx", 0x42, 24), ranges, immediate=24)
        assert (outcome.status, outcome.residual) == (GOOD, (0, 0))
    assert before - file.stat().st_blocks >= 2 * 2**20 // 512


def test_a_masked_lun_is_there_for_its_initiators_only(launch: Launch) -> None:
    engine = launch(state=True)
    hosts = names()
    for tag, host in enumerate(hosts, start=2):
        engine.rpc("iscsi_create_initiator_group", tag=tag, initiators=[host], netmasks=["ANY"])
    port = engine.portal_group()
    target = Target(engine, port, engine.node("disk", engine.malloc("M", 1), engine.malloc("N", 1)))
    engine.rpc("iscsi_target_node_add_pg_ig_maps", name=target.name, pg_ig_maps=[{"pg_tag": 1, "ig_tag": 3}])
    engine.rpc("iscsi_target_node_set_lun_mask", name=target.name, lun_id=1, initiator_groups=[2])
    shown = engine.rpc("iscsi_get_target_nodes")
    assert shown[0]["luns"][1]["initiator_groups"] == [2]
    engine.restart()
    assert engine.rpc("iscsi_get_target_nodes") == shown
    with (
        target.connect(name=hosts[0]).login(target.name) as one,
        target.connect(name=hosts[1]).login(target.name) as other,
    ):
        assert len(one.read(cdb.report_luns(), 4096).data) == 8 + 2 * 8
        assert len(other.read(cdb.report_luns(), 4096).data) == 8 + 8
        assert one.execute(cdb.unit_ready(), lun=1).status == GOOD
        assert other.execute(cdb.unit_ready(), lun=1).response.sense == (5, 0x25, 0x00)
        assert other.read(cdb.inquiry(), 255, lun=1).data[0] == 0x7F
        engine.rpc("iscsi_target_node_set_lun_mask", name=target.name, lun_id=1, initiator_groups=[])
        assert retried(other, cdb.report_luns(), length=4096).data[3] == 16
