# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target modules on bdevs that are made of others, with a running engine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cluster import TWO_CORES, needs_two_cores
from engine_process import Engine, Launch, Target, eventually, on_cores
from module_process import run_module
from pdu import cdb

NO_LIMITS = dict.fromkeys(("rw_ios_per_sec", "rw_mbytes_per_sec", "r_mbytes_per_sec", "w_mbytes_per_sec"), 0)


def bdev(engine: Engine, name: str) -> dict[str, Any]:
    [found] = engine.rpc("bdev_get_bdevs", name=name)
    return dict(found)


def test_limits_of_a_part_go_with_prune_when_nobody_declares_them(engine: Engine) -> None:
    run = partial(run_module, "target_config", socket=str(engine.socket))
    made = [
        {"name": "disk", "type": "malloc", "size": "8MiB"},
        {"name": "diskp", "type": "split", "base_bdevs": ["disk"], "count": 2},
    ]
    run(bdevs=[*made, {"name": "diskp1", "qos": {"rw_ios_per_sec": 2000, "w_mbytes_per_sec": 3}}])
    limits = bdev(engine, "diskp1")["assigned_rate_limits"]
    assert limits == {**NO_LIMITS, "rw_ios_per_sec": 2000, "w_mbytes_per_sec": 3}

    assert not run(bdevs=made)["changed"]
    assert not run(bdevs=made, prune=True, ignore=["diskp1"])["changed"]
    foretold = run(bdevs=made, prune=True, check=True)
    assert bdev(engine, "diskp1")["assigned_rate_limits"] == limits
    assert [(each["action"], each["object"]) for each in foretold["actions"]] == [("edit", "bdev diskp1")]
    assert foretold["diff"]["before"]["bdev diskp1"]["qos"] == "rw_ios_per_sec 2000, w_mbytes_per_sec 3"
    assert "qos" not in foretold["diff"]["after"]["bdev diskp1"]

    done = run(bdevs=made, prune=True)
    assert (done["changed"], done["actions"], done["diff"]) == (True, foretold["actions"], foretold["diff"])
    assert done["bdevs"] == foretold["bdevs"]
    assert bdev(engine, "diskp1")["assigned_rate_limits"] == NO_LIMITS
    assert not run(bdevs=made, prune=True)["changed"]


def disk(directory: Path, name: str) -> dict[str, str]:
    return {"name": name, "type": "aio", "path": str(directory / name), "size": "8MiB"}


def mirror(*disks: str) -> dict[str, Any]:
    return {"name": "mirror", "type": "raid", "level": "raid1", "base_bdevs": list(disks)}


def raid(engine: Engine) -> dict[str, Any]:
    return dict(bdev(engine, "mirror")["driver_specific"]["raid"])


def whole(engine: Engine) -> list[str]:
    """The disks of the mirror when it is rebuilt."""
    eventually(lambda: "process" not in raid(engine), "the end of the rebuild")
    return [each["name"] for each in raid(engine)["base_bdevs_list"]]


@pytest.mark.parametrize("cores", [on_cores(1), pytest.param(TWO_CORES, marks=needs_two_cores)], ids=["one", "two"])
def test_a_mirror_gets_another_disk_while_an_initiator_writes(
    launch: Launch, tmp_path: Path, cores: tuple[str, ...]
) -> None:
    engine = launch(*cores)
    run = partial(run_module, "target_config", socket=str(engine.socket))
    disks = [disk(tmp_path, name) for name in ("a", "b", "c")]
    run(bdevs=[*disks, mirror("a", "b")])
    uuid = bdev(engine, "mirror")["uuid"]
    engine.initiator_group()
    target = Target(engine, engine.portal_group(), engine.node("n", "mirror"))
    with target.login() as client:
        assert client.write(cdb.write_10(0, 512), bytes(range(256)) * 1024).status == 0
        engine.rpc("bdev_aio_delete", name="b")
        repaired = [disks[0], disks[2], mirror("a", "c")]
        foretold = run(bdevs=repaired, check=True)
        assert [each["why"] for each in foretold["actions"]] == ["base bdevs a, a lost disk → a, c, overwrites c"]
        assert raid(engine)["num_base_bdevs_operational"] == 1
        done = run(bdevs=repaired)
        assert (done["actions"], done["diff"]) == (foretold["actions"], foretold["diff"])
        told, came = ({each["name"]: each for each in result["bdevs"]} for result in (foretold, done))
        assert came == told
        assert not run(bdevs=repaired)["changed"]
        assert whole(engine) == ["a", "c"]

        exchanged, before = [*disks, mirror("b", "c")], engine.rpc("bdev_get_bdevs")
        problem = run(bdevs=exchanged, fails=True)["msg"]
        assert "overwrites b, gives a up before b has the data. Nothing was changed. Set force: true" in problem
        assert engine.rpc("bdev_get_bdevs") == before
        run(bdevs=exchanged, force=True)
        assert client.write(cdb.write_10(512, 1), b"new!" * 128).status == 0
        assert whole(engine) == ["c", "b"]
        assert client.read(cdb.read_10(0, 513), 513 * 512).data == bytes(range(256)) * 1024 + b"new!" * 128
        assert client.execute(cdb.synchronize_cache_10()).status == 0
        assert (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
    assert bdev(engine, "mirror")["uuid"] == uuid
    assert not run(bdevs=exchanged)["changed"]
