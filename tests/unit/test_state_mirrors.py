# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirrors that lost a disk, or get another one: what is planned, refused and sent, and what stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._state.executor import Failed, execute
from ansible_collections.openlun.iscsi.plugins.module_utils._state.report import difference
from fake_engine import FakeEngine
from planning import converge, planned, refused

DISKS: list[dict[str, Any]] = [{"name": f"d{number}", "type": "null", "size": "2GiB"} for number in range(4)]
GROUPS: dict[str, Any] = {
    "portal_groups": [{"tag": 1, "portals": ["10.0.0.1"]}],
    "initiator_groups": [{"tag": 2, "initiators": ["ANY"], "netmasks": ["ANY"]}],
}
NODE = {
    "name": "n1",
    "luns": [{"id": 0, "bdev": "m"}],
    "maps": [{"portal_group": 1, "initiator_group": 2}],
}


def mirror(*disks: str, **more: Any) -> dict[str, Any]:
    return {"name": "m", "type": "raid", "level": "raid1", "base_bdevs": list(disks), **more}


@pytest.fixture
def engine() -> FakeEngine:
    """Somebody is logged in to a node that serves a mirror of d0 and d1; it has limits."""
    made = FakeEngine(builtin=False)
    limits = {"qos": {"r_mbytes_per_sec": 7}}
    converge(made, bdevs=[*DISKS, mirror("d0", "d1", **limits)], target_nodes=[NODE], **GROUPS)
    made.log_in("n1")
    return made


def lose(engine: FakeEngine, disk: str) -> None:
    engine.do_bdev_raid_remove_base_bdev(disk)


def bases(engine: FakeEngine) -> list[str | None]:
    return [each["name"] for each in engine.bdevs["m"]["driver_specific"]["raid"]["base_bdevs_list"]]


def sent(engine: FakeEngine) -> list[tuple[str, Any]]:
    return [(call.method, call.params) for call in engine.written]


@pytest.mark.parametrize("order", [("d0", "d2"), ("d2", "d0")])
def test_a_lost_disk_is_replaced_without_force(engine: FakeEngine, order: tuple[str, ...]) -> None:
    before = dict(engine.bdevs["m"])
    lose(engine, "d1")
    operations = planned(engine, bdevs=[mirror(*order)])
    assert list(map(str, operations)) == ["edit bdev m: base bdevs d0, a lost disk → d0, d2, overwrites d2"]
    assert difference(operations)["after"]["bdev m"]["base_bdevs"] == ["d0", "d2"]
    execute(operations, engine)
    assert sent(engine) == [("bdev_raid_add_base_bdev", {"raid_bdev": "m", "base_bdev": "d2"})]
    assert bases(engine) == ["d0", "d2"]
    for kept in ("uuid", "assigned_rate_limits", "num_blocks"):
        assert engine.bdevs["m"][kept] == before[kept]
    assert len(engine.connections) == 1
    assert planned(engine, bdevs=[mirror(*order)]) == []


def test_the_disk_that_was_lost_comes_back_too(engine: FakeEngine) -> None:
    lose(engine, "d0")
    converge(engine, bdevs=[{"name": "m", "base_bdevs": ["d0", "d1"]}])
    assert bases(engine) == ["d1", "d0"]
    assert planned(engine, bdevs=[mirror("d0", "d1")]) == []


def test_a_disk_that_has_the_data_is_given_up_only_with_force(engine: FakeEngine) -> None:
    exchanged = [mirror("d0", "d2")]
    assert refused(engine, bdevs=exchanged) == (
        "edit bdev m: base bdevs d0, d1 → d0, d2, overwrites d2, gives d1 up before d2 has the data. "
        "Nothing was changed. Set force: true to allow it."
    )
    execute(planned(engine, force=True, bdevs=exchanged), engine)
    assert sent(engine) == [
        ("bdev_raid_remove_base_bdev", {"name": "d1"}),
        ("bdev_raid_add_base_bdev", {"raid_bdev": "m", "base_bdev": "d2"}),
    ]
    assert len(engine.connections) == 1
    assert planned(engine, bdevs=exchanged) == []


def test_the_new_disk_is_made_before_the_old_one_is_given_up_and_goes(engine: FakeEngine) -> None:
    new, gone = {"name": "new", "type": "null", "size": "2GiB"}, {"name": "d1", "state": "absent"}
    execute(planned(engine, force=True, bdevs=[gone, mirror("d0", "new"), new]), engine)
    steps = ["bdev_null_create", "bdev_raid_remove_base_bdev", "bdev_null_delete", "bdev_raid_add_base_bdev"]
    assert sorted([call.method for call in engine.written], key=steps.index) == steps
    methods = [call.method for call in engine.written]
    assert methods[:2] == steps[:2]


def test_the_new_disk_may_be_in_the_file_of_the_old_one(engine: FakeEngine) -> None:
    engine.files.update({"/srv/a": 2 << 30})
    file = {"type": "aio", "path": "/srv/a"}
    converge(engine, bdevs=[{"name": "old", **file}])
    converge(engine, force=True, bdevs=[mirror("d0", "old")])
    declared = [{"name": "old", "state": "absent"}, mirror("d0", "new"), {"name": "new", **file}]
    execute(planned(engine, force=True, bdevs=declared), engine)
    assert [call.method for call in engine.written] == [
        "bdev_raid_remove_base_bdev",
        "bdev_aio_delete",
        "bdev_aio_create",
        "bdev_raid_add_base_bdev",
    ]
    assert planned(engine, bdevs=declared) == []


def test_the_old_disk_can_be_served_and_one_that_was_served_can_come(engine: FakeEngine) -> None:
    other = {**NODE, "name": "n2", "luns": [{"id": 0, "bdev": "d2"}]}
    converge(engine, target_nodes=[other])
    swapped = {**other, "luns": [{"id": 0, "bdev": "d1"}]}
    execute(planned(engine, force=True, bdevs=[mirror("d0", "d2")], target_nodes=[swapped]), engine)
    assert bases(engine) == ["d0", "d2"]
    assert planned(engine, bdevs=[mirror("d0", "d2")], target_nodes=[swapped]) == []


def test_two_mirrors_exchange_their_disks(engine: FakeEngine) -> None:
    other = {**mirror("d2", "d3"), "name": "o"}
    converge(engine, bdevs=[other])
    swapped = [mirror("d0", "d3"), {**other, "base_bdevs": ["d2", "d1"]}]
    execute(planned(engine, force=True, bdevs=swapped), engine)
    assert bases(engine) == ["d0", "d3"]
    assert planned(engine, bdevs=swapped) == []


def test_a_disk_that_is_made_again_while_it_leaves_takes_no_mirror_along(engine: FakeEngine) -> None:
    smaller = {**DISKS[1], "size": "1GiB"}
    operations = planned(engine, force=True, bdevs=[mirror("d0", "d2"), smaller])
    assert [(each.action, each.ref[1]) for each in operations] == [("edit", "m"), ("replace", "d1")]
    execute(operations, engine)
    assert planned(engine, bdevs=[mirror("d0", "d2"), smaller]) == []


def test_a_namespace_of_a_controller_that_comes_in_the_same_run_takes_the_place(engine: FakeEngine) -> None:
    engine.slots["0000:03:00.0"] = 1
    controller = {"name": "c0", "type": "nvme", "address": "0000:03:00.0"}
    small = [{"name": name, "type": "null", "size": "1GiB"} for name in ("e0", "e1")]
    other = {**mirror("e0", "e1"), "name": "o"}
    converge(engine, bdevs=[*small, other])
    lose(engine, "e1")
    declared = [{**other, "base_bdevs": ["e0", "c0n1"]}, controller]
    execute(planned(engine, bdevs=declared), engine)
    assert [call.method for call in engine.written] == ["bdev_nvme_attach_controller", "bdev_raid_add_base_bdev"]
    assert planned(engine, bdevs=declared) == []


def test_the_old_disk_is_put_back_if_the_engine_refuses_the_new_one(engine: FakeEngine) -> None:
    operations = planned(engine, force=True, bdevs=[mirror("d0", "d2")])
    engine.fail_at = lambda call: call.params == {"raid_bdev": "m", "base_bdev": "d2"}
    with pytest.raises(Failed, match=r"edit bdev m: .*told to fail.* Put back as before: bdev m\."):
        execute(operations, engine)
    assert bases(engine) == ["d0", "d1"]


def test_what_cannot_be_rebuilt_is_refused_before_anything_is_given_up(engine: FakeEngine) -> None:
    small = {"name": "d2", "size": "1GiB"}
    assert "bdevs[0].base_bdevs: d2 has 1GiB, and m needs 2GiB of each of its bdevs." in refused(
        engine, force=True, bdevs=[mirror("d0", "d2"), small]
    )
    engine.files["/srv/a"] = 2 << 30
    fixed = {"name": "f", "type": "aio", "path": "/srv/a", "readonly": True}
    assert "f is read-only, so m cannot be rebuilt on it." in refused(
        engine, force=True, bdevs=[mirror("d0", "f"), fixed]
    )
    assert engine.written == []


def test_nothing_of_a_mirror_changes_while_it_is_rebuilt(engine: FakeEngine) -> None:
    engine.bdevs["m"]["driver_specific"]["raid"]["process"] = {"type": "rebuild", "target": "d1", "progress": {}}
    assert planned(engine, bdevs=[mirror("d0", "d1")]) == []
    for other in (("d0", "d2"), ("d2", "d1")):
        problem = refused(engine, force=True, bdevs=[mirror(*other)])
        assert problem.startswith("bdevs[0].base_bdevs: d1 of m is being rebuilt, and nothing else of the mirror")
        assert "or take d1 out by bdev_raid_remove_base_bdev." in problem


def test_one_disk_is_exchanged_at_a_time(engine: FakeEngine) -> None:
    converge(engine, force=True, bdevs=[mirror("d0", "d1", "d2"), {"name": "d4", "type": "null", "size": "2GiB"}])
    problem = refused(engine, force=True, bdevs=[mirror("d0", "d3", "d4")])
    assert "a mirror is rebuilt for one bdev at a time, and d3, d4 are new in m." in problem
    assert "replace" not in problem


@pytest.mark.parametrize("disks", [("d2", "d3"), ("d0", "d1", "d2")])
def test_another_mirror_is_another_device(engine: FakeEngine, disks: tuple[str, ...]) -> None:
    assert "puts another device in its place" in refused(engine, bdevs=[mirror(*disks)])
    assert next(each.action for each in planned(engine, force=True, bdevs=[mirror(*disks)])) == "replace"


# -- base bdevs that are replaced beneath a mirror

OTHER = {"name": "d1", "uuid": "00000000-0000-4000-8000-000000000001"}


def being_rebuilt(engine: FakeEngine, disk: str) -> None:
    engine.bdevs["m"]["driver_specific"]["raid"]["process"] = {"type": "rebuild", "target": disk, "progress": {}}


def test_a_base_that_is_replaced_is_rebuilt_while_initiators_go_on(engine: FakeEngine) -> None:
    before = dict(engine.bdevs["m"])
    refusal = refused(engine, bdevs=[OTHER])
    assert "edit bdev m: its bdev d1 is replaced, rebuilds d1 from what is left. Nothing was changed." in refusal
    execute(planned(engine, force=True, bdevs=[OTHER]), engine)
    assert [call.method for call in engine.written] == [
        "bdev_raid_remove_base_bdev",
        "bdev_null_delete",
        "bdev_null_create",
        "bdev_raid_add_base_bdev",
    ]
    assert bases(engine) == ["d0", "d1"]
    assert (engine.bdevs["m"]["uuid"], len(engine.connections)) == (before["uuid"], 1)
    assert planned(engine, bdevs=[OTHER, mirror("d0", "d1")]) == []


def test_limits_of_a_mirror_change_while_a_base_is_replaced(engine: FakeEngine) -> None:
    limited = {"name": "m", "qos": {"r_mbytes_per_sec": 8}}
    (edited,) = [each for each in planned(engine, force=True, bdevs=[OTHER, limited]) if each.ref[1] == "m"]
    assert edited.why.endswith("→ r_mbytes_per_sec 8, its bdev d1 is replaced")
    converge(engine, force=True, bdevs=[OTHER, limited])
    assert planned(engine, bdevs=[OTHER, limited]) == []


def test_a_base_that_is_replaced_beneath_is_rebuilt_too(engine: FakeEngine) -> None:
    engine.slots["0000:03:00.0"] = engine.slots["0000:04:00.0"] = 1
    controller = {"name": "c0", "type": "nvme", "address": "0000:03:00.0"}
    small = {"name": "e0", "type": "null", "size": "1GiB"}
    other = {**mirror("e0", "c0n1"), "name": "o"}
    converge(engine, bdevs=[small, controller, other])
    declared = [{**controller, "address": "0000:04:00.0"}]
    execute(planned(engine, force=True, bdevs=declared), engine)
    assert [call.method for call in engine.written] == [
        "bdev_raid_remove_base_bdev",
        "bdev_nvme_detach_controller",
        "bdev_nvme_attach_controller",
        "bdev_raid_add_base_bdev",
    ]
    # One that leaves anyway is not rebuilt.
    moved = [controller, {**other, "base_bdevs": ["e0", "f0"]}, {**small, "name": "f0"}]
    (edited,) = [each for each in planned(engine, force=True, bdevs=moved) if each.ref[1] == "o"]
    assert str(edited).endswith("overwrites f0, gives c0n1 up before f0 has the data")


def test_the_base_is_put_back_if_the_new_one_cannot_be_made(engine: FakeEngine) -> None:
    operations = planned(engine, force=True, bdevs=[OTHER])
    engine.fail_at = lambda call: (call.params or {}).get("uuid") == OTHER["uuid"]
    with pytest.raises(Failed, match=r"replace bdev d1: .*told to fail.* Put back as before: bdev d1, bdev m\."):
        execute(operations, engine)
    assert bases(engine) == ["d0", "d1"]


@pytest.mark.parametrize("can_rebuild", [True, False])
def test_what_would_be_no_mirror_of_the_same_data_says_so(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, can_rebuild: bool
) -> None:
    """The new base is too small, or the engine rebuilds nothing."""
    if not can_rebuild:
        monkeypatch.delattr(FakeEngine, "do_bdev_raid_add_base_bdev")
    declared = {"name": "d1", "size": "1GiB"} if can_rebuild else OTHER
    refusal = refused(engine, bdevs=[declared])
    assert "replace bdev m: its bdev d1 is replaced, " in refusal
    assert ", takes d1 for a mirror of d0 though nothing is copied. Nothing was changed." in refusal


def test_a_mirror_whose_bases_are_all_replaced_is_a_new_one(engine: FakeEngine) -> None:
    both = [OTHER, {"name": "d0", "size": "1GiB"}]
    (made,) = [each for each in planned(engine, force=True, bdevs=both) if each.ref[1] == "m"]
    assert (made.action, made.risks) == ("replace", ("interrupts what is not declared here",))
    converge(engine, force=True, bdevs=both)
    assert planned(engine, bdevs=both) == []


def test_the_last_base_of_a_mirror_is_not_replaced_beneath_it(engine: FakeEngine) -> None:
    lose(engine, "d0")
    assert refused(engine, force=True, bdevs=[OTHER]) == (
        "bdev m cannot be made again (its bdev d1 is replaced): it has lost a disk. Put one in its place by base_bdevs "
        "or bdev_raid_add_base_bdev, run this again when it is rebuilt, or remove m too."
    )
    gone = [{"name": name, "state": "absent"} for name in ("m", "n1")]
    converge(engine, force=True, bdevs=[OTHER, gone[0]], target_nodes=[gone[1]])


def test_the_base_that_the_others_are_rebuilt_from_is_not_replaced(engine: FakeEngine) -> None:
    being_rebuilt(engine, "d0")
    assert refused(engine, force=True, bdevs=[OTHER]) == (
        "bdev m cannot be made again (its bdev d1 is replaced): d0 of it is being rebuilt and has not all of the data. "
        "Run this again when that is done, or remove m too."
    )
    assert engine.written == []


def test_a_base_that_is_being_rebuilt_can_be_replaced(engine: FakeEngine) -> None:
    being_rebuilt(engine, "d1")
    operations = planned(engine, force=True, bdevs=[OTHER])
    assert [(each.action, each.ref[1]) for each in operations] == [("replace", "d1"), ("edit", "m")]


def test_a_mirror_that_lost_one_of_three_is_rebuilt_on_another_one_and_lacks_it_still(engine: FakeEngine) -> None:
    converge(engine, force=True, bdevs=[mirror("d0", "d1", "d2")])
    lose(engine, "d2")
    converge(engine, force=True, bdevs=[OTHER])
    assert sorted(map(str, bases(engine))) == ["None", "d0", "d1"]


def test_a_mirror_that_lost_a_disk_does_not_become_another_device(engine: FakeEngine) -> None:
    lose(engine, "d1")
    uuid = {"name": "m", "uuid": OTHER["uuid"]}
    assert refused(engine, force=True, bdevs=[uuid]).startswith("bdev m cannot be made again (uuid ")
    assert engine.written == []
