# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bdevs that are made of other bdevs, which SPDK has: what is planned, refused and sent."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._state.bdevs import Latency
from ansible_collections.openlun.iscsi.plugins.module_utils._state.executor import execute
from fake_engine import FakeEngine
from planning import converge, planned, refused

GIB = 1 << 30
DISKS: list[dict[str, Any]] = [{"name": f"d{number}", "type": "null", "size": "2GiB"} for number in range(3)]
SPLIT = {"name": "d0p", "type": "split", "base_bdevs": ["d0"], "count": 2}
RAID = {"name": "r", "type": "raid", "level": "raid0", "base_bdevs": ["d1", "d2"]}
DELAY = {"name": "slow", "type": "delay", "base_bdevs": ["d0p1"], "latency": {"read": 100, "write_p99": 5}}
GROUPS: dict[str, Any] = {
    "portal_groups": [{"tag": 1, "portals": ["10.0.0.1"]}],
    "initiator_groups": [{"tag": 2, "initiators": ["ANY"], "netmasks": ["ANY"]}],
}


def node(*bdevs: str) -> dict[str, Any]:
    luns = [{"id": number, "bdev": bdev} for number, bdev in enumerate(bdevs)]
    return {"name": "n1", "luns": luns, "maps": [{"portal_group": 1, "initiator_group": 2}]}


@pytest.fixture
def engine() -> FakeEngine:
    made = FakeEngine(builtin=False)
    converge(made, bdevs=DISKS, **GROUPS)
    return made


@pytest.fixture
def stacked(engine: FakeEngine) -> FakeEngine:
    """A node serves a delay bdev on a part of d0, and a stripe of d1 and d2."""
    converge(engine, bdevs=[DELAY, RAID, SPLIT], target_nodes=[node("slow", "r")])
    return engine


def test_what_is_below_is_made_first_and_removed_last(stacked: FakeEngine) -> None:
    gone = [{"name": name, "state": "absent"} for name in ("d0", "d0p", "slow")]
    operations = planned(stacked, bdevs=gone, target_nodes=[{"name": "n1", "state": "absent"}])
    execute(operations, stacked)
    assert [call.method for call in stacked.written] == [
        "iscsi_delete_target_node",
        "bdev_delay_delete",
        "bdev_split_delete",
        "bdev_null_delete",
    ]
    # The raid is declared, so what it is made of stays, too.
    assert planned(stacked, prune=True, bdevs=[RAID], **GROUPS) == []


def test_every_type_is_made_with_the_parameters_of_spdk(engine: FakeEngine) -> None:
    engine.images["pool", "image"] = GIB
    bdevs = [
        SPLIT,
        {"name": "EE_d0p0", "type": "error", "base_bdevs": ["d0p0"]},
        DELAY,
        {"name": "through", "type": "passthru", "base_bdevs": ["slow"]},
        {**RAID, "strip_size": "128KiB"},
        {"name": "far", "type": "rbd", "pool": "pool", "image": "image", "ceph_user": "admin"},
    ]
    execute(planned(engine, bdevs=bdevs), engine)
    latencies = {"avg_read_latency": 100, "p99_read_latency": 100, "avg_write_latency": 0, "p99_write_latency": 5}
    disks = {"raid_level": "raid0", "strip_size_kb": 128, "base_bdevs": ["d1", "d2"]}
    image = {"pool_name": "pool", "rbd_name": "image", "user_id": "admin", "block_size": 512}
    assert {call.method: call.params for call in engine.written} == {
        "bdev_split_create": {"base_bdev": "d0", "split_count": 2},
        "bdev_error_create": {"base_name": "d0p0"},
        "bdev_delay_create": {"name": "slow", "base_bdev_name": "d0p1", **latencies},
        "bdev_passthru_create": {"name": "through", "base_bdev_name": "slow"},
        "bdev_raid_create": {"name": "r", **disks},
        "bdev_rbd_create": {"name": "far", **image},
    }
    assert planned(engine, bdevs=bdevs) == []


def test_a_bdev_that_is_replaced_takes_what_is_made_of_it_along(stacked: FakeEngine) -> None:
    converge(stacked, bdevs=[{"name": "d0p0", "qos": {"w_mbytes_per_sec": 7}}])
    smaller = [{"name": "d0", "size": "1GiB"}]
    operations = planned(stacked, force=True, bdevs=smaller)
    assert [str(each.ref[1]) for each in operations if each.action == "replace"][:3] == ["d0", "d0p", "slow"]
    assert "interrupts what is not declared here" in refused(stacked, bdevs=smaller)
    execute(operations, stacked)
    assert stacked.bdevs["d0p0"]["num_blocks"] == GIB // 2 // 512
    assert stacked.bdevs["d0p0"]["assigned_rate_limits"]["w_mbytes_per_sec"] == 7
    assert [lun["bdev_name"] for lun in stacked.nodes["iqn.2016-06.io.spdk:n1"]["luns"]] == ["slow", "r"]


def test_a_bdev_that_something_is_made_of_stays(stacked: FakeEngine) -> None:
    problem = refused(stacked, force=True, bdevs=[{"name": "d1", "state": "absent"}])
    assert problem.startswith("bdevs[0].name: bdev d1 cannot be removed: bdev r is made of it.")
    assert planned(stacked, prune=True, target_nodes=[{"name": "n1"}], **GROUPS) == []


@pytest.mark.parametrize(
    ("bdev", "says"),
    [
        ({"name": "x", "type": "passthru"}, "bdevs[0].base_bdevs: bdev x does not exist yet and needs the bdev"),
        ({**RAID, "name": "x", "level": None}, "bdevs[0].level: bdev x does not exist yet and needs a level."),
        ({**SPLIT, "name": "x"}, "bdevs[0].name: a bdev of type split on d0 is called d0p. Name it so."),
        ({**RAID, "base_bdevs": ["d1", "d9"]}, "bdevs[0].base_bdevs[1]: no bdev named d9. Declare it in bdevs or"),
        ({**RAID, "type": "passthru", "level": None}, "a bdev of type passthru is made of one bdev, not of 2."),
        ({**RAID, "level": "raid1", "base_bdevs": ["d1"]}, "bdevs[0].base_bdevs: raid1 needs at least 2 bdevs."),
        ({**RAID, "level": "raid1", "strip_size": "4KiB"}, "bdevs[0].strip_size: a mirror has no strips."),
        ({**RAID, "strip_size": "3KiB"}, "bdevs[0].strip_size: 3KiB is not 1KiB or a power of two of it"),
        ({**SPLIT, "size": "1536MiB"}, "bdevs[0].size: 2 parts of 1536MiB are more than the 2GiB of d0."),
        ({**SPLIT, "size": "1000"}, "bdevs[0].size: 1000B are no whole MiB"),
        ({**SPLIT, "qos": {"rw_ios_per_sec": 5}}, "bdevs[0].qos: d0p is no bdev itself. Limit the bdevs it gives"),
        ({**DELAY, "base_bdevs": ["d0"], "latency": {"read": 9, "read_p99": 3}}, "bdevs[0].latency.read_p99: the slow"),
        ({**DELAY, "base_bdevs": ["slow"]}, "bdevs[0].base_bdevs[0]: slow is made of slow itself."),
        ({**DELAY, "base_bdevs": ["d0"], "count": 3}, "bdevs[0].count: bdev slow is of type delay, which has no count"),
    ],
)
def test_what_cannot_be_made_is_named_before_anything_is_sent(
    engine: FakeEngine, bdev: dict[str, Any], says: str
) -> None:
    assert says in refused(engine, bdevs=[bdev])
    assert engine.written == []


def test_a_bdev_is_used_by_one(stacked: FakeEngine) -> None:
    other = {"name": "other", "type": "passthru", "base_bdevs": ["d1"]}
    assert "bdevs[0].base_bdevs: d1 belongs to bdev r already." in refused(stacked, bdevs=[other])
    served = refused(stacked, target_nodes=[{**node("d1"), "name": "n2"}])
    assert served.startswith("target_nodes[0].luns[0].bdev: bdev r is made of d1, so target node")
    assert served.endswith("cannot serve that by itself. Serve r, or another bdev.")
    on_served = {"name": "other", "type": "passthru", "base_bdevs": ["slow"]}
    assert "bdev other is made of slow, so target node" in refused(stacked, bdevs=[on_served])


def test_a_part_that_there_is_not_is_named_with_those_that_there_are(stacked: FakeEngine) -> None:
    problem = refused(stacked, target_nodes=[{**node("d0p2"), "name": "n2"}])
    assert "no bdev named d0p2. Split d0p does not give it. Known bdevs: d0, d0p0, d0p1" in problem
    assert "d0p is a split. Use one of the bdevs it gives, such as d0p0." in refused(
        stacked, target_nodes=[{**node("d0p"), "name": "n2"}]
    )


def test_fewer_parts_need_force_and_none_that_is_used_goes(stacked: FakeEngine) -> None:
    assert "cannot be removed: bdev slow is made of it" in refused(stacked, force=True, bdevs=[{**SPLIT, "count": 1}])
    assert "cuts its bdev into other parts" in refused(stacked, bdevs=[{**SPLIT, "count": 4}])
    execute(planned(stacked, force=True, bdevs=[{**SPLIT, "count": 4}]), stacked)
    assert [name for name in stacked.bdevs if name.startswith("d0p")] == ["d0p0", "d0p1", "d0p2", "d0p3"]
    assert stacked.bdevs["d0p3"]["num_blocks"] == GIB // 2 // 512


def test_a_raid_of_another_layout_needs_force_and_one_in_another_order_is_the_same_mirror(stacked: FakeEngine) -> None:
    assert "lays its data out anew" in refused(stacked, bdevs=[{"name": "r", "strip_size": "4KiB"}])
    assert "puts another device in its place" in refused(stacked, bdevs=[{**RAID, "base_bdevs": ["d2", "d1"]}])
    mirror = {**RAID, "level": "raid1"}
    converge(stacked, force=True, bdevs=[mirror])
    assert planned(stacked, bdevs=[{**mirror, "base_bdevs": ["d2", "d1"]}]) == []


def test_latency_changes_while_it_is_served(stacked: FakeEngine) -> None:
    stacked.log_in("n1")
    execute(planned(stacked, bdevs=[{"name": "slow", "latency": {"read": 300}}]), stacked)
    sent = [(call.method, call.params) for call in stacked.written]
    name = "bdev_delay_update_latency"
    assert sent == [
        (name, {"delay_bdev_name": "slow", "latency_type": kind, "latency_us": 300})
        for kind in ("avg_read", "p99_read")
    ]


def test_a_latency_that_spdk_rounded_down_is_no_change(stacked: FakeEngine) -> None:
    stacked.bdevs["slow"]["driver_specific"]["delay"].update(avg_read_latency=99, p99_read_latency=99)
    assert planned(stacked, bdevs=[DELAY]) == []
    assert Latency(99_900).is_made_of(Latency(100_000))
    assert not Latency(98).is_made_of(Latency(100))
    assert not Latency(101).is_made_of(Latency(100))


def test_the_engine_of_the_collection_says_that_it_has_none_of_them() -> None:
    engine = FakeEngine()
    converge(engine, bdevs=DISKS)
    problem = refused(engine, bdevs=[{**DELAY, "base_bdevs": ["d1"]}, RAID, SPLIT])
    for method in ("bdev_delay_create", "bdev_raid_create", "bdev_split_create"):
        assert f"builtin has no {method}, so it makes no bdevs of type" in problem


def test_what_something_unknown_has_claimed_needs_force(engine: FakeEngine) -> None:
    engine.bdevs["d0"]["claimed"] = True  # by a store of logical volumes, for instance
    gone = [{"name": "d0", "state": "absent"}]
    assert "takes it from something in the engine that openlun.iscsi does not know" in refused(engine, bdevs=gone)
    assert [each.action for each in planned(engine, force=True, bdevs=gone)] == ["delete"]


@pytest.mark.parametrize("disks", [["d1", None], [{"name": "d1"}, {"name": None}]])
def test_an_engine_that_rebuilds_no_mirror_makes_it_again_with_force(
    stacked: FakeEngine, disks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = [each for each in stacked.do_rpc_get_methods() if not each.endswith("_base_bdev")]
    monkeypatch.setattr(stacked, "do_rpc_get_methods", lambda: methods)
    raid = stacked.bdevs["r"]["driver_specific"]["raid"]
    raid.update(raid_level="raid1", strip_size_kb=0, base_bdevs_list=disks)
    problem = refused(stacked, bdevs=[{**RAID, "level": "raid1"}])
    assert "replace bdev r: base bdevs d1, a lost disk → d1, d2, puts another device in its place" in problem
