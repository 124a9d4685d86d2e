# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is to be logged in to, out of the variables of the hosts that serve it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.inventory import derive

BASE = "iqn.2016-06.io.spdk"
SECRET, MSECRET = "not-for-your-eyes", "nor-for-theirs"


def inventory(volumes: list[dict[str, Any]], **storage: Any) -> dict[str, Any]:
    return {
        "storage1": {"iscsi_volumes": volumes, "iscsi_target_addresses": ["10.0.0.1"], **storage},
        "db1": {
            "iscsi_initiator_name": "iqn.2020-01.com.example:db1",
            "iscsi_initiator_chap": {"user": "db1", "secret": SECRET, "muser": "storage1", "msecret": MSECRET},
        },
        "db2": {"iscsi_initiator_name": "iqn.2020-01.com.example:db2"},
    }


def targets(hostvars: dict[str, Any], host: str = "db1", **more: Any) -> dict[str, Any]:
    result = derive(hostvars, host, ["storage1"], **more)
    assert result["problems"] == []
    found: dict[str, Any] = result["targets"]
    return found


def test_a_host_finds_the_volumes_that_name_it_and_no_others() -> None:
    hostvars = inventory([{"name": "pgdata", "hosts": ["db1"]}, {"name": "scratch", "hosts": ["db2"]}])
    assert targets(hostvars) == {
        f"{BASE}:pgdata": {
            "target": f"{BASE}:pgdata",
            "portals": ["10.0.0.1:3260,1"],
            "chap": {},
            "luns": [0],
            "mounts": [],
        }
    }
    assert list(targets(hostvars, "db2")) == [f"{BASE}:scratch"]


@pytest.mark.parametrize(
    ("policy", "proofs"),
    [(False, set()), (True, {"user", "secret"}), ("mutual", {"user", "secret", "muser", "msecret"})],
)
def test_a_host_proves_what_the_volume_asks_for_and_no_more(policy: Any, proofs: set[str]) -> None:
    (target,) = targets(inventory([{"name": "pgdata", "hosts": ["db1"], "chap": policy}])).values()
    assert set(target["chap"]) == proofs


def test_a_missing_secret_is_a_problem_that_names_the_variable() -> None:
    (problem,) = derive(inventory([{"name": "v", "hosts": ["db2"], "chap": "mutual"}]), "db2", ["storage1"])["problems"]
    assert "volume v needs user and secret and muser and msecret for chap mutual" in problem
    assert "iscsi_initiator_chap" in problem


@pytest.mark.parametrize(
    ("storage", "portals"),
    [
        ({}, ["10.0.0.1:3260,1"]),
        ({"iscsi_target_volume_portals": ["10.0.0.7:3261", "[fd00::7]:3260"]}, ["10.0.0.7:3261,1", "[fd00::7]:3260,1"]),
        (
            {
                "iscsi_target_volume_portal_group": 4,
                "iscsi_target_portal_groups": [{"tag": 1, "portals": ["10.9.9.9"]}, {"tag": 4, "portals": ["*:3262"]}],
            },
            ["10.0.0.1:3262,4"],
        ),
        ({"iscsi_target_addresses": ["10.0.0.1", "10.0.1.1"]}, ["10.0.0.1:3260,1", "10.0.1.1:3260,1"]),
        (
            {"iscsi_target_addresses": ["10.0.0.1", "fd00::1"], "iscsi_target_volume_portals": ["[::]:3260"]},
            ["[fd00::1]:3260,1"],
        ),
        (
            {"iscsi_target_addresses": None, "ansible_facts": {"default_ipv4": {"address": "10.0.0.3"}}},
            ["10.0.0.3:3260,1"],
        ),
        ({"iscsi_target_addresses": None, "ansible_host": "10.0.0.4"}, ["10.0.0.4:3260,1"]),
    ],
)
def test_portals_are_those_of_the_volumes_group_with_addresses_for_wildcards(
    storage: dict[str, Any], portals: list[str]
) -> None:
    (target,) = targets(inventory([{"name": "v", "hosts": ["db1"]}], **storage)).values()
    assert target["portals"] == portals


def test_a_storage_host_of_unknown_address_is_asked_for_its_facts() -> None:
    hostvars = inventory([{"name": "v", "hosts": ["db1"]}], iscsi_target_addresses=[], ansible_host="storage.example")
    result = derive(hostvars, "db1", ["storage1"])
    assert result["strangers"] == ["storage1"]
    assert "iscsi_target_addresses" in result["problems"][0]
    assert derive(hostvars, "db2", ["storage1"])["strangers"] == []


def test_file_systems_and_mounts_come_with_the_volume() -> None:
    volumes = [
        {"name": "v", "hosts": ["db1"], "filesystem": "ext4", "mount": "/srv", "mount_options": "noatime,_netdev"},
        {"name": "old", "hosts": ["db1"], "mount": "/old", "state": "absent"},
    ]
    result = derive(inventory(volumes), "db1", ["storage1"])
    assert result["mounts"] == [
        {
            "lun": 0,
            "filesystem": "ext4",
            "path": "/srv",
            "options": "noatime,_netdev",
            "target": f"{BASE}:v",
            "state": "present",
        },
        {"lun": 0, "path": "/old", "target": f"{BASE}:old", "state": "absent"},
    ]
    assert result["targets"][f"{BASE}:old"]["state"] == "absent"


def test_declared_targets_come_besides_and_change_what_volumes_say() -> None:
    hostvars = inventory(
        [{"name": "v", "hosts": ["db1"]}], iscsi_target_options={"node_base": "iqn.2020-01.com.example"}
    )
    declared = [
        {"target": "iqn.2020-01.com.example:v", "header_digest": "crc32c"},
        {"target": "iqn.1992-01.com.other:x", "portals": ["10.7.0.1"]},
    ]
    found = targets(hostvars, declared=declared, defaults={"startup": "automatic", "header_digest": "none"})
    volume, other = found.values()
    assert (volume["header_digest"], volume["portals"], volume["startup"]) == (
        "crc32c",
        ["10.0.0.1:3260,1"],
        "automatic",
    )
    assert (other["portals"], other["header_digest"]) == (["10.7.0.1"], "none")


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({}, "iscsi_initiator_targets[0]: has no target"),
        ({"target": "iqn.2020-01.com.example:x", "portal": "10.0.0.1"}, "iscsi_initiator_targets[0].portal: "),
        ({"target": "iqn.2020-01.com.example:x", "mounts": [{"mount": "/x"}]}, ".mounts[0].mount: has no such option"),
    ],
)
def test_declarations_that_make_no_sense_are_named(declared: dict[str, Any], says: str) -> None:
    (problem,) = derive(inventory([]), "db1", [], declared=[declared])["problems"]
    assert says in problem


def test_two_hosts_with_one_name_or_two_targets_with_one_name_are_a_problem() -> None:
    hostvars = inventory([{"name": "v", "hosts": ["db1", "db2"], "chap": True}])
    hostvars["db2"]["iscsi_initiator_name"] = "IQN.2020-01.com.example:DB1"
    hostvars["storage2"] = hostvars["storage1"]
    result = derive(hostvars, "db1", ["storage1", "storage2", "storage3"])
    texts = "\n".join(result["problems"])
    assert "both storage1 and storage2 serve it" in texts
    assert "has the iscsi_initiator_name of db2" in texts
    assert "host storage3: is to serve volumes, but the inventory has no such host" in texts
    assert SECRET not in json.dumps(result["problems"])


EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.mark.parametrize("file", sorted(path.name for path in EXAMPLES.glob("*.yml")))
def test_the_example_inventories_lead_every_initiator_to_a_target(file: str) -> None:
    inventory = yaml.safe_load((EXAMPLES / file).read_text())["all"]
    shared = inventory.get("vars", {})
    groups = inventory["children"]
    hosts = {
        name: {
            **shared,
            **group.get("vars", {}),
            **(own or {}),
            "iscsi_initiator_name": f"iqn.2020-01.com.example:{name}",
        }
        for group in groups.values()
        for name, own in group["hosts"].items()
    }
    storage = list(groups.pop("iscsi_targets")["hosts"])
    for name in storage:
        hosts[name].setdefault("iscsi_target_addresses", ["192.168.0.22"])  # as facts would tell
    for group in groups.values():
        for name in group["hosts"]:
            result = derive(hosts, name, storage, hosts[name].get("iscsi_initiator_targets", ()))
            assert result["problems"] == []
            assert result["targets"]
