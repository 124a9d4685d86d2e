# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block devices on top of others: parts, failures on demand, what survives a restart."""

from __future__ import annotations

import errno
import signal
from pathlib import Path
from typing import Any

import pytest
from engine_process import Engine, Launch, RpcError, Target
from pdu import cdb, wire
from pdu.initiator import Initiator

BLOCK = 512
GOOD = 0
MEDIUM_ERROR, HARDWARE_ERROR, DATA_PROTECT = 3, 4, 7


@pytest.fixture
def disk(launch: Launch) -> Target:
    """A node whose LUN 0 fails when it is told to: EE_M on a memory disk of 1 MiB."""
    engine = launch()
    engine.initiator_group()
    port = engine.portal_group()
    engine.malloc("M", 1)
    engine.rpc("bdev_error_create", base_name="M")
    return Target(engine, port, engine.node("disk", "EE_M"))


def inject(engine: Engine, io_type: str, error_type: str, **more: Any) -> None:
    engine.rpc("bdev_error_inject_error", name="EE_M", io_type=io_type, error_type=error_type, **more)


def block(initiator: Initiator, lba: int) -> bytes:
    outcome = initiator.read(cdb.read_10(lba, 1), BLOCK)
    assert outcome.status == GOOD
    return outcome.data


@pytest.mark.parametrize(
    ("io_type", "error_type", "expected"),
    [
        ("read", "failure", (MEDIUM_ERROR, 0x11, 0x00)),
        ("write", "failure", (MEDIUM_ERROR, 0x0C, 0x00)),
        ("write", "nospace", (DATA_PROTECT, 0x27, 0x07)),
        ("write", "nomem", (HARDWARE_ERROR, 0x44, 0x00)),
    ],
)
def test_a_failing_disk_gives_sense_data_and_the_session_lives(
    disk: Target, io_type: str, error_type: str, expected: tuple[int, int, int]
) -> None:
    inject(disk.engine, io_type, error_type)
    with disk.login() as initiator:
        if io_type == "read":
            outcome = initiator.read(cdb.read_10(5, 1), BLOCK)
        else:
            outcome = initiator.write(cdb.write_10(5, 1), b"x" * BLOCK, immediate=BLOCK)
        assert outcome.response.sense == expected
        if expected[0] != HARDWARE_ERROR:
            data = outcome.response.data[2:]
            assert (data[0], int.from_bytes(data[3:7], "big")) == (0xF0, 5)  # the information is valid: the LBA
        assert block(initiator, 5) == bytes(BLOCK)


def test_corrupt_data_is_what_the_initiator_gets(disk: Target) -> None:
    inject(disk.engine, "read", "corrupt_data", corrupt_offset=3, corrupt_value=0x81)
    with disk.login() as initiator:
        assert block(initiator, 0) == bytes((0, 0, 0, 0x81)) + bytes(BLOCK - 4)
        assert block(initiator, 0) == bytes(BLOCK)


def test_what_is_stuck_is_done_when_it_is_resumed(disk: Target) -> None:
    inject(disk.engine, "all", "pending")
    with disk.login() as writing, disk.connect(isid=bytes.fromhex("8000000000bb")).login(disk.name) as reading:
        flags = wire.WRITE | wire.SIMPLE | wire.FINAL
        write = writing.command(cdb.write_10(5, 1), flags=flags, length=BLOCK, data=b"x" * BLOCK)
        writing.send(write)
        inject(disk.engine, "read", "failure", num=0)
        assert block(reading, 5) == bytes(BLOCK)
        disk.engine.rpc("bdev_error_resume_pending", name="EE_M")
        assert writing.finish(write).status == GOOD
        assert block(reading, 5) == b"x" * BLOCK


def test_corrupt_data_of_every_kind_lets_what_has_none_pass(disk: Target) -> None:
    inject(disk.engine, "all", "corrupt_data")
    with disk.login() as initiator:
        assert initiator.execute(cdb.synchronize_cache_10()).status == GOOD


def test_an_error_of_nvme_is_what_the_disk_would_say(disk: Target) -> None:
    inject(disk.engine, "read", "nvme_failure", nvme_sct=2, nvme_sc=0x81, num=2**32 - 1)
    with disk.login() as initiator:
        for _time in range(2):
            assert initiator.read(cdb.read_10(5, 1), BLOCK).response.sense == (MEDIUM_ERROR, 0x11, 0x00)
        inject(disk.engine, "clear", "failure")
        assert block(initiator, 5) == bytes(BLOCK)
    for wrong in ({"error_type": "nvme_failure"}, {"error_type": "failure", "nvme_sc": 1}):
        with pytest.raises(RpcError, match="nvme_sct or nvme_sc should be specified") as refusal:
            inject(disk.engine, "read", **wrong)
        assert refusal.value.code == -errno.EINVAL


def test_a_flush_that_fails_is_told(disk: Target) -> None:
    inject(disk.engine, "flush", "failure")
    with disk.login() as initiator:
        assert initiator.execute(cdb.synchronize_cache_10()).response.sense == (MEDIUM_ERROR, 0x0C, 0x00)
        assert initiator.execute(cdb.synchronize_cache_10()).status == GOOD


def test_force_unit_access_is_a_flush(disk: Target) -> None:
    plain = cdb.write_10(0, 1)
    through = bytes((plain[0], 0x08)) + plain[2:]
    inject(disk.engine, "flush", "failure")
    with disk.login() as initiator:
        assert initiator.write(plain, b"x" * BLOCK, immediate=BLOCK).status == GOOD
        outcome = initiator.write(through, b"x" * BLOCK, immediate=BLOCK)
        assert outcome.response.sense == (MEDIUM_ERROR, 0x0C, 0x00)


def test_parts_of_a_disk_do_not_overlap(launch: Launch) -> None:
    engine = launch()
    engine.initiator_group()
    port = engine.portal_group()
    engine.malloc("M", 4)
    assert engine.rpc("bdev_split_create", base_bdev="M", split_count=2) == ["Mp0", "Mp1"]
    target = Target(engine, port, engine.node("disk", "Mp0", "Mp1", "M"))
    half = 2 * 2**20 // BLOCK
    with target.login() as initiator:
        initiator.write(cdb.write_10(half - 1, 1), b"0" * BLOCK, immediate=BLOCK)
        initiator.write(cdb.write_10(0, 1), b"1" * BLOCK, immediate=BLOCK, lun=1)
        outcome = initiator.read(cdb.read_10(half - 1, 2), 2 * BLOCK, lun=2)
        assert outcome.data == b"0" * BLOCK + b"1" * BLOCK
        assert initiator.read(cdb.read_10(half, 1), BLOCK).status != GOOD


def test_deleting_a_disk_takes_what_is_on_top_of_it_along(disk: Target) -> None:
    engine = disk.engine
    engine.rpc("bdev_passthru_create", base_bdev_name="EE_M", name="P")
    shown = {each["name"]: each["claimed"] for each in engine.rpc("bdev_get_bdevs")}
    assert shown == {"M": True, "EE_M": True, "P": False}
    engine.rpc("bdev_malloc_delete", name="M")
    assert engine.rpc("bdev_get_bdevs") == []
    with disk.login() as initiator:
        assert initiator.execute(cdb.unit_ready()).response.sense == (5, 0x25, 0x00)


def test_what_is_on_top_comes_back_with_its_identity(launch: Launch, tmp_path: Path) -> None:
    engine = launch(state=True)
    engine.aio("D", tmp_path / "disk", size=2**20)
    engine.rpc("bdev_split_create", base_bdev="D", split_count=2)
    latencies = dict.fromkeys(("avg_read_latency", "p99_read_latency", "avg_write_latency", "p99_write_latency"), 10)
    engine.rpc("bdev_delay_create", name="Slow", base_bdev_name="Dp1", **latencies)
    engine.rpc("bdev_error_create", base_name="Dp0")
    engine.rpc("bdev_passthru_create", base_bdev_name="Slow", name="P")
    engine.rpc("bdev_null_create", name="N", num_blocks=2048, block_size=512, optimal_write_size=64)
    assert engine.rpc("bdev_get_bdevs", name="N")[0]["optimal_write_size"] == 64
    before = engine.rpc("bdev_get_bdevs")
    assert engine.restart().rpc("bdev_get_bdevs") == before
    assert engine.rpc("engine_get_info")["unrestored"] == []


def test_a_null_disk_grows_and_its_initiators_learn_of_it(launch: Launch) -> None:
    engine = launch()
    engine.initiator_group()
    port = engine.portal_group()
    engine.rpc("bdev_null_create", name="N", num_blocks=2048, block_size=512)
    engine.rpc("bdev_passthru_create", base_bdev_name="N", name="P")
    target = Target(engine, port, engine.node("disk", "P"))
    with target.login() as initiator:
        engine.rpc("bdev_null_resize", name="N", new_size=2)
        assert initiator.execute(cdb.unit_ready()).response.sense == (6, 0x2A, 0x09)
        with pytest.raises(RpcError, match="never shrunk"):
            engine.rpc("bdev_null_resize", name="N", new_size=1)
        assert initiator.read(cdb.read_10(4095, 1), BLOCK).data == bytes(BLOCK)


def test_a_split_disk_is_not_split_again(launch: Launch) -> None:
    engine = launch()
    engine.malloc("M", 4)
    engine.rpc("bdev_split_create", base_bdev="M", split_count=2, split_size_mb=1)
    with pytest.raises(RpcError, match="is split already") as caught:
        engine.rpc("bdev_split_create", base_bdev="M", split_count=3)
    assert caught.value.code == -errno.EEXIST
    engine.rpc("bdev_split_delete", base_bdev="M")
    assert [each["name"] for each in engine.rpc("bdev_get_bdevs")] == ["M"]


@pytest.mark.parametrize("method", ["bdev_null_create", "bdev_malloc_create"])
@pytest.mark.parametrize("size", [256, 1000, 1536, 2**25, 2**31])
def test_a_physical_block_that_no_disk_can_have_is_refused(engine: Engine, method: str, size: int) -> None:
    with pytest.raises(RpcError, match="physical block size") as refusal:
        engine.rpc(method, name="N", num_blocks=8, block_size=512, physical_block_size=size)
    assert refusal.value.code == -errno.EINVAL
    assert engine.rpc(method, name="N", num_blocks=8, block_size=512, physical_block_size=2**24) == "N"


@pytest.mark.parametrize("odd", [0, 2])
def test_what_is_made_of_a_disk_stays_where_it_is_when_the_disk_grows(launch: Launch, tmp_path: Path, odd: int) -> None:
    engine = launch(state=True)
    engine.initiator_group()
    port = engine.portal_group()
    sizes = {"A": 2**21 + odd * BLOCK, "B": 2**20 + odd * BLOCK, "C": 2**20}
    for name, size in sizes.items():
        engine.aio(name, tmp_path / name, size=size)
    engine.rpc("bdev_split_create", base_bdev="A", split_count=2)
    engine.rpc("bdev_raid_create", name="R", raid_level="concat", base_bdevs=["B", "C"], strip_size_kb=1)
    target = Target(engine, port, engine.node("disk", "Ap1", "R"))
    middle = sizes["B"] // BLOCK
    with target.login() as initiator:
        initiator.write(cdb.write_10(0, 1), b"a" * BLOCK, immediate=BLOCK)
        initiator.write(cdb.write_10(middle, 1), b"c" * BLOCK, immediate=BLOCK, lun=1)
    for name in "AB":
        engine.rpc("bdev_aio_resize", name=name, size=2**23)
    before = engine.rpc("bdev_get_bdevs")
    assert engine.restart(signal.SIGKILL).rpc("bdev_get_bdevs") == before
    with target.login() as initiator:
        assert block(initiator, 0) == b"a" * BLOCK
        assert initiator.read(cdb.read_10(middle, 1), BLOCK, lun=1).data == b"c" * BLOCK


@pytest.mark.parametrize(("level", "blocks"), [("concat", [2**40]), ("concat", [8, 8]), ("raid0", [8])])
def test_a_raid_takes_no_more_of_its_bases_than_there_is(engine: Engine, level: str, blocks: list[int]) -> None:
    engine.malloc("M", 1)
    raid = {"name": "R", "raid_level": level, "base_bdevs": ["M"], "strip_size_kb": 4}
    with pytest.raises(RpcError, match="base_blocks") as refusal:
        engine.rpc("bdev_raid_create", **raid, base_blocks=blocks)
    assert refusal.value.code == -errno.EINVAL
