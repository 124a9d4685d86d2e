# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The short form through the role: volumes for hosts of the inventory, which grow, get more hosts, and go."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._rpc import connect
from role_play import MSECRET, SECRET, Place, Played

DB1 = {
    "iscsi_initiator_name": "iqn.2020-01.test:db1",
    "iscsi_initiator_addresses": ["127.0.0.0/8"],
    "iscsi_initiator_chap": {"user": "db1", "secret": SECRET},
}
DB2 = {
    "iscsi_initiator_name": "iqn.2020-01.test:db2",
    "iscsi_initiator_addresses": ["10.0.0.6"],
    "iscsi_initiator_chap": {"user": "db2", "secret": MSECRET},
}


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    kept = ("ansible_python_interpreter", "iscsi_target_home", "iscsi_target_manager")
    place.variables = {name: place.variables[name] for name in kept}
    place.variables["iscsi_target_hosts"] = "here"
    place.variables["iscsi_target_volume_directory"] = str(place.directory / "volumes")
    place.variables["iscsi_target_volume_portals"] = [place.portal]
    yield place
    place.remove()


def play(place: Place, volumes: list[Any], *flags: str, db1: Any = None, db2: Any = None, **options: Any) -> Played:
    inventory = place.directory / "inventory.json"
    hosts = {"here": {}, "db1": DB1 if db1 is None else db1, "db2": DB2 if db2 is None else db2}
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
    return place.play("-i", str(inventory), *flags, iscsi_volumes=volumes, **options)


def ask(place: Place, method: str) -> Any:
    with connect(str(place.home / "rpc.sock"), 10) as rpc:
        return rpc.call(method)


def test_a_volume_is_served_grows_gets_a_host_and_goes(place: Place) -> None:
    volume = {"name": "pgdata", "size": "8MiB", "hosts": ["db1"], "chap": True, "filesystem": "ext4", "mount": "/srv"}
    other = {"name": "scratch", "size": "4MiB", "hosts": ["db2"]}
    foretold = play(place, [volume, other], "--check", "--diff", "-vvv")
    assert not place.home.exists()
    first = play(place, [volume, other], "--diff", "-vvv")
    assert first.changed == foretold.changed
    for played in (foretold, first):
        assert SECRET not in played.output
        assert MSECRET not in played.output
    again = play(place, [other, volume])  # in any order
    assert again.changed == 0

    nodes = {node["name"].rpartition(":")[2]: node for node in ask(place, "iscsi_get_target_nodes")}
    assert nodes["pgdata"]["require_chap"] is True
    assert nodes["scratch"]["disable_chap"] is True
    [group] = ask(place, "iscsi_get_auth_groups")
    assert group["tag"] == nodes["pgdata"]["chap_group"]
    assert [secret["user"] for secret in group["secrets"]] == ["db1"]
    groups = {group["tag"]: group for group in ask(place, "iscsi_get_initiator_groups")}
    [way] = nodes["scratch"]["pg_ig_maps"]
    assert groups[way["ig_tag"]]["initiators"] == ["iqn.2020-01.test:db2"]
    assert groups[way["ig_tag"]]["netmasks"] == ["10.0.0.6"]

    larger = {**volume, "size": "16MiB", "hosts": ["db1", "db2"]}
    changed = play(place, [larger, other])
    assert changed.changed == 1
    assert (place.directory / "volumes/pgdata.img").stat().st_size == 16 << 20
    [group] = ask(place, "iscsi_get_auth_groups")
    assert [secret["user"] for secret in group["secrets"]] == ["db1", "db2"]
    assert play(place, [larger, other]).changed == 0

    assert play(place, [{"name": "pgdata", "state": "absent"}, other]).changed == 1
    assert [node["name"].rpartition(":")[2] for node in ask(place, "iscsi_get_target_nodes")] == ["scratch"]
    assert ask(place, "iscsi_get_auth_groups") == []
    assert (place.directory / "volumes/pgdata.img").exists()
    assert play(place, [{"name": "pgdata", "state": "absent"}, other]).changed == 0


def test_volumes_stand_beside_what_is_declared_in_tags(place: Place) -> None:
    declared: dict[str, Any] = {
        "iscsi_target_bdevs": [{"name": "Malloc0", "type": "malloc", "size": "1MiB"}],
        "iscsi_target_portal_groups": [{"tag": 1, "portals": [place.portal]}],
        "iscsi_target_initiator_groups": [{"tag": 2, "initiators": ["ANY"]}],
        "iscsi_target_nodes": [
            {"name": "m0", "luns": [{"bdev": "Malloc0"}], "maps": [{"portal_group": 1, "initiator_group": 2}]}
        ],
    }
    volumes = [{"name": "fast", "bdev": "Malloc0", "hosts": ["db1"]}]
    play(place, volumes, **declared)
    names = sorted(node["name"].rpartition(":")[2] for node in ask(place, "iscsi_get_target_nodes"))
    assert names == ["fast", "m0"]
    assert len(ask(place, "iscsi_get_portal_groups")) == 1
    assert play(place, volumes, iscsi_target_prune=True, **declared).changed == 0


def test_hosts_that_nobody_described_are_asked(place: Place) -> None:
    name = {"iscsi_initiator_name": DB1["iscsi_initiator_name"]}
    played = play(place, [{"name": "a", "size": "1MiB", "hosts": ["db1", "db2"]}], "--diff", db1=name)
    [group] = ask(place, "iscsi_get_initiator_groups")
    told = set(subprocess.run(["hostname", "-I"], check=True, capture_output=True, text=True).stdout.split())
    assert told
    assert {mask.strip("[]") for mask in group["netmasks"]} == {*told, "10.0.0.6"}, played.output


def test_everything_that_is_wrong_is_said_at_once_and_nothing_is_done(place: Place) -> None:
    volumes = [
        {"name": "pgdata", "size": "8MiB", "hosts": ["db1", "db2", "db9"], "chap": "mutual", "secrte": SECRET},
        {"name": "pgdata", "hosts": ["db1"], "chap": SECRET},
    ]
    db1 = {**DB1, "iscsi_initiator_name": "db1"}
    db2 = {**DB2, "iscsi_initiator_chap": {"user": "db2", "sercet": MSECRET}}
    refused = play(place, volumes, "-vvv", "--diff", fails=True, db1=db1, db2=db2)
    for said in (
        "iscsi_volumes[0].secrte: a volume has no such option",
        "iscsi_volumes[1].name: volume pgdata is declared in iscsi_volumes[0] already",
        "iscsi_volumes[0].hosts[2]: no host named db9",
        "iscsi_volumes[0].chap: host db1 needs muser and msecret for chap mutual",
        "iscsi_volumes[0].chap: host db2 needs secret and muser and msecret",
        "hosts.db2.sercet: a host has no such option",
        "hosts.db1.initiator: 'db1' is not an iSCSI name",
        "iscsi_volumes[1].chap: not one of true",
        "iscsi_volumes[1].size: volume pgdata needs a size",
    ):
        assert said in refused.output
    assert SECRET not in refused.output
    assert MSECRET not in refused.output
    assert not place.home.exists()
