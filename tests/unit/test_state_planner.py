# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the planner decides: edit or replace, what needs force, whom it names, and in which order it goes."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._rpc import Call
from ansible_collections.openlun.iscsi.plugins.module_utils._state.executor import Failed, execute
from ansible_collections.openlun.iscsi.plugins.module_utils._state.operations import Operation
from ansible_collections.openlun.iscsi.plugins.module_utils._state.report import difference
from fake_engine import FakeEngine
from planning import planned
from planning import problems as refused

BASE = "iqn.2016-06.io.spdk"
MAP12 = {"portal_group": 1, "initiator_group": 2}
CONFIG: dict[str, Any] = {
    "bdevs": [
        {"name": "mem", "type": "malloc", "size": "64MiB"},
        {"name": "file", "type": "aio", "path": "/srv/file", "size": "1GiB"},
    ],
    "portal_groups": [{"tag": 1, "portals": ["10.0.0.1:3260"]}],
    "initiator_groups": [{"tag": 2, "initiators": ["ANY"], "netmasks": ["10.0.0.0/8"]}],
    "target_nodes": [
        {"name": "n1", "luns": [{"id": 0, "bdev": "mem"}], "maps": [MAP12]},
        {"name": "n2", "luns": [{"id": 0, "bdev": "file"}], "maps": [MAP12]},
    ],
}


def told(operations: list[Operation]) -> list[str]:
    return [str(each) for each in operations]


def serving(*, builtin: bool = True) -> FakeEngine:
    engine = FakeEngine()
    execute(planned(engine, **CONFIG), engine)
    engine.builtin = builtin
    engine.written.clear()
    return engine


@pytest.fixture
def engine() -> FakeEngine:
    return serving()


@pytest.fixture
def spdk() -> FakeEngine:
    return serving(builtin=False)


def test_options_left_out_keep_what_is_there(engine: FakeEngine) -> None:
    assert planned(engine, bdevs=[{"name": "mem"}], portal_groups=[{"tag": 1}], target_nodes=[{"name": "n1"}]) == []


def test_initiators_are_edited_while_the_group_is_used(engine: FakeEngine) -> None:
    engine.log_in("n1")
    operations = planned(
        engine, initiator_groups=[{"tag": 2, "initiators": ["iqn.2020-01.test:a"], "netmasks": ["ANY"]}]
    )
    assert told(operations) == [
        "edit initiator group 2: initiators ANY → iqn.2020-01.test:a, netmasks 10.0.0.0/8 → ANY"
    ]
    execute(operations, engine)
    assert [call.method.split("_")[3] for call in engine.written] == ["add", "add", "remove", "remove"]


def test_the_order_of_initiators_counts_where_one_is_denied(engine: FakeEngine) -> None:
    evil = "!iqn.2020-01.test:evil"
    [operation] = planned(engine, initiator_groups=[{"tag": 2, "initiators": [evil, "ANY"]}])
    execute([operation], engine)
    assert engine.initiator_groups[2]["initiators"] == [evil, "ANY"]


def test_the_order_of_initiators_does_not_count_where_nobody_is_denied(engine: FakeEngine) -> None:
    pair = ["iqn.2020-01.test:a", "iqn.2020-01.test:b"]
    execute(planned(engine, initiator_groups=[{"tag": 2, "initiators": pair}]), engine)
    assert planned(engine, initiator_groups=[{"tag": 2, "initiators": pair[::-1]}]) == []


def test_names_another_tool_wrote_differently_are_the_same(engine: FakeEngine) -> None:
    engine.initiator_groups[2].update(initiators=["IQN.2020-01.Test:A"], netmasks=["[FD00::0]/8"])
    group = {"tag": 2, "initiators": ["iqn.2020-01.test:a"], "netmasks": ["fd00::/8"]}
    assert planned(engine, initiator_groups=[group]) == []


def test_a_lun_is_added_to_a_node_with_sessions(engine: FakeEngine) -> None:
    engine.log_in("n1")
    luns = [{"id": 0, "bdev": "mem"}, {"id": 1, "bdev": "file"}]
    operations = planned(engine, target_nodes=[{"name": "n1", "luns": luns}])
    assert told(operations) == [f"edit target node {BASE}:n1: luns 0=mem → 0=mem, 1=file"]


def test_spdk_replaces_a_node_with_sessions_to_add_a_lun(spdk: FakeEngine) -> None:
    node = {"name": "n1", "luns": [{"id": 0, "bdev": "mem"}, {"id": 1, "bdev": "file"}]}
    assert planned(spdk, target_nodes=[node])[0].action == "edit"
    spdk.log_in("n1", address="10.0.0.7")
    [problem] = refused(spdk, target_nodes=[node])
    assert problem.startswith(f"replace target node {BASE}:n1: luns 0=mem → 0=mem, 1=file, drops 1 session: 10.0.0.7. ")
    assert problem.endswith("Set force: true to allow it.")


@pytest.mark.parametrize(
    "change",
    [
        {"alias": "Disk"},
        {"queue_depth": 32},
        {"header_digest": True},
        {"data_digest": True},
        {"luns": [{"id": 0, "bdev": "file"}]},
    ],
)
def test_what_a_node_cannot_change_replaces_it_which_needs_force_and_names_who_is_logged_in(
    spdk: FakeEngine, change: dict[str, Any]
) -> None:
    node = {"name": "n1", **change}
    [operation] = planned(spdk, force=True, target_nodes=[node])
    assert operation.action == "replace"
    [problem] = refused(spdk, target_nodes=[node])
    assert problem.endswith(", which is away meanwhile. Nothing was changed. Set force: true to allow it.")
    spdk.log_in("n1")
    spdk.log_in("n1", address="10.0.0.8")
    spdk.log_in("n2")
    [problem] = refused(spdk, target_nodes=[node])
    assert "drops 2 sessions: 10.0.0.7, 10.0.0.8. " in problem
    assert "Set force: true" in problem


def test_a_replaced_node_keeps_its_authentication(spdk: FakeEngine) -> None:
    spdk.auth_groups[7] = {}
    spdk.nodes[f"{BASE}:n1"].update(disable_chap=False, require_chap=True, chap_group=7)
    execute(planned(spdk, force=True, target_nodes=[{"name": "n1", "queue_depth": 32}]), spdk)
    node = spdk.nodes[f"{BASE}:n1"]
    assert (node["disable_chap"], node["require_chap"], node["chap_group"]) == (False, True, 7)


def test_a_file_grows_while_it_is_served(engine: FakeEngine) -> None:
    engine.log_in("n2")
    assert told(planned(engine, bdevs=[{"name": "file", "size": "2GiB"}])) == ["edit bdev file: size 1GiB → 2GiB"]


def test_a_memory_disk_of_another_size_loses_its_data_and_takes_its_nodes_along(spdk: FakeEngine) -> None:
    spdk.log_in("n1")
    variables: dict[str, Any] = {"target_nodes": [{"name": "n1"}], "bdevs": [{"name": "mem", "size": "128MiB"}]}
    bdev, node = refused(spdk, **variables)
    assert bdev.startswith("replace bdev mem: size 64MiB → 128MiB, loses its data, which is in memory. ")
    assert node.startswith(f"replace target node {BASE}:n1: its bdev mem is replaced, drops 1 session: ")
    execute(planned(spdk, force=True, **variables), spdk)
    assert [call.method for call in spdk.written] == [
        "iscsi_delete_target_node",
        "bdev_malloc_delete",
        "bdev_malloc_create",
        "iscsi_create_target_node",
    ]


def test_a_node_that_is_not_declared_is_not_interrupted_without_force(engine: FakeEngine) -> None:
    bdev, node = refused(engine, bdevs=[{"name": "mem", "size": "128MiB"}])
    assert "loses its data" in bdev
    assert "interrupts what is not declared here" in node


def test_removing_a_memory_disk_needs_force_and_a_file_does_not(engine: FakeEngine) -> None:
    nodes = [{"name": "n1", "state": "absent"}, {"name": "n2", "state": "absent"}]
    assert planned(engine, target_nodes=nodes, bdevs=[{"name": "file", "state": "absent"}])
    [problem] = refused(engine, target_nodes=nodes, bdevs=[{"name": "mem", "state": "absent"}])
    assert problem.startswith("delete bdev mem: declared absent, loses its data")


def test_the_file_of_a_removed_bdev_stays_unless_told(engine: FakeEngine) -> None:
    nodes = [{"name": "n2", "state": "absent"}]
    execute(planned(engine, target_nodes=nodes, bdevs=[{"name": "file", "state": "absent"}]), engine)
    assert engine.files == {"/srv/file": 1 << 30}
    execute(planned(engine, bdevs=CONFIG["bdevs"]), engine)
    execute(planned(engine, bdevs=[{"name": "file", "state": "absent", "remove_file": True}]), engine)
    assert engine.files == {}


def test_other_portals_replace_the_group_and_its_maps_come_back(spdk: FakeEngine) -> None:
    spdk.log_in("n1")
    spdk.log_in("n2")
    group = [{"tag": 1, "portals": ["10.0.0.2"]}]
    [problem] = refused(spdk, portal_groups=group)
    assert problem.startswith(
        "replace portal group 1: portals 10.0.0.1:3260 → 10.0.0.2:3260, closes the portal of 2 sessions: "
    )
    before = {name: list(node["pg_ig_maps"]) for name, node in spdk.nodes.items()}
    operations = planned(spdk, portal_groups=group, force=True)
    assert told(operations)[1] == f"edit target node {BASE}:n1: portal group 1 is replaced"
    execute(operations, spdk)
    assert {name: node["pg_ig_maps"] for name, node in spdk.nodes.items()} == before


@pytest.mark.parametrize("session", [{"target_addr": "10.0.0.99"}, {"portal_group_tag": 7}])
def test_sessions_that_came_by_another_portal_do_not_count(engine: FakeEngine, session: dict[str, Any]) -> None:
    engine.log_in("n1")
    engine.connections[0].update(session)
    group = [{"tag": 1, "portals": ["10.0.0.2"]}]
    assert planned(engine, force=True, portal_groups=group)[0].sessions == ()


@pytest.mark.parametrize("group", [{"private": True}, {"portals": ["10.0.0.1", "10.0.0.2"]}])
def test_a_replaced_group_that_keeps_the_portal_of_a_session_names_nobody(
    spdk: FakeEngine, group: dict[str, Any]
) -> None:
    spdk.log_in("n1")
    replaced = planned(spdk, force=True, portal_groups=[{"tag": 1, **group}])[0]
    assert (replaced.action, replaced.sessions) == ("replace", ())
    [problem] = refused(spdk, portal_groups=[{"tag": 1, **group}])
    assert problem.endswith(", which is away meanwhile. Nothing was changed. Set force: true to allow it.")


def test_a_group_that_is_used_goes_only_with_force_and_takes_its_maps(engine: FakeEngine) -> None:
    absent = [{"tag": 2, "state": "absent"}]
    [problem] = refused(engine, initiator_groups=absent)
    assert f"ends its maps in target node {BASE}:n1, ends its maps in target node {BASE}:n2" in problem
    execute(planned(engine, initiator_groups=absent, force=True), engine)
    assert [node["pg_ig_maps"] for node in engine.nodes.values()] == [[], []]


def test_a_node_moves_to_a_new_portal_group_before_the_old_one_goes(engine: FakeEngine) -> None:
    """Creation before removal: there is always a portal that leads to the node."""
    groups = [{"tag": 1, "state": "absent"}, {"tag": 3, "portals": ["10.0.0.3"]}]
    maps = [{"portal_group": 3, "initiator_group": 2}]
    nodes = [{"name": "n1", "maps": maps}, {"name": "n2", "maps": maps}]
    assert [(each.action, *each.ref) for each in planned(engine, portal_groups=groups, target_nodes=nodes)] == [
        ("create", "portal_group", 3),
        ("edit", "target_node", f"{BASE}:n1"),
        ("edit", "target_node", f"{BASE}:n2"),
        ("delete", "portal_group", 1),
    ]


def test_a_portal_that_moves_to_another_group_is_given_up_first(engine: FakeEngine) -> None:
    groups = [{"tag": 1, "state": "absent"}, {"tag": 3, "portals": ["10.0.0.1"]}]
    maps = [{"portal_group": 3, "initiator_group": 2}]
    nodes = [{"name": "n1", "maps": maps}, {"name": "n2", "maps": maps}]
    operations = planned(engine, portal_groups=groups, target_nodes=nodes)
    assert [each.action for each in operations] == ["delete", "create", "edit", "edit"]
    execute(operations, engine)
    assert all(node["pg_ig_maps"] == [{"pg_tag": 3, "ig_tag": 2}] for node in engine.nodes.values())


def test_two_groups_swap_their_portals(engine: FakeEngine) -> None:
    execute(planned(engine, portal_groups=[{"tag": 3, "portals": ["10.0.0.3"]}]), engine)
    groups = [{"tag": 1, "portals": ["10.0.0.3"]}, {"tag": 3, "portals": ["10.0.0.1"]}]
    execute(planned(engine, force=True, portal_groups=groups), engine)
    assert planned(engine, portal_groups=groups) == []


def test_a_replaced_node_serves_until_its_new_disk_is_there(spdk: FakeEngine) -> None:
    bdevs = [{"name": "big", "type": "malloc", "size": "1GiB"}]
    nodes = [{"name": "n1", "luns": [{"id": 0, "bdev": "big"}]}]
    execute(planned(spdk, force=True, bdevs=bdevs, target_nodes=nodes), spdk)
    assert [call.method for call in spdk.written] == [
        "bdev_malloc_create",
        "iscsi_delete_target_node",
        "iscsi_create_target_node",
    ]


def test_prune_removes_what_is_not_declared_and_not_ignored(engine: FakeEngine) -> None:
    keep: dict[str, Any] = {"bdevs": CONFIG["bdevs"][1:], "target_nodes": CONFIG["target_nodes"][1:]}
    operations = planned(engine, prune=True, force=True, **keep)
    assert [(each.action, *each.ref) for each in operations] == [
        ("delete", "target_node", f"{BASE}:n1"),
        ("delete", "bdev", "mem"),
    ]
    for pattern in ("*:n1", "target_node/*", f"{BASE}:n?"):
        assert planned(engine, prune=True, ignore=[pattern], **keep) == []
    assert planned(engine, prune=True, ignore=["bdev/*:n1"], force=True, **keep) == operations


def test_prune_leaves_bdevs_of_other_types_alone(engine: FakeEngine) -> None:
    engine.bdevs["NVMe1n1"] = {"name": "NVMe1n1", "product_name": "NVMe disk", "block_size": 512, "num_blocks": 8}
    assert ("bdev", "NVMe1n1") not in [each.ref for each in planned(engine, prune=True, force=True)]


def test_a_replacement_that_fails_puts_back_what_was_there(spdk: FakeEngine) -> None:
    before = {name: list(node["pg_ig_maps"]) for name, node in spdk.nodes.items()}

    def not_our_address(call: Call) -> bool:
        return call.method == "iscsi_create_portal_group" and "192.0.2.1" in str(call.params)

    spdk.fail_at = not_our_address
    with pytest.raises(
        Failed, match=r"Failed to replace portal group 1: .*told to fail.*Put back as before: portal group 1"
    ):
        execute(planned(spdk, force=True, portal_groups=[{"tag": 1, "portals": ["192.0.2.1"]}]), spdk)
    assert spdk.portal_groups[1]["portals"] == [{"host": "10.0.0.1", "port": "3260"}]
    assert {name: node["pg_ig_maps"] for name, node in spdk.nodes.items()} == before


def test_a_failure_says_what_was_done_and_the_rest_is_not_sent(engine: FakeEngine) -> None:
    engine.fail_at = lambda call: call.method == "bdev_malloc_create"
    bdevs = [
        {"name": "a", "type": "malloc", "size": "1MiB"},
        {"name": "b", "type": "aio", "path": "/srv/b", "size": "1MiB"},
    ]
    node = {"name": "n3", "luns": [{"id": 0, "bdev": "a"}], "maps": [MAP12]}
    with pytest.raises(Failed) as failure:
        execute(planned(engine, bdevs=bdevs, target_nodes=[node]), engine)
    assert str(failure.value) == (
        "Failed to create bdev a: bdev_malloc_create: told to fail (code -32602)."
        " Done so far: create bdev b. The next run continues from there."
    )
    assert "iscsi_create_target_node" not in [call.method for call in engine.written]


def test_the_difference_shows_only_what_changes(engine: FakeEngine) -> None:
    shown = difference(planned(engine, bdevs=[{"name": "file", "size": "2GiB"}, {"name": "mem"}]))
    assert list(shown["before"]) == list(shown["after"]) == ["bdev file"]
    assert (shown["before"]["bdev file"]["size"], shown["after"]["bdev file"]["size"]) == ("1GiB", "2GiB")


def test_nodes_with_more_luns_than_spdk_takes_in_one_call(engine: FakeEngine) -> None:
    luns = [{"id": number, "bdev": "mem"} for number in range(100)]
    execute(planned(engine, target_nodes=[{"name": "many", "luns": luns, "maps": [MAP12]}]), engine)
    creation = engine.written[0].params or {}
    assert len(creation["luns"]) == 64
    assert len(engine.nodes[f"{BASE}:many"]["luns"]) == 100
