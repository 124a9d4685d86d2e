# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVMe controllers, limits, masks of LUNs and the policy of a portal group: what is planned, refused and sent."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._state.executor import Failed, execute
from fake_engine import FakeEngine
from planning import converge, planned, refused

BASE = "iqn.2016-06.io.spdk"
HOST = "iqn.2020-01.test:host"
NVME = {"name": "NVMe1", "type": "nvme", "address": "03:00.0"}
GROUPS: dict[str, Any] = {
    "portal_groups": [{"tag": 1, "portals": ["10.0.0.1"]}],
    "initiator_groups": [
        {"tag": 2, "initiators": [HOST], "netmasks": ["10.0.0.0/8"]},
        {"tag": 3, "initiators": ["iqn.2020-01.test:other"], "netmasks": ["ANY"]},
    ],
}
MAPS = [{"portal_group": 1, "initiator_group": 2}, {"portal_group": 1, "initiator_group": 3}]


def node(bdev: str, **lun: Any) -> dict[str, Any]:
    return {"name": "n1", "luns": [{"id": 0, "bdev": bdev, **lun}], "maps": MAPS}


@pytest.fixture
def engine() -> FakeEngine:
    made = FakeEngine()
    made.slots.update({"0000:03:00.0": 1, "0000:04:00.0": 1})
    converge(made, **GROUPS)
    return made


@pytest.fixture
def serving(engine: FakeEngine) -> FakeEngine:
    converge(engine, bdevs=[NVME], target_nodes=[node("NVMe1n1")])
    return engine


def test_a_node_serves_a_namespace_of_a_controller_that_is_attached_in_the_same_run(engine: FakeEngine) -> None:
    limits = {"name": "NVMe1n1", "qos": {"rw_ios_per_sec": 1500}}
    execute(planned(engine, bdevs=[NVME, limits], target_nodes=[node("NVMe1n1")]), engine)
    attach = {"name": "NVMe1", "trtype": "PCIe", "traddr": "0000:03:00.0"}
    assert [(call.method, call.params) for call in engine.written[:1]] == [("bdev_nvme_attach_controller", attach)]
    assert engine.bdevs["NVMe1n1"]["assigned_rate_limits"]["rw_ios_per_sec"] == 2000
    assert planned(engine, bdevs=[NVME, limits], target_nodes=[node("NVMe1n1")]) == []


def test_a_namespace_that_is_not_there_is_named_with_those_that_are(engine: FakeEngine) -> None:
    with pytest.raises(Failed, match=r"does not give NVMe1n2\. It gives: NVMe1n1\."):
        execute(planned(engine, bdevs=[NVME], target_nodes=[node("NVMe1n2")]), engine)
    assert "Controller NVMe1 does not give it. Known bdevs: NVMe1n1." in refused(engine, target_nodes=[node("NVMe1n2")])


def test_another_address_replaces_the_controller_while_its_lun_is_away(serving: FakeEngine) -> None:
    moved: dict[str, Any] = {"bdevs": [{"name": "NVMe1", "address": "0000:04:00.0"}], "target_nodes": [{"name": "n1"}]}
    assert "puts another device in its place" in refused(serving, **moved)
    execute(planned(serving, force=True, **moved), serving)
    assert [call.method for call in serving.written] == [
        "iscsi_target_node_remove_lun",
        "bdev_nvme_detach_controller",
        "bdev_nvme_attach_controller",
        "iscsi_target_node_add_lun",
    ]


def test_a_controller_whose_namespace_is_served_stays(serving: FakeEngine) -> None:
    absent = [{"name": "NVMe1", "state": "absent"}]
    assert "bdev NVMe1n1 cannot be removed" in refused(serving, bdevs=absent)
    assert planned(serving, prune=True, target_nodes=[{"name": "n1"}], **GROUPS) == []
    operations = planned(serving, bdevs=absent, target_nodes=[{"name": "n1", "state": "absent"}])
    assert [str(each.ref[1]) for each in operations] == [f"{BASE}:n1", "NVMe1"]


def test_a_null_bdev_grows_and_is_made_again_to_be_smaller(engine: FakeEngine) -> None:
    converge(engine, bdevs=[{"name": "void", "type": "null", "size": "2GiB"}])
    for size, action in (("3GiB", "edit"), ("1GiB", "replace")):
        operations = planned(engine, force=True, bdevs=[{"name": "void", "size": size}])
        assert [each.action for each in operations] == [action]
    execute(planned(engine, bdevs=[{"name": "void", "size": "3GiB"}]), engine)
    assert [call.params for call in engine.written] == [{"name": "void", "new_size": 3072}]


def test_an_engine_without_the_type_or_the_limits_is_named(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    # The class looks methods up by name, so that one without them answers as an engine that lacks them.
    lacking = ("bdev_null_create", "bdev_set_qos_limit")
    every = engine.do_rpc_get_methods()
    monkeypatch.setattr(engine, "do_rpc_get_methods", lambda: [name for name in every if name not in lacking])
    void = {"name": "void", "type": "null", "size": "1GiB"}
    assert "bdevs[0].type: builtin has no bdev_null_create" in refused(engine, bdevs=[void])
    limited = {"name": "m", "type": "malloc", "size": "1GiB", "qos": {"w_mbytes_per_sec": 5}}
    assert "bdevs[0].qos: builtin has no bdev_set_qos_limit" in refused(engine, bdevs=[limited])


def test_limits_change_while_somebody_is_logged_in_and_others_stay(serving: FakeEngine) -> None:
    serving.log_in("n1")
    converge(serving, bdevs=[{"name": "NVMe1n1", "qos": {"rw_ios_per_sec": 5000, "r_mbytes_per_sec": 3}}])
    execute(planned(serving, bdevs=[{"name": "NVMe1n1", "qos": {"rw_ios_per_sec": 0}}]), serving)
    assert [call.params for call in serving.written] == [{"name": "NVMe1n1", "rw_ios_per_sec": 0}]


def test_hiding_a_lun_names_those_who_see_it_and_needs_force(serving: FakeEngine) -> None:
    serving.log_in("n1", initiator=HOST)
    serving.log_in("n1", initiator="iqn.2020-01.test:other", address="10.0.0.8")
    hidden = node("NVMe1n1", initiator_groups=[2])
    assert "hides a LUN from 1 session: iqn.2020-01.test:other (10.0.0.8)." in refused(serving, target_nodes=[hidden])
    converge(serving, force=True, target_nodes=[hidden])
    assert serving.nodes[f"{BASE}:n1"]["luns"][0]["initiator_groups"] == [2]
    assert planned(serving, target_nodes=[node("NVMe1n1")]) == []
    assert [each.sessions for each in planned(serving, target_nodes=[node("NVMe1n1", initiator_groups=[])])] == [()]


def test_a_group_that_sees_a_lun_is_mapped_and_stays(serving: FakeEngine) -> None:
    assert "no initiator group with tag 9" in refused(serving, target_nodes=[node("NVMe1n1", initiator_groups=[9])])
    converge(serving, target_nodes=[node("NVMe1n1", initiator_groups=[2])])
    problem = refused(serving, force=True, initiator_groups=[{"tag": 2, "state": "absent"}])
    assert "initiator group 2 cannot be removed" in problem


def test_an_engine_without_masks_says_what_to_do_instead(serving: FakeEngine) -> None:
    serving.builtin = False
    problem = refused(serving, target_nodes=[node("NVMe1n1", initiator_groups=[2])])
    assert problem.startswith("target_nodes[0].luns[0].initiator_groups: spdk shows every LUN to whoever may log in.")


def test_a_portal_group_has_a_policy_of_its_own_and_gives_it_up(engine: FakeEngine) -> None:
    secrets = [{"tag": 1, "secrets": [{"user": "u", "secret": "not for you"}]}]
    converge(engine, auth_groups=secrets, portal_groups=[{"tag": 1, "auth_group": 1}])
    assert engine.portal_groups[1]["require_chap"] is True
    assert "authenticates with it" in refused(engine, auth_groups=[{"tag": 1, "state": "absent"}])
    execute(planned(engine, portal_groups=[{"tag": 1, "chap": "inherit"}]), engine)
    assert [call.params for call in engine.written] == [{"tag": 1, "inherit": True}]
    engine.builtin = False
    assert "one policy for discovery" in refused(engine, portal_groups=[{"tag": 1, "chap": "none"}])
