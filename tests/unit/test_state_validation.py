# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that is wrong with a declaration is said at once, with its place in the variables, before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._state.declaration import Entry, declare, entries_of
from ansible_collections.openlun.iscsi.plugins.module_utils._state.planner import Refused, plan
from ansible_collections.openlun.iscsi.plugins.module_utils._state.reader import read
from fake_engine import FakeEngine

BASE = "iqn.2016-06.io.spdk"
LUN0 = [{"id": 0, "bdev": "disk0"}]
MAP = [{"portal_group": 1, "initiator_group": 2}]


@pytest.fixture
def engine() -> FakeEngine:
    """disk0 in portal group 1 for initiator group 2, as node "live"."""
    engine = FakeEngine()
    engine.call("bdev_aio_create", {"name": "disk0", "filename": "/srv/disk0", "size": 1 << 30})
    engine.call("iscsi_create_portal_group", {"tag": 1, "portals": [{"host": "10.0.0.1", "port": "3260"}]})
    engine.call("iscsi_create_initiator_group", {"tag": 2, "initiators": ["ANY"], "netmasks": ["ANY"]})
    node = {"queue_depth": 64, "header_digest": False, "data_digest": False}
    auth = {"disable_chap": True, "require_chap": False, "mutual_chap": False, "chap_group": 0}
    lun, each = {"lun_id": 0, "bdev_name": "disk0"}, {"pg_tag": 1, "ig_tag": 2}
    place = {"name": f"{BASE}:live", "alias_name": "", "luns": [lun], "pg_ig_maps": [each]}
    engine.call("iscsi_create_target_node", {**place, **node, **auth})
    engine.written.clear()
    return engine


def problems(engine: FakeEngine, *, prune: bool = False, **variables: Any) -> list[str]:
    snapshot = read(engine)
    with pytest.raises(Refused) as refused:
        plan(snapshot.state, declare(entries_of(variables), snapshot.can.node_base), snapshot.can, prune=prune)
    assert not engine.written
    return refused.value.problems


def test_all_problems_are_found_at_once(engine: FakeEngine) -> None:
    found = problems(
        engine,
        bdevs=[{"name": "a", "type": "malloc", "size": "lots"}, {"name": "b", "type": "malloc"}],
        portal_groups=[{"tag": 70000, "portals": ["10.0.0.2"]}, {"tag": 3, "portals": ["10.0.0.3:99999", "10.0.0.3"]}],
        initiator_groups=[{"tag": 4, "initiators": ["host1"], "netmasks": ["10.0.0.0/99"]}],
        target_nodes=[
            {"name": "n", "luns": [{"id": 0, "bdev": "disk7"}], "maps": [{"portal_group": 8, "initiator_group": 9}]}
        ],
    )
    assert [problem.partition(": ")[0] for problem in found] == [
        "bdevs[0].size",
        "portal_groups[0].tag",
        "portal_groups[1].portals[0]",
        "initiator_groups[0].initiators[0]",
        "initiator_groups[0].netmasks[0]",
        "bdevs[1].size",
        "target_nodes[0].luns[0].bdev",
        "target_nodes[0].maps[0].portal_group",
        "target_nodes[0].maps[0].initiator_group",
    ]


def test_a_dangling_reference_names_what_there_is(engine: FakeEngine) -> None:
    node = {"name": "n", "luns": [{"id": 0, "bdev": "disk7"}], "maps": MAP}
    [problem] = problems(engine, bdevs=[{"name": "m", "type": "malloc", "size": "1MiB"}], target_nodes=[node])
    assert problem.startswith("target_nodes[0].luns[0].bdev: no bdev named disk7. ")
    assert problem.endswith("Known bdevs: disk0, m.")


def test_a_reference_to_something_declared_wrongly_is_not_dangling(engine: FakeEngine) -> None:
    node = {"name": "n", "luns": [{"id": 0, "bdev": "new"}], "maps": MAP}
    found = problems(engine, bdevs=[{"name": "new", "type": "malloc", "size": "much"}], target_nodes=[node])
    assert len(found) == 1
    assert found[0].startswith("bdevs[0].size: 'much'")


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        (
            {"portal_groups": [{"tag": 5, "portals": ["10.0.0.9"]}, {"tag": 5, "portals": ["10.0.0.8"]}]},
            "portal_groups[1].tag: portal group 5 is declared in portal_groups[0] already.",
        ),
        (
            {"target_nodes": [{"name": "live"}, {"name": f"{BASE}:live"}]},
            f"target_nodes[1].name: target node {BASE}:live is declared in target_nodes[0] already.",
        ),
        (
            {"portal_groups": [{"tag": 5, "portals": ["10.0.0.9", "10.0.0.9:3260"]}]},
            "portal_groups[0].portals[1]: repeats portal_groups[0].portals[0].",
        ),
        (
            {"target_nodes": [{"name": "live", "luns": [*LUN0, *LUN0]}]},
            "target_nodes[0].luns[1]: repeats target_nodes[0].luns[0].",
        ),
        (
            {"portal_groups": [{"tag": 5, "portals": ["10.0.0.1"]}]},
            "portal_groups[0].portals[0]: 10.0.0.1:3260 belongs to portal group 1 already.",
        ),
        (
            {"portal_groups": [{"tag": 5, "portals": ["*"]}]},
            "portal_groups[0].portals[0]: 0.0.0.0:3260 overlaps 10.0.0.1:3260 of portal group 1 already.",
        ),
        (
            {"target_nodes": [{"name": "live", "luns": [{"id": 1, "bdev": "disk0"}]}]},
            "target_nodes[0].luns: LUN 0 is missing, and initiators look for the other LUNs there.",
        ),
        (
            {"target_nodes": [{"name": "live", "luns": []}]},
            "target_nodes[0].luns: the list is empty. Leave the option out to keep what is there.",
        ),
        (
            {"target_nodes": [{"name": "live", "queue_depth": 128}]},
            "target_nodes[0].queue_depth: 128 is more than this engine's maximum of 64.",
        ),
        (
            {"target_nodes": [{"name": "new"}]},
            f"target_nodes[0].luns: target node {BASE}:new does not exist yet and needs LUN 0.",
        ),
        (
            {"bdevs": [{"name": "odd", "type": "malloc", "size": "1000"}]},
            "bdevs[0].size: 1000 bytes are not a multiple of the block size 512.",
        ),
        (
            {"bdevs": [{"name": "disk0", "size": "512MiB"}]},
            "bdevs[0].size: bdev disk0 has 1GiB and is not made smaller, because that cuts off data.",
        ),
        (
            {"bdevs": [{"name": "twin", "type": "aio", "path": "/srv/disk0"}]},
            "bdevs[0].path: /srv/disk0 belongs to bdev disk0 already.",
        ),
        (
            {"bdevs": [{"name": "raw", "type": "aio", "path": "/dev/sdb", "size": "1GiB"}]},
            "bdevs[0].size: /dev/sdb is a device and has its own size. Leave size out.",
        ),
        (
            {"bdevs": [{"name": "m", "type": "malloc", "size": "1MiB", "path": "/srv/m"}]},
            "bdevs[0].path: bdev m is of type malloc, which has no path.",
        ),
        (
            {"bdevs": [{"name": "disk0", "state": "absent"}]},
            f"bdevs[0].name: bdev disk0 cannot be removed: target node {BASE}:live serves it as LUN 0.",
        ),
        (
            {"bdevs": [{"name": "disk0", "state": "absent"}], "target_nodes": [{"name": "live", "luns": LUN0}]},
            "target_nodes[0].luns[0].bdev: bdev disk0 is to be removed (declared absent), so nothing can use it.",
        ),
    ],
)
def test_a_problem_is_named_with_its_path(engine: FakeEngine, variables: dict[str, Any], problem: str) -> None:
    assert any(found.startswith(problem) for found in problems(engine, **variables))


def test_files_are_not_asked_of_an_engine_that_cannot_make_them() -> None:
    spdk = FakeEngine(builtin=False)
    found = problems(spdk, bdevs=[{"name": "f", "type": "aio", "path": "/srv/f", "size": "1GiB"}])
    assert found == ["bdevs[0].size: spdk cannot make files. Make /srv/f first and leave size out."]


@pytest.mark.parametrize("netmask", ["0.0.0.0/0", "[::]/0"])
def test_all_addresses_of_a_family_are_a_netmask_for_our_engine_and_none_for_spdk(netmask: str) -> None:
    group = {"tag": 4, "initiators": ["ANY"], "netmasks": ["10.0.0.1", netmask]}
    ours = read(FakeEngine())
    assert len(plan(ours.state, declare(entries_of({"initiator_groups": [group]}), BASE), ours.can)) == 1
    assert problems(FakeEngine(builtin=False), initiator_groups=[group]) == [
        f"initiator_groups[0].netmasks[1]: spdk matches no address with {netmask}. Write ANY for every address."
    ]


def test_a_bdev_of_another_type_is_served_but_not_managed(engine: FakeEngine) -> None:
    nvme = {"name": "NVMe1n1", "product_name": "NVMe disk", "block_size": 512, "num_blocks": 2048, "uuid": ""}
    engine.bdevs["NVMe1n1"] = nvme
    node = {"name": "live", "luns": [*LUN0, {"id": 1, "bdev": "NVMe1n1"}]}
    snapshot = read(engine)
    [operation] = plan(snapshot.state, declare(entries_of({"target_nodes": [node]}), BASE), snapshot.can)
    assert operation.why == "luns 0=disk0 → 0=disk0, 1=NVMe1n1"
    assert problems(engine, bdevs=[{"name": "NVMe1n1", "state": "absent"}]) == [
        "bdevs[0].name: bdev NVMe1n1 is a NVMe disk, which openlun.iscsi can serve but not remove."
    ]


def test_the_paths_of_a_single_object_are_its_options() -> None:
    declaration = declare([Entry("portal_group", {"tag": 1, "portals": ["10.0.0.1:0"]})], BASE)
    assert declaration.problems == ["portals[0]: '10.0.0.1:0': port 0 is not between 1 and 65535."]
