# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine that can do more than SPDK changes while initiators are logged in, and who notices."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._rpc import Call
from ansible_collections.openlun.iscsi.plugins.module_utils._state.executor import Failed, execute
from fake_engine import FakeEngine
from planning import converge, planned, refused

BASE = "iqn.2016-06.io.spdk"
HOST = "iqn.2020-01.test:host (10.0.0.7)"
FIRST, SECOND = {"id": 0, "bdev": "mem"}, {"id": 1, "bdev": "file"}
CONFIG: dict[str, Any] = {
    "bdevs": [
        {"name": "mem", "type": "malloc", "size": "64MiB"},
        {"name": "file", "type": "aio", "path": "/srv/file", "size": "1GiB"},
    ],
    "portal_groups": [{"tag": 1, "portals": ["10.0.0.1", "10.0.0.2"]}],
    "initiator_groups": [{"tag": 2, "initiators": ["ANY"]}],
    "target_nodes": [
        {"name": "n1", "luns": [FIRST, SECOND], "maps": [{"portal_group": 1, "initiator_group": 2}]},
    ],
}


@pytest.fixture
def engine() -> FakeEngine:
    """An engine with everything of CONFIG and one session, by the portal 10.0.0.1."""
    made = FakeEngine()
    converge(made, **CONFIG)
    made.log_in("n1")
    return made


def methods(engine: FakeEngine) -> list[str]:
    return [call.method for call in engine.written]


def portals(engine: FakeEngine, tag: int = 1) -> list[str]:
    return [portal["host"] for portal in engine.portal_groups[tag]["portals"]]


def luns(engine: FakeEngine) -> dict[int, str]:
    return {lun["lun_id"]: lun["bdev_name"] for lun in engine.nodes[f"{BASE}:n1"]["luns"]}


@pytest.mark.parametrize(
    "change", [{"alias": "Disk"}, {"queue_depth": 32}, {"header_digest": True, "data_digest": True}]
)
def test_what_is_for_the_next_login_changes_without_force(engine: FakeEngine, change: dict[str, Any]) -> None:
    node = {"name": "n1", **change}
    execute(planned(engine, target_nodes=[node]), engine)
    assert methods(engine) == ["iscsi_target_node_set_options"]
    assert len(engine.written[0].params or {}) == 1 + len(change)
    assert len(engine.connections) == 1
    assert planned(engine, target_nodes=[node]) == []


def test_a_lun_goes_with_force_and_whoever_sees_it_is_named(engine: FakeEngine) -> None:
    node = {"name": "n1", "luns": [FIRST]}
    assert f"luns 0=mem, 1=file → 0=mem, takes a LUN from 1 session: {HOST}." in refused(engine, target_nodes=[node])
    execute(planned(engine, force=True, target_nodes=[node]), engine)
    assert methods(engine) == ["iscsi_target_node_remove_lun"]
    assert len(engine.connections) == 1
    assert planned(engine, target_nodes=[node]) == []


def test_a_lun_that_nobody_sees_goes_without_force(engine: FakeEngine) -> None:
    converge(engine, initiator_groups=[{"tag": 3, "initiators": ["iqn.2020-01.test:other"]}])
    maps = [{"portal_group": 1, "initiator_group": group} for group in (2, 3)]
    shown = {**SECOND, "initiator_groups": [3]}
    converge(engine, force=True, target_nodes=[{"name": "n1", "maps": maps, "luns": [FIRST, shown]}])
    assert [each.action for each in planned(engine, target_nodes=[{"name": "n1", "luns": [FIRST]}])] == ["edit"]


def test_a_lun_gets_another_bdev_that_takes_the_place_of_its_own(engine: FakeEngine) -> None:
    """The file is free only when the LUN and the bdev are gone, and the LUN comes when the new bdev is there."""
    bdevs = [{"name": "file", "state": "absent"}, {"name": "new", "type": "aio", "path": "/srv/file", "size": "1GiB"}]
    node = {"name": "n1", "luns": [FIRST, {"id": 1, "bdev": "new"}]}
    execute(planned(engine, force=True, bdevs=bdevs, target_nodes=[node]), engine)
    assert methods(engine) == [
        "iscsi_target_node_remove_lun",
        "bdev_aio_delete",
        "bdev_aio_create",
        "iscsi_target_node_add_lun",
    ]
    assert luns(engine) == {0: "mem", 1: "new"}


def test_a_bdev_is_replaced_while_its_luns_are_away(engine: FakeEngine) -> None:
    variables: dict[str, Any] = {"target_nodes": [{"name": "n1"}], "bdevs": [{"name": "mem", "size": "128MiB"}]}
    assert f"its bdev mem is replaced, takes a LUN from 1 session: {HOST}." in refused(engine, **variables)
    execute(planned(engine, force=True, **variables), engine)
    assert methods(engine) == [
        "iscsi_target_node_remove_lun",
        "bdev_malloc_delete",
        "bdev_malloc_create",
        "iscsi_target_node_add_lun",
    ]
    assert len(engine.connections) == 1


def test_a_lun_comes_back_when_its_new_bdev_cannot_be_made(engine: FakeEngine) -> None:
    def too_large(call: Call) -> bool:
        return call.method == "bdev_malloc_create" and (call.params or {})["num_blocks"] > 1 << 18

    engine.fail_at = too_large
    bdevs = [{"name": "mem", "size": "1GiB"}]
    with pytest.raises(Failed, match=r"Put back as before: bdev mem, target node iqn\.2016-06\.io\.spdk:n1"):
        execute(planned(engine, force=True, bdevs=bdevs, target_nodes=[{"name": "n1"}]), engine)
    assert luns(engine) == {0: "mem", 1: "file"}


def test_a_lun_becomes_read_only_by_going_and_coming_again(engine: FakeEngine) -> None:
    node = {"name": "n1", "luns": [FIRST, {**SECOND, "readonly": True}]}
    assert "1=file → 0=mem, 1=file readonly, takes a LUN from 1 session" in refused(engine, target_nodes=[node])
    execute(planned(engine, force=True, target_nodes=[node]), engine)
    assert methods(engine) == ["iscsi_target_node_remove_lun", "iscsi_target_node_add_lun"]
    assert planned(engine, target_nodes=[{"name": "n1", "luns": [FIRST, SECOND]}]) == []


def test_a_node_is_disabled_with_force_and_enabled_without(engine: FakeEngine) -> None:
    disabled = {"name": "n1", "enabled": False}
    assert f"enabled yes → no, logs out 1 session: {HOST}." in refused(engine, target_nodes=[disabled])
    execute(planned(engine, force=True, target_nodes=[disabled]), engine)
    assert planned(engine, target_nodes=[{"name": "n1"}]) == []
    execute(planned(engine, target_nodes=[{"name": "n1", "enabled": True}]), engine)
    assert methods(engine) == ["iscsi_target_node_disable", "iscsi_target_node_enable"]


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ({"enabled": False}, "enabled: spdk cannot disable a target node."),
        ({"luns": [{**FIRST, "readonly": True}]}, "luns[0].readonly: spdk has no LUNs that are read-only"),
        ({"luns": [{**FIRST, "removable": True}]}, "luns[0].removable: spdk has no LUNs that are removable."),
    ],
)
def test_what_spdk_has_not_is_refused(engine: FakeEngine, option: dict[str, Any], why: str) -> None:
    engine.builtin = False
    assert f"target_nodes[0].{why}" in refused(engine, force=True, target_nodes=[{"name": "n1", **option}])
    usual = {"name": "n1", "enabled": True, "luns": [{**FIRST, "readonly": False}, SECOND]}
    assert planned(engine, target_nodes=[usual]) == []


def test_portals_come_without_force_and_go_with_it_if_somebody_came_there(engine: FakeEngine) -> None:
    execute(planned(engine, portal_groups=[{"tag": 1, "portals": ["10.0.0.1", "10.0.0.3"]}]), engine)
    assert methods(engine) == ["iscsi_portal_group_remove_portals", "iscsi_portal_group_add_portals"]
    assert portals(engine) == ["10.0.0.1", "10.0.0.3"]
    used = [{"tag": 1, "portals": ["10.0.0.3"]}]
    assert f"closes the portal of 1 session: {HOST}." in refused(engine, portal_groups=used)
    execute(planned(engine, force=True, portal_groups=used), engine)
    assert portals(engine) == ["10.0.0.3"]


def test_a_group_that_keeps_no_portal_has_the_new_ones_first(engine: FakeEngine) -> None:
    operations = planned(engine, force=True, portal_groups=[{"tag": 1, "portals": ["10.0.0.8", "10.0.0.9"]}])
    execute(operations, engine)
    assert methods(engine) == ["iscsi_portal_group_add_portals", "iscsi_portal_group_remove_portals"]


def test_a_portal_goes_to_another_group_while_both_listen(engine: FakeEngine) -> None:
    converge(engine, portal_groups=[{"tag": 2, "portals": ["10.0.0.5"]}])
    groups = [{"tag": 1, "portals": ["10.0.0.1"]}, {"tag": 2, "portals": ["10.0.0.5", "10.0.0.2"]}]
    operations = planned(engine, portal_groups=groups)
    assert {each.action for each in operations} == {"edit"}
    execute(operations, engine)
    assert (portals(engine, 1), portals(engine, 2)) == (["10.0.0.1"], ["10.0.0.5", "10.0.0.2"])


@pytest.mark.parametrize("wanted", [["*:3260"], ["10.0.0.5"]])
def test_a_group_whose_new_portals_are_not_free_is_replaced(engine: FakeEngine, wanted: list[str]) -> None:
    converge(engine, portal_groups=[{"tag": 2, "portals": ["10.0.0.5"]}])
    groups = [{"tag": 1, "portals": wanted}, {"tag": 2, "state": "absent"}]
    operations = planned(engine, force=True, portal_groups=groups)
    assert {each.ref[1]: each.action for each in operations}[1] == "replace"
    execute(operations, engine)
    assert planned(engine, portal_groups=groups) == []


def test_initiators_are_sent_to_a_portal_that_their_group_gives_up(engine: FakeEngine) -> None:
    """No group may have a portal to which its own initiators are sent."""
    redirects = [{"portal_group": 1, "address": "10.0.0.2"}]
    variables: dict[str, Any] = {
        "portal_groups": [{"tag": 1, "portals": ["10.0.0.1"]}],
        "target_nodes": [{"name": "n1", "redirects": redirects}],
    }
    execute(planned(engine, force=True, **variables), engine)
    assert planned(engine, **variables) == []


def test_portals_that_cannot_be_had_leave_the_old_ones(engine: FakeEngine) -> None:
    engine.fail_at = lambda call: "192.0.2.1" in str(call.params)
    with pytest.raises(Failed, match="Put back as before: portal group 1"):
        execute(planned(engine, portal_groups=[{"tag": 1, "portals": ["10.0.0.1", "192.0.2.1"]}]), engine)
    assert portals(engine) == ["10.0.0.1", "10.0.0.2"]
