# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role on a bare host: foretold, run, again, with secrets, with options, and removed."""

from __future__ import annotations

import os
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._rpc import connect
from ansible_collections.openlun.iscsi.plugins.module_utils._service.procfs import start_time
from engine_process import eventually
from role_play import MSECRET, SECRET, Place

NODE_BASE = "iqn.2024-01.com.example.storage"


def ask(place: Place, method: str) -> Any:
    with connect(str(place.home / "rpc.sock"), 10) as rpc:
        return rpc.call(method)


def without_a_trace(place: Place) -> bool:
    return not place.home.exists() and [path.name for path in place.disk.parent.iterdir()] == ["disk0.img"]


def test_foretold_run_again_changed_and_removed_without_a_trace(place: Place) -> None:
    options = {"iscsi_target_options": {"max_queue_depth": 128, "node_base": NODE_BASE}}
    secrets = [{"user": "u1", "secret": SECRET, "muser": "t1", "msecret": MSECRET}]
    variables: dict[str, Any] = {
        **options,
        "iscsi_target_auth_groups": [{"tag": 1, "secrets": secrets}],
        "iscsi_target_discovery_auth": {"chap": "mutual", "auth_group": 1},
        "iscsi_target_nodes": [
            {
                **place.variables["iscsi_target_nodes"][0],
                "queue_depth": 100,
                "chap": "required",
                "auth_group": 1,
                "redirects": [{"portal_group": 1, "address": "127.0.0.2:3260"}],
            }
        ],
    }
    foretold = place.play("--check", "--diff", "-vvv", **variables)
    assert not place.home.exists()
    assert f"target node {NODE_BASE}:disk0" in foretold.output

    first = place.play("--diff", "-vvv", **variables)
    assert first.changed == foretold.changed
    node = ask(place, "iscsi_get_target_nodes")[0]
    assert (node["name"], node["queue_depth"]) == (f"{NODE_BASE}:disk0", 100)
    assert (node["require_chap"], node["chap_group"]) == (True, 1)
    live = ask(place, "iscsi_get_options")
    assert (live["max_queue_depth"], live["mutual_chap"], live["chap_group"]) == (128, True, 1)
    assert ask(place, "iscsi_get_auth_groups") != []

    assert place.play("--diff", **variables).changed == 0
    for played in (foretold, first):
        assert SECRET not in played.output
        assert MSECRET not in played.output

    pid = ask(place, "engine_get_info")["pid"]
    variables["iscsi_target_options"] = {"max_queue_depth": 256}
    assert place.play("--check", **variables).changed == 1
    assert ask(place, "iscsi_get_options")["max_queue_depth"] == 128
    assert place.play(**variables).changed == 1
    live = ask(place, "iscsi_get_options")
    assert (live["max_queue_depth"], live["node_base"], live["mutual_chap"]) == (256, NODE_BASE, True)
    assert ask(place, "iscsi_get_target_nodes")[0]["name"] == f"{NODE_BASE}:disk0"
    assert start_time(pid) is None

    pid = ask(place, "engine_get_info")["pid"]
    place.play("--check", iscsi_target_state="absent", iscsi_target_purge=True)
    assert start_time(pid) is not None
    place.play(iscsi_target_state="absent", iscsi_target_purge=True)
    assert start_time(pid) is None
    assert without_a_trace(place)
    assert place.disk.stat().st_size == 8 << 20
    assert place.play(iscsi_target_state="absent", iscsi_target_purge=True).changed == 0


def test_absent_leaves_the_saved_configuration_and_the_next_run_has_it(place: Place) -> None:
    place.play()
    uuid = ask(place, "bdev_get_bdevs")[0]["uuid"]
    place.play(iscsi_target_state="absent")
    assert sorted(path.name for path in place.home.iterdir()) == ["engine.log", "state"]
    assert [path.name for path in (place.home / "state").iterdir()] == ["config.json"]
    place.play("--tags", "iscsi_target_install,iscsi_target_run")
    assert ask(place, "bdev_get_bdevs")[0]["uuid"] == uuid


def test_files_of_an_engine_that_does_not_run_are_not_left_silently(place: Place) -> None:
    place.play()
    pid = ask(place, "engine_get_info")["pid"]
    os.kill(pid, 9)
    eventually(lambda: start_time(pid) is None, "the end of the engine")
    removal: dict[str, Any] = {"iscsi_target_state": "absent", "iscsi_target_purge": True}
    removal["iscsi_target_remove_files"] = True
    assert "the engine does not run, so nobody knows its files" in place.play(fails=True, **removal).output
    place.play()
    place.play(**removal)
    assert not place.home.exists()
    assert not place.disk.exists()


@pytest.mark.parametrize(
    ("secrets", "says"),
    [
        ({"user": "u1", "secret": SECRET}, "secrets"),
        ([{"user": "u1", "secrte": SECRET}], "secrte"),
        ([{"secret": SECRET}], "user"),
    ],
)
def test_what_is_wrong_with_secrets_is_said_without_them(place: Place, secrets: Any, says: str) -> None:
    groups = [{"tag": 1, "secrets": secrets}]
    refused = place.play("-vvv", "--diff", fails=True, iscsi_target_auth_groups=groups)
    assert says in refused.output
    assert SECRET not in refused.output
    assert not place.home.exists()
