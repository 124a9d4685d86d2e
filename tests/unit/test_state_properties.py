# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of the planner, on random pairs of configurations and an engine that refuses every wrong step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ansible_collections.openlun.iscsi.plugins.module_utils._rpc import Call
from ansible_collections.openlun.iscsi.plugins.module_utils._state.bdevs import NAMESPACE
from ansible_collections.openlun.iscsi.plugins.module_utils._state.declaration import declare, entries_of
from ansible_collections.openlun.iscsi.plugins.module_utils._state.executor import Failed, execute
from ansible_collections.openlun.iscsi.plugins.module_utils._state.operations import Operation
from ansible_collections.openlun.iscsi.plugins.module_utils._state.planner import Refused, plan
from ansible_collections.openlun.iscsi.plugins.module_utils._state.reader import read
from ansible_collections.openlun.iscsi.plugins.module_utils._state.report import objects_by_option, outcome
from fake_engine import FakeEngine
from hypothesis import assume, given
from hypothesis import strategies as st

Variables = dict[str, Any]

UUIDS = [f"2b6601ba-eada-44fb-9a83-a20eb9eb9e9{digit}" for digit in range(4)]
PORTALS = ["10.0.0.1:3260", "10.0.0.1:3261", "10.0.0.2:3260", "[fd00::1]:3260", "*:3262"]
LIMITS = ["rw_ios_per_sec", "rw_mbytes_per_sec", "r_mbytes_per_sec", "w_mbytes_per_sec"]
INITIATORS = ["ANY", "!iqn.2020-01.test:evil", "iqn.2020-01.test:a", "iqn.2020-01.test:b"]
MASKS = ["ANY", "10.0.0.0/8", "[fd00::]/8", "192.168.0.7", "0.0.0.0/0"]
SLOTS = {"0000:03:00.0": 1, "0000:04:00.0": 2}
"""The NVMe devices of the host: PCI address and number of namespaces."""
SECRETS = ["first secret", "second secret"]


def some(values: Sequence[Any], most: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


def limits() -> st.SearchStrategy[dict[str, int]]:
    return st.sampled_from([dict.fromkeys(LIMITS, 0), {**dict.fromkeys(LIMITS, 0), LIMITS[0]: 1500, LIMITS[2]: 7}])


@st.composite
def auth_groups(draw: st.DrawFn) -> list[dict[str, Any]]:
    groups = []
    for tag in draw(st.lists(st.sampled_from([1, 2]), max_size=2, unique=True)):
        secrets = [{"user": user, "secret": draw(st.sampled_from(SECRETS))} for user in draw(some(["u1", "u2", "u3"]))]
        for secret in secrets:
            if draw(st.booleans()):
                secret.update(muser="target", msecret=draw(st.sampled_from(["back one", "back two"])))
        groups.append({"tag": tag, "secrets": secrets})
    return groups


def policies(groups: Sequence[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """What can be asked of whom with these auth groups."""
    possible: list[dict[str, Any]] = [{"chap": "none"}]
    for group in groups:
        possible += [{"chap": chap, "auth_group": group["tag"]} for chap in ("auto", "required")]
        if any("muser" in secret for secret in group["secrets"]):
            possible.append({"chap": "mutual", "auth_group": group["tag"]})
    return st.sampled_from(possible)


@st.composite
def configurations(draw: st.DrawFn) -> Variables:
    """A complete declaration that fits together. Its names, portals, files and UUIDs come from small pools."""
    uuids = draw(st.permutations(UUIDS)) if draw(st.booleans()) else [None] * len(UUIDS)
    paths = draw(st.permutations(["/srv/a", "/srv/b", "/srv/c", "/srv/d"]))
    bdevs: list[dict[str, Any]] = []
    for index, name in enumerate(draw(some(["d0", "d1", "d2", "d3"], 4))):
        size = f"{draw(st.integers(1, 2))}GiB"
        bdev = {"name": name, "block_size": draw(st.sampled_from([512, 4096])), "uuid": uuids[index]}
        bdev["qos"] = draw(limits())
        if draw(st.booleans()):
            bdevs.append({**bdev, "type": draw(st.sampled_from(["malloc", "null"])), "size": size})
        else:
            bdevs.append({**bdev, "type": "aio", "path": paths[index], "size": size, "readonly": draw(st.booleans())})
    disks = [bdev["name"] for bdev in bdevs]
    addresses = draw(st.permutations(list(SLOTS)))
    for name, address in zip(draw(st.lists(st.sampled_from(["c0", "c1"]), max_size=2, unique=True)), addresses):
        bdevs.append({"name": name, "type": "nvme", "address": address})
        namespaces = [f"{name}n{number}" for number in range(1, SLOTS[address] + 1)]
        bdevs += [{"name": each, "qos": draw(limits())} for each in namespaces]
        disks += namespaces
    secrets = draw(auth_groups())
    free = list(draw(st.permutations(PORTALS)))
    portal_groups = [
        {
            "tag": tag,
            "portals": [free.pop() for _portal in range(draw(st.integers(1, 2))) if free],
            "private": draw(st.booleans()),
            **draw(st.one_of(st.just({"chap": "inherit"}), policies(secrets))),
        }
        for tag in draw(some([1, 2], 2))
    ]
    public = [group["tag"] for group in portal_groups if not group["private"]]
    initiator_groups = [
        {"tag": tag, "initiators": draw(some(INITIATORS)), "netmasks": draw(some(MASKS))}
        for tag in draw(some([1, 2], 2))
    ]
    maps = [(portals["tag"], initiators["tag"]) for portals in portal_groups for initiators in initiator_groups]
    nodes = [
        {
            "name": name,
            "alias": draw(st.sampled_from(["", "Disk"])),
            "luns": [{"id": number, "bdev": draw(st.sampled_from(disks))} for number in range(draw(st.integers(1, 3)))],
            "maps": [{"portal_group": portals, "initiator_group": group} for portals, group in draw(some(maps))],
            "queue_depth": draw(st.sampled_from([32, 64])),
            "header_digest": draw(st.booleans()),
            **draw(policies(secrets)),
        }
        for name in draw(st.lists(st.sampled_from(["n0", "n1", "n2"]), max_size=3, unique=True))
    ]
    for node in nodes:
        groups = sorted({each["initiator_group"] for each in node["maps"]})
        for lun in node["luns"]:
            lun["initiator_groups"] = draw(st.lists(st.sampled_from(groups), max_size=2, unique=True))
        ways = sorted({each["portal_group"] for each in node["maps"]} & set(public))
        elsewhere = st.sampled_from(["192.0.2.1:3260", "[fd00::99]:3261"])
        chosen = [tag for tag in ways if draw(st.booleans())]
        node["redirects"] = [{"portal_group": tag, "address": draw(elsewhere)} for tag in chosen]
    return {
        "bdevs": bdevs,
        "auth_groups": secrets,
        "discovery_auth": draw(policies(secrets)),
        "portal_groups": portal_groups,
        "initiator_groups": initiator_groups,
        "target_nodes": nodes,
    }


def planned(engine: FakeEngine, variables: Variables, **limits: Any) -> list[Operation]:
    snapshot = read(engine)
    declaration = declare(entries_of(variables), snapshot.can.node_base)
    return plan(snapshot.state, declaration, snapshot.can, **limits)


def converge(engine: FakeEngine, variables: Variables, **limits: Any) -> list[Operation]:
    operations = planned(engine, variables, **limits)
    execute(operations, engine)
    return operations


def running(variables: Variables) -> FakeEngine:
    engine = FakeEngine()
    engine.slots.update(SLOTS)
    converge(engine, variables)
    return engine


def files_never_shrink(before: Variables, after: Variables) -> bool:
    sizes = {each["path"]: each["size"] for each in before["bdevs"] if "path" in each}
    return all(each["size"] >= sizes.get(each["path"], "") for each in after["bdevs"] if "path" in each)


def content(engine: FakeEngine) -> dict[str, dict[Any, Any]]:
    """What an engine has, without what the order of creation decides."""
    objects = read(engine).state.objects
    return {str(ref): each.comparable() for ref, each in objects.items()}


@given(configurations(), configurations(), st.data())
def test_a_plan_reaches_the_declared_state_and_a_second_plan_is_empty(
    before: Variables, after: Variables, data: st.DataObject
) -> None:
    assume(files_never_shrink(before, after))
    engine = running(before)
    for node in before["target_nodes"]:
        if data.draw(st.booleans()):
            engine.log_in(node["name"])
    converge(engine, after, prune=True, force=True)

    fresh = content(running(after))
    reached = content(engine)
    for name, properties in fresh.items():
        named = {"uuid"} if properties.get("uuid") not in UUIDS else set()
        assert {key: value for key, value in reached[name].items() if key not in named} == {
            key: value for key, value in properties.items() if key not in named
        }
    assert reached.keys() == fresh.keys()
    assert planned(engine, after, prune=True) == []


@given(configurations(), configurations())
def test_without_prune_nothing_undeclared_is_touched(before: Variables, after: Variables) -> None:
    assume(files_never_shrink(before, after))
    engine = running(before)
    earlier = content(engine)
    declared = {str(ref) for ref in declare(entries_of(after), "iqn.2016-06.io.spdk").wishes}
    with suppress(Refused):
        converge(engine, after)
    later = content(engine)
    undeclared = [name for name in earlier if name not in declared]
    assert {name: later[name] for name in undeclared} == {name: earlier[name] for name in undeclared}


@given(configurations(), configurations())
def test_planning_sends_no_write_and_foretells_the_result(before: Variables, after: Variables) -> None:
    assume(files_never_shrink(before, after))
    engine = running(before)
    writes = len(engine.written)
    operations = planned(engine, after, prune=True, force=True)
    assert len(engine.written) == writes

    foretold = outcome(read(engine).state, operations)
    execute(operations, engine)
    now = read(engine).state
    unforeseen = set(now.objects) - set(foretold.objects)
    assert set(foretold.objects) <= set(now.objects)
    assert {now.objects[ref].comparable()["type"] for ref in unforeseen} <= {NAMESPACE}
    for ref in foretold.objects:
        each = now.objects[ref]
        expected = {name: value for name, value in foretold.objects[ref].comparable().items() if value is not None}
        assert {name: value for name, value in each.comparable().items() if name in expected} == expected


@given(configurations(), configurations(), st.integers(0, 30))
def test_a_run_that_breaks_is_finished_by_the_next(before: Variables, after: Variables, breaks_at: int) -> None:
    assume(files_never_shrink(before, after))
    engine = running(before)
    start = len(engine.written)

    def broken(_call: Call) -> bool:
        return len(engine.written) - start > breaks_at and "_get_" not in _call.method

    engine.fail_at = broken
    with suppress(Failed):
        converge(engine, after, prune=True, force=True)
    engine.fail_at = lambda _call: False
    converge(engine, after, prune=True, force=True)
    assert planned(engine, after, prune=True) == []


@given(configurations())
def test_what_is_read_can_be_declared_and_changes_nothing(variables: Variables) -> None:
    engine = running(variables)
    shown = objects_by_option(read(engine).state)
    for bdev in shown["bdevs"]:
        if bdev["type"] == NAMESPACE:  # which is there because of its controller, and can only be limited
            for option in set(bdev) - {"name", "qos"}:
                del bdev[option]
    assert planned(engine, shown, prune=True) == []


@given(configurations(), configurations())
def test_a_plan_does_not_depend_on_the_order_of_the_variables(before: Variables, after: Variables) -> None:
    assume(files_never_shrink(before, after))
    engine = running(before)
    backwards = {**after, **{kind: each[::-1] for kind, each in after.items() if isinstance(each, list)}}
    twin = copy.deepcopy(engine)
    converge(engine, after, prune=True, force=True)
    converge(twin, backwards, prune=True, force=True)
    assert content(engine).keys() == content(twin).keys()
    assert planned(twin, after, prune=True) == []
