# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role with SPDK's engine, of which a stand-in has the command line and the forgetfulness."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._rpc import connect
from ansible_collections.openlun.iscsi.plugins.module_utils._service.procfs import command_of, start_time
from engine_process import eventually
from role_play import SECRET, Place
from spdk_stand_in import install


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    install(place.directory / "opt")
    place.variables.update(
        iscsi_target_engine="spdk",
        iscsi_target_spdk_prefix=str(place.directory / "opt"),
        iscsi_target_spdk_hugepages=False,
        iscsi_target_spdk_memory=512,
        iscsi_target_spdk_arguments=["--no-pci"],
        iscsi_target_cpumask="0x1",
    )
    yield place
    place.remove()


def ask(place: Place, method: str) -> Any:
    with connect(str(place.home / "spdk" / "rpc.sock"), 10) as rpc:
        return rpc.call(method)


def pid_of(place: Place) -> int:
    return int((place.home / "spdk" / "engine.pid").read_text().split()[0])


def test_foretold_run_again_restored_changed_and_removed(place: Place) -> None:
    secrets: dict[str, Any] = {"iscsi_target_auth_groups": [{"tag": 1, "secrets": [{"user": "u1", "secret": SECRET}]}]}
    foretold = place.play("--check", "--diff", "-vvv", **secrets)
    assert not place.home.exists()
    first = place.play("--diff", "-vvv", **secrets)
    assert first.changed == foretold.changed
    assert SECRET not in foretold.output + first.output
    saved = place.home / "spdk" / "state" / "config.json"
    assert saved.stat().st_mode & 0o777 == 0o600
    command = command_of(pid_of(place))
    assert command is not None
    assert command[1:] == [
        str(place.directory / "opt/build/bin/iscsi_tgt"),
        *("-r", str(place.home / "spdk/rpc.sock"), "-c", str(saved), "--json-ignore-init-errors"),
        *("-m", "0x1", "-s", "512", "--no-huge", "--no-pci"),
    ]
    assert place.play(**secrets).changed == 0

    # A power cut: whoever starts it again has all of it, because the role saved it.
    live = {method: ask(place, method) for method in ("iscsi_get_target_nodes", "iscsi_get_auth_groups")}
    assert live["iscsi_get_target_nodes"] != []
    pid = pid_of(place)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: start_time(pid) is None, "the end of the target")
    assert place.play("--tags", "iscsi_target_run").changed == 1
    assert {method: ask(place, method) for method in live} == live
    assert place.play(**secrets).changed == 0

    # Options that SPDK takes only at its start.
    assert place.play(iscsi_target_options={"max_sessions": 64}, **secrets).changed >= 1
    assert ask(place, "iscsi_get_options")["max_sessions"] == 64
    assert place.play(iscsi_target_options={"max_sessions": 64}, **secrets).changed == 0
    assert {method: ask(place, method) for method in live} == live

    place.play(iscsi_target_state="absent")
    assert [path.name for path in (place.home / "spdk/state").iterdir()] == ["config.json"]
    place.play(iscsi_target_state="absent", iscsi_target_purge=True)
    assert not place.home.exists()
    assert place.disk.exists()
    assert (place.directory / "opt/build/bin/iscsi_tgt").exists()
    assert place.play(iscsi_target_state="absent", iscsi_target_purge=True).changed == 0


def test_the_purge_shows_what_would_go_and_takes_it(place: Place) -> None:
    place.play()
    shown = place.play("--check", book="openlun.iscsi.purge")
    assert "delete target node iqn.2016-06.io.spdk:disk0" in shown.output
    assert f"keep file {place.disk}, disk0" in shown.output
    assert "stop engine" in shown.output
    assert pid_of(place)
    place.play(book="openlun.iscsi.purge", iscsi_target_purge_confirmed=True, iscsi_target_remove_files=True)
    assert not place.home.exists()
    assert not place.disk.exists()


def test_a_disk_that_is_missing_at_the_start_does_not_keep_the_others_from_serving(place: Place) -> None:
    second = place.disk.with_name("disk1.img")
    bdevs = [*place.variables["iscsi_target_bdevs"]]
    bdevs.append({"name": "disk1", "type": "aio", "path": str(second), "size": "8MiB"})
    place.play(iscsi_target_bdevs=bdevs)
    before = (place.home / "spdk/state/config.json").read_text()
    os.kill(pid_of(place), signal.SIGKILL)
    second.rename(second.with_suffix(".away"))
    place.play("--tags", "iscsi_target_run", iscsi_target_bdevs=bdevs)
    assert [bdev["name"] for bdev in ask(place, "bdev_get_bdevs")] == ["disk0"]
    assert len(ask(place, "iscsi_get_target_nodes")) == 1
    assert (place.home / "spdk/state/config.json").read_text() == before


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"iscsi_target_spdk_prefix": "/no/such/place"}, "prefix /no/such/place: no iscsi_tgt in its bin, build/bin"),
        ({"iscsi_target_manager": "systemd"}, "systemd is not the init of this host. Set manager to process."),
        ({"iscsi_target_spdk_memory": 0}, "SPDK without hugepages has to be told how many MiB it may take"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_next_step(place: Place, variables: dict[str, Any], says: str) -> None:
    if "iscsi_target_manager" in variables and Path("/run/systemd/system").exists():
        pytest.skip("systemd is the init of this host")
    assert says in place.play(fails=True, **variables).output
    assert not (place.home / "spdk" / "engine.pid").exists()


def test_a_damaged_configuration_is_left_for_people_to_look_at(place: Place) -> None:
    place.play("--tags", "iscsi_target_install")
    saved = place.home / "spdk/state/config.json"
    saved.write_text('{"subsystems": [')
    refused = place.play(fails=True)
    assert f"configuration {saved}: not one that SPDK can load. It was left untouched" in refused.output
    assert saved.read_text() == '{"subsystems": ['
    saved.write_text(json.dumps({"subsystems": []}))
    place.play()
