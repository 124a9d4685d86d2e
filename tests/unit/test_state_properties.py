# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of the planner, on random pairs of configurations and an engine that refuses every wrong step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from ansible_collections.openlun.iscsi.plugins.module_utils._rpc import Call
from ansible_collections.openlun.iscsi.plugins.module_utils._state.declaration import declare, entries_of
from ansible_collections.openlun.iscsi.plugins.module_utils._state.drivers import NAMESPACE, PART
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
LATENCIES = ["read", "read_p99", "write", "write_p99"]
INITIATORS = ["ANY", "!iqn.2020-01.test:evil", "iqn.2020-01.test:a", "iqn.2020-01.test:b"]
MASKS = ["ANY", "10.0.0.0/8", "[fd00::]/8", "192.168.0.7", "0.0.0.0/0"]
SLOTS = {"0000:03:00.0": 1, "0000:04:00.0": 2}
"""The NVMe devices of the host: PCI address and number of namespaces."""
SECRETS = ["first secret", "second secret"]


def some(values: Sequence[Any], most: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


def limits() -> st.SearchStrategy[dict[str, int]]:
    none = dict.fromkeys(LIMITS, 0)
    return st.sampled_from([none, *({**none, LIMITS[0]: 1500, LIMITS[2]: reads} for reads in (7, 8))])


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


FILES = ["/srv/a", "/srv/b", "/srv/c", "/srv/d"]
IMAGES = ["one", "two"]
GIB = 1 << 30


@st.composite
def plain_bdevs(draw: st.DrawFn, builtin: bool) -> list[dict[str, Any]]:
    """Disks of their own. SPDK serves files as they are; images of Ceph are its own."""
    uuids = draw(st.permutations(UUIDS)) if draw(st.booleans()) else [None] * len(UUIDS)
    paths, images = draw(st.permutations(FILES)), list(draw(st.permutations(IMAGES)))
    bdevs: list[dict[str, Any]] = []
    for index, name in enumerate(draw(some(["d0", "d1", "d2", "d3"], 4))):
        size = f"{draw(st.integers(1, 2))}GiB"
        bdev = {"name": name, "block_size": draw(st.sampled_from([512, 4096])), "uuid": uuids[index]}
        bdev["qos"] = draw(limits())
        kind = draw(st.sampled_from(["malloc", "null", "aio"] + ([] if builtin else ["uring", "rbd"])))
        if kind in ("malloc", "null"):
            bdev["size"] = size
        elif kind == "rbd" and images:
            bdev.update(pool="rbd", image=images.pop(), cluster=draw(st.sampled_from(["near", "far"])))
        else:
            kind = "uring" if kind == "uring" else "aio"
            bdev["path"] = paths[index]
            if kind == "aio":
                bdev.update(readonly=draw(st.booleans()), **({"size": size} if builtin else {}))
        bdevs.append({**bdev, "type": kind})
    addresses = draw(st.permutations(list(SLOTS)))
    for name, address in zip(draw(st.lists(st.sampled_from(["c0", "c1"]), max_size=2, unique=True)), addresses):
        bdevs.append({"name": name, "type": "nvme", "address": address})
        namespaces = [f"{name}n{number}" for number in range(1, SLOTS[address] + 1)]
        bdevs += [{"name": each, "qos": draw(limits())} for each in namespaces]
    return bdevs


@st.composite
def bdevs_on(draw: st.DrawFn, disks: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Bdevs that are made of others, up to three deep, and the names that are left to be served."""
    blocks = {bdev["name"]: bdev.get("block_size", 512) for bdev in disks if bdev.get("type") != "nvme"}
    whole = {*blocks}
    free, made = list(draw(st.permutations(list(blocks)))), []
    for name in draw(st.lists(st.sampled_from(["s0", "s1", "s2"]), max_size=3, unique=True)):
        kind = draw(st.sampled_from(["split", "delay", "error", "passthru", "raid"]))
        base = free.pop(0)
        bdev: dict[str, Any] = {"name": name, "type": kind, "base_bdevs": [base]}
        gives = [name]
        if kind == "split":
            gives = [f"{base}p{number}" for number in range(draw(st.integers(1, 3)))]
            sizes = st.sampled_from([None, "128MiB", "256MiB"] if base in whole else [None])
            bdev.update(name=f"{base}p", count=len(gives), size=draw(sizes))
        elif kind == "error":
            bdev["name"] = f"EE_{base}"
            gives = [bdev["name"]]
        elif kind == "delay":
            bdev["latency"] = dict(zip(LATENCIES, draw(st.sampled_from([(10, 10, 0, 0), (10, 99, 20, 3000)]))))
        elif kind == "raid":
            more = [each for each in free if blocks[each] == blocks[base]][: draw(st.integers(0, 2))]
            free = [each for each in free if each not in more]
            bdev["base_bdevs"] = [base, *more]
            bdev["level"] = draw(st.sampled_from(["raid0", "concat", "raid1"] if more else ["concat"]))
            if bdev["level"] != "raid1":
                bdev["strip_size"] = draw(st.sampled_from(["4KiB", "64KiB"]))
            else:
                bdev["base_bdevs"].sort()
        if kind != "split":
            bdev["qos"] = draw(limits())
        elif draw(st.booleans()):
            made.append({"name": gives[0], "qos": draw(limits())})
        made.append(bdev)
        blocks.update(dict.fromkeys(gives, blocks[base]))
        free += gives
    return made, free


@st.composite
def configurations(draw: st.DrawFn, builtin: bool = True) -> Variables:
    """A complete declaration that fits together. Its names, portals, files and UUIDs come from small pools.

    What only the engine of the collection has, or only SPDK, is in it for that engine only.
    """
    bdevs = draw(plain_bdevs(builtin))
    disks = [bdev["name"] for bdev in bdevs if bdev.get("type") != "nvme"]
    if not builtin:
        made, disks = draw(bdevs_on(bdevs))
        bdevs = draw(st.permutations(bdevs + made))
    secrets = draw(auth_groups())
    free = list(draw(st.permutations(PORTALS)))
    discovery = st.one_of(st.just({"chap": "inherit"}), policies(secrets)) if builtin else st.just({})
    portal_groups = [
        {
            "tag": tag,
            "portals": [free.pop() for _portal in range(draw(st.integers(1, 2))) if free],
            "private": draw(st.booleans()),
            **draw(discovery),
        }
        for tag in draw(some([1, 2], 2))
    ]
    public = [group["tag"] for group in portal_groups if not group["private"]]
    initiator_groups = [
        {"tag": tag, "initiators": draw(some(INITIATORS)), "netmasks": draw(some(MASKS if builtin else MASKS[:-1]))}
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
    for node in nodes if builtin else ():
        groups = sorted({each["initiator_group"] for each in node["maps"]})
        for lun in node["luns"]:
            lun["initiator_groups"] = draw(st.lists(st.sampled_from(groups), max_size=2, unique=True))
            lun.update(readonly=draw(st.booleans()), removable=draw(st.booleans()))
        node["enabled"] = draw(st.booleans())
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


class Way(NamedTuple):
    """From one configuration to another, on the engine of the collection or on SPDK."""

    builtin: bool
    before: Variables
    after: Variables


@st.composite
def ways(draw: st.DrawFn) -> Way:
    builtin = draw(st.booleans())
    way = Way(builtin, draw(configurations(builtin)), draw(configurations(builtin)))
    assume(files_never_shrink(way) and mirrors_can_be_rebuilt(way))
    return way


def planned(engine: FakeEngine, variables: Variables, **limits: Any) -> list[Operation]:
    snapshot = read(engine)
    declaration = declare(entries_of(variables), snapshot.can.node_base)
    return plan(snapshot.state, declaration, snapshot.can, **limits)


def converge(engine: FakeEngine, variables: Variables, **limits: Any) -> list[Operation]:
    operations = planned(engine, variables, **limits)
    execute(operations, engine)
    return operations


def running(variables: Variables, *, builtin: bool = True) -> FakeEngine:
    engine = FakeEngine(builtin=builtin)
    engine.slots.update(SLOTS)
    if not builtin:
        engine.files.update(dict.fromkeys(FILES, GIB))
        engine.images.update({("rbd", name): GIB for name in IMAGES})
    converge(engine, variables)
    return engine


def files_never_shrink(way: Way) -> bool:
    sizes = {each["path"]: each["size"] for each in way.before["bdevs"] if {"path", "size"} <= each.keys()}
    files = [each for each in way.after["bdevs"] if {"path", "size"} <= each.keys()]
    return all(each["size"] >= sizes.get(each["path"], "") for each in files)


def mirrors_can_be_rebuilt(way: Way) -> bool:
    """Whether those that stay, with other disks, get one other disk, and one that is large enough."""
    before, after = ({each["name"]: each for each in side["bdevs"]} for side in (way.before, way.after))
    pairs = [(before[name], each) for name, each in after.items() if name in before]
    mirrors = [pair for pair in pairs if all(each.get("level") == "raid1" for each in pair)]
    if all(old["base_bdevs"] == new["base_bdevs"] for old, new in mirrors):
        return True
    try:
        planned(running(way.before, builtin=way.builtin), way.after, prune=True, force=True)
    except Refused as refusal:
        return not any(words in str(refusal) for words in ("is rebuilt for one bdev at a time", " needs ", "read-only"))
    return True


def content(engine: FakeEngine) -> dict[str, dict[Any, Any]]:
    """What an engine has, without what the order of creation decides, such as that of the disks of a mirror."""
    found: dict[str, dict[Any, Any]] = {}
    for ref, each in read(engine).state.objects.items():
        found[str(ref)] = each.comparable()
        if found[str(ref)].get("level") == "raid1":
            found[str(ref)]["base_bdevs"] = sorted(found[str(ref)]["base_bdevs"])
    return found


@given(ways(), st.data())
def test_a_plan_reaches_the_declared_state_and_a_second_plan_is_empty(way: Way, data: st.DataObject) -> None:
    builtin, before, after = way
    engine = running(before, builtin=builtin)
    for node in before["target_nodes"]:
        if data.draw(st.booleans()):
            engine.log_in(node["name"])
    converge(engine, after, prune=True, force=True)

    fresh = content(running(after, builtin=builtin))
    reached = content(engine)
    for name, properties in fresh.items():
        named = {"uuid"} if properties.get("uuid") not in UUIDS else set()
        # What is made of a bdev that grows while it is used stays as large as it was.
        named |= {"size"} if properties.get("base_bdevs") or properties.get("type") == PART else set()
        assert {key: value for key, value in reached[name].items() if key not in named} == {
            key: value for key, value in properties.items() if key not in named
        }
    assert reached.keys() == fresh.keys()
    assert planned(engine, after, prune=True) == []


@given(ways())
def test_without_prune_nothing_undeclared_is_touched(way: Way) -> None:
    builtin, before, after = way
    engine = running(before, builtin=builtin)
    earlier = content(engine)
    declared = {str(ref) for ref in declare(entries_of(after), "iqn.2016-06.io.spdk").wishes}
    with suppress(Refused):
        converge(engine, after)
    later = content(engine)
    undeclared = [name for name in earlier if name not in declared]
    assert {name: later[name] for name in undeclared} == {name: earlier[name] for name in undeclared}


@given(ways())
def test_planning_sends_no_write_and_foretells_the_result(way: Way) -> None:
    builtin, before, after = way
    engine = running(before, builtin=builtin)
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


@given(ways(), st.integers(0, 30))
def test_a_run_that_breaks_is_finished_by_the_next(way: Way, breaks_at: int) -> None:
    builtin, before, after = way
    engine = running(before, builtin=builtin)
    start = len(engine.written)

    def broken(_call: Call) -> bool:
        return len(engine.written) - start > breaks_at and "_get_" not in _call.method

    engine.fail_at = broken
    with suppress(Failed):
        converge(engine, after, prune=True, force=True)
    engine.fail_at = lambda _call: False
    converge(engine, after, prune=True, force=True)
    assert planned(engine, after, prune=True) == []


@given(ways())
def test_what_is_read_can_be_declared_and_changes_nothing(way: Way) -> None:
    engine = running(way.before, builtin=way.builtin)
    shown = objects_by_option(read(engine).state)
    assert planned(engine, shown, prune=True) == []


@given(ways())
def test_a_plan_does_not_depend_on_the_order_of_the_variables(way: Way) -> None:
    builtin, before, after = way
    engine = running(before, builtin=builtin)
    backwards = {**after, **{kind: each[::-1] for kind, each in after.items() if isinstance(each, list)}}
    twin = copy.deepcopy(engine)
    converge(engine, after, prune=True, force=True)
    converge(twin, backwards, prune=True, force=True)
    assert content(engine).keys() == content(twin).keys()
    assert planned(twin, after, prune=True) == []


@given(ways(), st.booleans())
def test_who_is_logged_in_stays_and_without_force_keeps_all_luns(way: Way, force: bool) -> None:
    """On the engine of the collection; a session ends only with its node, or when that is disabled."""
    assume(way.builtin)
    engine = running(way.before)
    for node in way.before["target_nodes"]:
        if node["enabled"]:
            engine.log_in(node["name"])
    connections, luns = list(engine.connections), disks(engine)
    with suppress(Refused, Failed):
        converge(engine, way.after, force=force)
    disabled = {node["name"] for node in way.after["target_nodes"] if force and not node["enabled"]}
    kept = [each for each in connections if each["target_node_name"] not in disabled]
    assert [each for each in engine.connections if each["target_node_name"] not in disabled] == kept
    if not force:
        later = disks(engine)
        assert all(luns[each["target_node_name"]] <= later[each["target_node_name"]] for each in connections)


def disks(engine: FakeEngine) -> dict[str, set[tuple[int, str]]]:
    """What the LUNs of the nodes are, by the short name of each."""
    return {
        name.partition(":")[2]: {(lun["lun_id"], lun["bdev_name"]) for lun in node["luns"]}
        for name, node in engine.nodes.items()
    }
