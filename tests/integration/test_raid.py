# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices made of several: over RPC, behind a target node, and over a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engine_process import Engine, Launch, RpcError, Target, eventually
from pdu import cdb

LARGE = 32 * 2**20
"""Bytes of disks whose rebuild takes half a minute at the slowest."""


def with_disks(engine: Engine, directory: Path, size: int = 4 * 2**20) -> Engine:
    for number in range(2):
        engine.aio(f"A{number}", directory / f"a{number}", size=size)
    return engine


@pytest.fixture
def engine(launch: Launch, tmp_path: Path) -> Engine:
    return with_disks(launch(state=True), tmp_path)


def served(engine: Engine) -> Target:
    engine.initiator_group()
    port = engine.portal_group()
    return Target(engine, port, engine.node("disk0", "R0"))


@pytest.mark.parametrize(("level", "strip", "blocks"), [("0", "64", 16384), ("concat", "64", 16384), ("1", "", 8192)])
def test_what_is_written_is_there_after_a_restart(engine: Engine, level: str, strip: str, blocks: int) -> None:
    strips = ("-z", strip) if strip else ()
    engine.spdk_rpc("bdev_raid_create", "-n", "R0", "-r", level, "-b", "A0 A1", *strips)
    (raid,) = engine.spdk_rpc("bdev_raid_get_bdevs", "online")
    assert (raid["name"], raid["num_base_bdevs_operational"]) == ("R0", 2)
    before = engine.rpc("bdev_get_bdevs")
    assert [(bdev["name"], bdev["claimed"]) for bdev in before] == [("A0", True), ("A1", True), ("R0", False)]
    assert before[2]["num_blocks"] == blocks
    target = served(engine)
    data = bytes(range(256)) * 1024
    with target.login() as client:
        assert client.write(cdb.write_10(blocks - 512, 512), data).status == 0
        assert client.execute(cdb.synchronize_cache_10()).status == 0
    engine.restart()
    assert engine.rpc("bdev_get_bdevs") == before
    with target.login() as client:
        assert client.read(cdb.read_10(blocks - 512, 512), len(data)).data == data
    engine.spdk_rpc("iscsi_delete_target_node", target.name)
    engine.spdk_rpc("bdev_raid_delete", "R0")
    assert {bdev["claimed"] for bdev in engine.rpc("bdev_get_bdevs")} == {False}


def test_a_base_is_nobody_elses(engine: Engine) -> None:
    engine.rpc("bdev_raid_create", name="R0", raid_level="raid0", strip_size_kb=4, base_bdevs=["A0"])
    for bases, words in ((["A0", "A1"], "used by bdev R0"), (["A1", "A1"], "twice"), (["A1", "nope"], "nope")):
        with pytest.raises(RpcError, match=words):
            engine.rpc("bdev_raid_create", name="R1", raid_level="raid0", strip_size_kb=4, base_bdevs=bases)
    for more in ({"superblock": True}, {"raid_level": "raid5f"}):
        arguments: dict[str, Any] = {"name": "R1", "raid_level": "raid1", "base_bdevs": ["A1"], **more}
        with pytest.raises(RpcError, match="not supported") as refusal:
            engine.rpc("bdev_raid_create", **arguments)
        assert refusal.value.code == -95


def test_a_striped_device_goes_with_its_base_and_a_mirror_does_not(engine: Engine) -> None:
    engine.rpc("bdev_raid_create", name="R0", raid_level="raid1", base_bdevs=["A0", "A1"])
    target = served(engine)
    with target.login() as client:
        client.write(cdb.write_10(0, 1), b"x" * 512)
        engine.rpc("bdev_aio_delete", name="A0")
        assert client.read(cdb.read_10(0, 1), 512).data == b"x" * 512
    engine.restart()
    with target.login() as client:
        assert client.read(cdb.read_10(0, 1), 512).data == b"x" * 512
    assert engine.rpc("bdev_raid_get_bdevs", category="all")[0]["num_base_bdevs_operational"] == 1
    engine.rpc("bdev_aio_delete", name="A1")
    assert engine.rpc("bdev_get_bdevs") == []
    engine.malloc("M0", 1)
    engine.rpc("bdev_raid_create", name="R1", raid_level="concat", strip_size_kb=4, base_bdevs=["M0"])
    engine.rpc("bdev_malloc_delete", name="M0")
    assert engine.rpc("bdev_get_bdevs") == []


def mirror(engine: Engine) -> dict[str, Any]:
    return next(dict(raid) for raid in engine.rpc("bdev_raid_get_bdevs", category="all") if raid["name"] == "R0")


def bases(engine: Engine) -> list[str | None]:
    return [base["name"] for base in mirror(engine)["base_bdevs_list"]]


@pytest.fixture
def degraded(launch: Launch, tmp_path: Path) -> Target:
    """A mirror that lost the second of its disks, and a new disk A2."""
    engine = with_disks(launch(state=True), tmp_path, LARGE)
    engine.spdk_rpc("bdev_raid_create", "-n", "R0", "-r", "1", "-b", "A0 A1")
    target = served(engine)
    with target.login() as client:
        client.write(cdb.write_10(0, 512), bytes(range(256)) * 1024)
    engine.rpc("bdev_aio_delete", name="A1")
    engine.aio("A2", tmp_path / "a2", size=LARGE)
    return target


def slow_rebuild(engine: Engine) -> None:
    engine.spdk_rpc("bdev_raid_set_options", "-w", "64", "-b", "1")


def test_a_new_disk_takes_the_place_of_a_lost_one(degraded: Target, tmp_path: Path) -> None:
    engine = degraded.engine
    assert bases(engine) == ["A0", None]
    engine.restart()
    assert bases(engine) == ["A0", None]
    with degraded.login() as client:
        engine.spdk_rpc("bdev_raid_add_base_bdev", "R0", "A2")
        for lba in range(0, 8192, 64):
            assert client.write(cdb.write_10(lba, 1), lba.to_bytes(2, "big") * 256).status == 0
        eventually(lambda: "process" not in mirror(engine), "the end of the rebuild")
        assert client.execute(cdb.synchronize_cache_10()).status == 0
    assert bases(engine) == ["A0", "A2"]
    assert (tmp_path / "a0").read_bytes() == (tmp_path / "a2").read_bytes()
    before = engine.rpc("bdev_get_bdevs")
    engine.restart()
    assert engine.rpc("bdev_get_bdevs") == before
    engine.rpc("bdev_aio_delete", name="A0")
    with degraded.login() as client:
        assert client.read(cdb.read_10(64, 1), 512).data == (64).to_bytes(2, "big") * 256


def test_a_rebuild_is_shown_and_goes_on_after_a_restart(degraded: Target, tmp_path: Path) -> None:
    engine = degraded.engine
    slow_rebuild(engine)
    engine.rpc("bdev_raid_add_base_bdev", raid_bdev="R0", base_bdev="A2")
    raid = mirror(engine)
    assert (raid["num_base_bdevs_operational"], bases(engine)) == (2, ["A0", "A2"])
    assert (raid["process"]["type"], raid["process"]["target"]) == ("rebuild", "A2")
    assert raid["process"]["progress"]["percent"] < 100
    assert [bdev["name"] for bdev in engine.rpc("bdev_get_bdevs") if bdev["claimed"]] == ["A2", "A0"]
    with pytest.raises(RpcError, match="used by bdev R0"):
        engine.rpc("bdev_raid_create", name="R1", raid_level="raid1", base_bdevs=["A2"])
    engine.restart()
    assert "Task was destroyed" not in engine.words()
    assert mirror(engine)["process"]["target"] == "A2"
    engine.rpc("bdev_raid_set_options", process_max_bandwidth_mb_sec=0)
    eventually(lambda: "process" not in mirror(engine), "the end of the rebuild")
    assert (tmp_path / "a0").read_bytes() == (tmp_path / "a2").read_bytes()
    config = engine.rpc("framework_get_config", name="bdev")
    assert [call["params"] for call in config if call["method"] == "bdev_raid_set_options"] == [
        {"process_window_size_kb": 64, "process_max_bandwidth_mb_sec": 0}
    ]


def test_a_disk_is_removed_from_a_mirror(degraded: Target) -> None:
    engine = degraded.engine
    slow_rebuild(engine)
    engine.rpc("bdev_raid_add_base_bdev", raid_bdev="R0", base_bdev="A2")
    engine.spdk_rpc("bdev_raid_remove_base_bdev", "A2")
    assert bases(engine) == ["A0", None]
    assert [bdev["name"] for bdev in engine.rpc("bdev_get_bdevs") if bdev["claimed"]] == ["A0"]
    engine.restart()
    assert bases(engine) == ["A0", None]
    with pytest.raises(RpcError, match=r"Failed to remove base bdev from raid bdev: .*A0 is the last"):
        engine.rpc("bdev_raid_remove_base_bdev", name="A0")
    with pytest.raises(RpcError, match="A2 is no base of a raid"):
        engine.rpc("bdev_raid_remove_base_bdev", name="A2")
    with degraded.login() as client:
        assert client.read(cdb.read_10(0, 512), 512 * 512).data == bytes(range(256)) * 1024


def test_a_disk_that_cannot_be_added_is_named(degraded: Target) -> None:
    engine = degraded.engine

    def refused(raid: str, base: str, words: str) -> None:
        with pytest.raises(RpcError, match=words):
            engine.rpc("bdev_raid_add_base_bdev", raid_bdev=raid, base_bdev=base)

    engine.malloc("Small0", 1)
    refused("R0", "Small0", r"Failed to add base bdev Small0 to RAID bdev R0: Invalid argument: .*2048 blocks")
    refused("R0", "A0", "A0 is used by bdev R0")
    refused("R0", "nope", "nope does not exist")
    refused("A2", "A0", "raid bdev A2 is not found in config")
    engine.rpc("bdev_raid_create", name="R1", raid_level="concat", strip_size_kb=4, base_bdevs=["Small0"])
    refused("R1", "A2", "only to a raid1")
    engine.rpc("bdev_raid_add_base_bdev", raid_bdev="R0", base_bdev="A2")
    eventually(lambda: "process" not in mirror(engine), "the end of the rebuild")
    engine.malloc("Spare0", LARGE // 2**20)
    refused("R0", "Spare0", "it has all of its 2 base bdevs")
    with pytest.raises(RpcError, match="process_window_size_kb 0"):
        engine.rpc("bdev_raid_set_options", process_window_size_kb=0)


def test_adding_a_disk_is_the_last_of_a_transaction(degraded: Target) -> None:
    engine = degraded.engine
    add = {"method": "bdev_raid_add_base_bdev", "params": {"raid_bdev": "R0", "base_bdev": "A2"}}
    null = {"method": "bdev_null_create", "params": {"name": "N0", "num_blocks": 8, "block_size": 512}}
    with pytest.raises(RpcError, match="cannot be undone"):
        engine.rpc("engine_apply", calls=[add, null])
    assert bases(engine) == ["A0", None]
    engine.rpc("engine_apply", calls=[null, add])
    eventually(lambda: "process" not in mirror(engine), "the end of the rebuild")
    assert bases(engine) == ["A0", "A2"]
