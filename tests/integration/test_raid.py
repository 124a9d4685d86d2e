# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices made of several: over RPC, behind a target node, and over a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engine_process import Engine, Launch, RpcError, Target
from pdu import cdb


@pytest.fixture
def engine(launch: Launch, tmp_path: Path) -> Engine:
    engine = launch(state=True)
    for number in range(2):
        engine.aio(f"A{number}", tmp_path / f"a{number}", size=4 * 2**20)
    return engine


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
