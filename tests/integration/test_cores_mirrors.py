# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirrors that are rebuilt by workers: where the target nodes on them are served, and anew when that changes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, needs_two_cores, ready
from engine_process import Engine, Target, eventually
from pdu import cdb

pytestmark = needs_two_cores

SIZE = 8 * 2**20
BLOCK = 512
GOOD = 0


class Mirror:
    """``R0`` on A0 alone, with room for a second base, A1."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self.engine: Engine = cluster.engine
        self.paths = [directory / "a0", directory / "a1"]
        self.paths[0].write_bytes(os.urandom(SIZE))
        for number, path in enumerate(self.paths):
            self.engine.aio(f"A{number}", path, size=SIZE)
        self.engine.rpc("bdev_raid_create", name="R0", raid_level="raid1", base_bdevs=["A0"])

    def add(self, slowly: bool = False) -> None:
        self.engine.rpc("bdev_raid_set_options", process_window_size_kb=64, process_max_bandwidth_mb_sec=int(slowly))
        self.engine.rpc("bdev_raid_add_base_bdev", raid_bdev="R0", base_bdev="A1")

    def hurry(self) -> None:
        self.engine.rpc("bdev_raid_set_options", process_max_bandwidth_mb_sec=0)

    def shown(self) -> dict[str, Any]:
        (raid,) = self.engine.rpc("bdev_raid_get_bdevs", category="all")
        found: dict[str, Any] = raid
        return found

    def percent(self) -> int | None:
        """How far the rebuild is; None when there is none."""
        process = self.shown().get("process")
        return int(process["progress"]["percent"]) if process else None

    def is_under_way(self) -> bool:
        return (self.percent() or 0) > 5

    def until_rebuilt(self) -> None:
        eventually(lambda: self.percent() is None, "the end of the rebuild")
        assert [base["name"] for base in self.shown()["base_bdevs_list"]] == ["A0", "A1"]

    def saved(self) -> list[str]:
        """What a restart believes to be the same."""
        config = json.loads((self.engine.state_dir / "config.json").read_text())
        calls = [call for section in config["subsystems"] for call in section["config"] or ()]
        (bases,) = [call["params"]["base_bdevs"] for call in calls if call["method"] == "bdev_raid_create"]
        return list(bases)

    def are_same(self) -> bool:
        return self.paths[0].read_bytes() == self.paths[1].read_bytes()

    def write(self, target: Target, *blocks: int) -> None:
        with target.login() as initiator:
            ready(initiator)
            for block in blocks:
                assert initiator.write(cdb.write_16(block, 1), os.urandom(BLOCK)).status == GOOD


@pytest.fixture
def mirror(cluster: Cluster, tmp_path: Path) -> Mirror:
    return Mirror(cluster, tmp_path)


ALL_OVER = range(0, SIZE // BLOCK, 512)


def test_its_worker_rebuilds_a_mirror_while_it_is_used(mirror: Mirror) -> None:
    cluster, target = mirror.cluster, mirror.cluster.node("disk0", "R0")
    mirror.add(slowly=True)
    eventually(mirror.is_under_way, "some progress")
    assert mirror.saved() == ["A0"]
    mirror.write(target, *ALL_OVER)
    mirror.hurry()
    mirror.until_rebuilt()
    eventually(lambda: mirror.saved() == ["A0", "A1"], "a saved configuration with it")
    mirror.write(target, *ALL_OVER)
    assert mirror.are_same()
    assert [worker["restarts"] for worker in cluster.workers()] == [0, 0]
    # The other worker, and a new one, know of it.
    cluster.kill(1)
    mirror.engine.rpc("bdev_raid_remove_base_bdev", name="A0")
    mirror.write(target, 1)
    assert not mirror.are_same()
    assert [worker["restarts"] for worker in cluster.workers()] == [1, 0]


def test_a_worker_that_is_killed_has_not_rebuilt_it(mirror: Mirror) -> None:
    target = mirror.cluster.node("disk0", "R0")
    mirror.add(slowly=True)
    for _each in range(2):
        eventually(mirror.is_under_way, "some progress")
        pid = mirror.cluster.pid_of(1)
        os.kill(pid, signal.SIGKILL)
        mirror.cluster.is_back(1, pid)
        assert (mirror.percent() or 0) < 100
        assert mirror.saved() == ["A0"]
    mirror.write(target, *ALL_OVER)
    mirror.hurry()
    mirror.until_rebuilt()
    assert mirror.are_same()


def test_a_new_engine_begins_anew(mirror: Mirror) -> None:
    mirror.cluster.node("disk0", "R0")
    mirror.add(slowly=True)
    eventually(mirror.is_under_way, "some progress")
    mirror.engine.restart(signal.SIGKILL)
    assert mirror.saved() == ["A0"]
    mirror.hurry()
    mirror.until_rebuilt()
    assert mirror.are_same()


def test_it_begins_anew_where_the_node_goes(mirror: Mirror) -> None:
    cluster = mirror.cluster
    other = cluster.node("other")
    target = cluster.node("disk0", "R0")
    cluster.node("more", "M-other")  # most of those that come to share a disk are at worker 1
    mirror.add(slowly=True)
    eventually(mirror.is_under_way, "some progress")
    mirror.engine.rpc("iscsi_target_node_add_lun", name=target.name, bdev_name="M-other")
    with target.login() as initiator, other.login():
        assert ready(initiator).tsih
        assert cluster.worker_of(target) == cluster.worker_of(other) == 1
    cluster.kill(2)  # which has nothing to do with it any more
    mirror.write(target, *ALL_OVER)
    mirror.hurry()
    mirror.until_rebuilt()
    assert mirror.are_same()
    assert [worker["restarts"] for worker in cluster.workers()] == [0, 1]


def test_a_mirror_that_nobody_shows_is_rebuilt_and_served_where_that_is(mirror: Mirror) -> None:
    cluster = mirror.cluster
    cluster.node("other")
    mirror.add(slowly=True)
    eventually(mirror.is_under_way, "some progress")
    target = cluster.node("disk0", "R0")
    mirror.write(target, *ALL_OVER)
    assert mirror.percent()
    mirror.hurry()
    mirror.until_rebuilt()
    assert mirror.are_same()


def test_a_base_that_is_taken_back_meanwhile_is_nobodys(mirror: Mirror) -> None:
    target = mirror.cluster.node("disk0", "R0")
    mirror.add(slowly=True)
    eventually(mirror.is_under_way, "some progress")
    mirror.engine.rpc("bdev_raid_remove_base_bdev", name="A1")
    content = mirror.paths[1].read_bytes()
    mirror.write(target, *ALL_OVER)
    assert mirror.paths[1].read_bytes() == content
    mirror.engine.rpc("bdev_aio_delete", name="A1")
    assert mirror.saved() == ["A0"]
    assert [worker["restarts"] for worker in mirror.cluster.workers()] == [0, 0]


def test_a_base_that_fails_meanwhile_is_given_up(mirror: Mirror) -> None:
    engine = mirror.engine
    mirror.cluster.node("disk0", "R0")
    engine.rpc("bdev_error_create", base_name="A1")
    engine.rpc("bdev_error_inject_error", name="EE_A1", io_type="write", error_type="failure", num=1000)
    engine.rpc("bdev_raid_add_base_bdev", raid_bdev="R0", base_bdev="EE_A1")
    eventually(lambda: mirror.percent() is None, "the end of the rebuild")
    assert [base["name"] for base in mirror.shown()["base_bdevs_list"]] == ["A0", None]
    assert mirror.saved() == ["A0"]
    # It can be added again, and what was told of it before does not count.
    engine.rpc("bdev_error_inject_error", name="EE_A1", io_type="clear", error_type="failure")
    engine.rpc("bdev_raid_add_base_bdev", raid_bdev="R0", base_bdev="EE_A1")
    eventually(lambda: mirror.percent() is None, "the end of the rebuild")
    assert mirror.are_same()
    assert mirror.saved() == ["A0", "EE_A1"]
    assert [worker["restarts"] for worker in mirror.cluster.workers()] == [0, 0]
