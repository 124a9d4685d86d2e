# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of bdevs that come with others, parts of a split and NVMe namespaces: when they stay, and when they go."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._state import goal
from ansible_collections.openlun.iscsi.plugins.module_utils._state.bdevs import Bdev, Qos
from ansible_collections.openlun.iscsi.plugins.module_utils._state.declaration import Declaration
from ansible_collections.openlun.iscsi.plugins.module_utils._state.drivers import GIVEN
from ansible_collections.openlun.iscsi.plugins.module_utils._state.executor import execute
from ansible_collections.openlun.iscsi.plugins.module_utils._state.model import State
from ansible_collections.openlun.iscsi.plugins.module_utils._state.report import actions, difference
from fake_engine import QOS, FakeEngine
from planning import converge, planned

DISK = {"name": "d0", "type": "null", "size": "2GiB"}
SPLIT = {"name": "d0p", "type": "split", "base_bdevs": ["d0"], "count": 3}
NVME = {"name": "c0", "type": "nvme", "address": "0000:03:00.0"}
MADE = [DISK, SPLIT, NVME]
GROUPS: dict[str, Any] = {
    "portal_groups": [{"tag": 1, "portals": ["10.0.0.1"]}],
    "initiator_groups": [{"tag": 2, "initiators": ["ANY"], "netmasks": ["ANY"]}],
}
MAPS = [{"portal_group": 1, "initiator_group": 2}]


def limited(name: str, **more: int) -> dict[str, Any]:
    return {"name": name, "qos": {"rw_ios_per_sec": 2000, "r_mbytes_per_sec": 7, **more}}


def limits(engine: FakeEngine, name: str) -> tuple[int, ...]:
    return tuple(engine.bdevs[name]["assigned_rate_limits"][each] for each in QOS)


NONE = (0, 0, 0, 0)
LIMITS = (2000, 0, 7, 0)


@pytest.fixture
def engine() -> FakeEngine:
    """Two parts and a namespace have limits."""
    made = FakeEngine(builtin=False)
    made.slots.update({"0000:03:00.0": 2})
    converge(made, bdevs=[*MADE, limited("d0p0"), limited("d0p1"), limited("c0n1")])
    return made


def test_limits_that_nobody_declares_any_more_go_with_prune_and_only_once(engine: FakeEngine) -> None:
    declared = [*MADE, limited("d0p1")]
    assert planned(engine, bdevs=declared) == []
    operations = planned(engine, bdevs=declared, prune=True)
    assert [str(each) for each in operations] == [
        f"edit bdev {name}: not declared, qos rw_ios_per_sec 2000, r_mbytes_per_sec 7 → none"
        for name in ("c0n1", "d0p0")
    ]
    assert {each["action"] for each in actions(operations)} == {"edit"}
    shown = difference(operations)
    assert shown["before"]["bdev d0p0"]["qos"] == "rw_ios_per_sec 2000, r_mbytes_per_sec 7"
    assert "qos" not in shown["after"]["bdev d0p0"]
    execute(operations, engine)
    assert [(call.method, call.params) for call in engine.written] == [
        ("bdev_set_qos_limit", {"name": name, "rw_ios_per_sec": 0, "r_mbytes_per_sec": 0}) for name in ("c0n1", "d0p0")
    ]
    assert [limits(engine, name) for name in ("d0p0", "d0p1", "c0n1")] == [NONE, LIMITS, NONE]
    assert planned(engine, bdevs=declared, prune=True) == []


def test_a_bdev_that_is_declared_without_limits_keeps_them(engine: FakeEngine) -> None:
    declared = [*MADE, *({"name": name} for name in ("d0p0", "d0p1", "c0n1"))]
    assert planned(engine, bdevs=declared, prune=True) == []


def test_what_goes_keeps_its_limits_until_then(engine: FakeEngine) -> None:
    operations = planned(engine, bdevs=[DISK], prune=True, force=True)
    assert [(each.action, each.ref[1]) for each in operations] == [("delete", "c0"), ("delete", "d0p")]
    fewer = planned(engine, bdevs=[DISK, {**SPLIT, "count": 1}, NVME, limited("c0n1")], prune=True, force=True)
    assert [(each.action, each.ref[1]) for each in fewer] == [("replace", "d0p")]
    execute(fewer, engine)
    assert limits(engine, "d0p0") == NONE


@pytest.mark.parametrize("patterns", [["d0p*", "c0n1"], ["bdev/d0p", "bdev/c0*"]])
def test_what_is_ignored_keeps_its_limits_and_those_of_what_it_gives(engine: FakeEngine, patterns: list[str]) -> None:
    assert planned(engine, bdevs=[DISK, NVME], prune=True, ignore=patterns) == []


def test_what_is_ignored_keeps_the_limits_of_what_it_uses(engine: FakeEngine) -> None:
    theirs = {"name": "theirs", "luns": [{"id": 0, "bdev": "d0p0"}], "maps": MAPS}
    converge(engine, target_nodes=[theirs], **GROUPS)
    operations = planned(engine, bdevs=MADE, prune=True, ignore=["*:theirs"])
    assert [each.ref[1] for each in operations] == ["c0n1", "d0p1"]
    assert "d0p0" in [each.ref[1] for each in planned(engine, bdevs=MADE, target_nodes=[theirs], prune=True, **GROUPS)]


def test_namespaces_of_a_controller_that_is_not_managed_keep_their_limits(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = {"state": "enabled", "trid": {"trtype": "TCP", "traddr": "192.0.2.1"}}
    monkeypatch.setattr(engine, "do_bdev_nvme_get_controllers", lambda: [{"name": "c0", "ctrlrs": [way]}])
    assert planned(engine, bdevs=[DISK, SPLIT, limited("d0p0"), limited("d0p1")], prune=True) == []


def test_parts_that_are_made_again_get_all_their_limits_even_if_one_changes(engine: FakeEngine) -> None:
    smaller = {**DISK, "size": "1GiB"}
    declared = [smaller, SPLIT, NVME, limited("c0n1")]
    changed = limited("d0p0", r_mbytes_per_sec=8)
    operations = planned(engine, bdevs=[*declared, changed], prune=True, force=True)
    assert [(each.action, each.ref[1]) for each in operations] == [
        ("replace", "d0"),
        ("replace", "d0p"),
        ("edit", "d0p0"),
    ]
    execute(operations, engine)
    assert [limits(engine, name) for name in ("d0p0", "d0p1")] == [(2000, 0, 8, 0), NONE]
    assert planned(engine, bdevs=[*declared, changed], prune=True) == []


@pytest.mark.parametrize(("name", "kind"), [("c0n1", "nvme"), ("d0p0", "split")])
def test_limits_of_what_lost_its_giver_while_the_engine_was_asked_go_nowhere(name: str, kind: str) -> None:
    bdev = Bdev(name, GIVEN[kind], qos=Qos(1000, 0, 0, 0))
    nothing = Declaration()
    aimed = goal.aim(State({bdev.ref: bdev}), nothing, nothing.problems, prune=True)
    assert aimed.objects == {bdev.ref: bdev}
