# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target modules on bdevs that are made of others, with a running engine."""

from __future__ import annotations

from functools import partial
from typing import Any

from engine_process import Engine
from module_process import run_module

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
