# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""target_config with persist: the file it leaves starts another engine with the same configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engine_process import Engine, Launch, free_port
from module_process import run_module

SHOWN = ("bdevs", "auth_groups", "portal_groups", "initiator_groups", "target_nodes")


def target_config(engine: Engine, **options: Any) -> dict[str, Any]:
    return run_module("target_config", socket=str(engine.socket), **options)


@pytest.fixture
def declared(tmp_path: Path) -> dict[str, Any]:
    return {
        "bdevs": [{"name": "Malloc0", "type": "malloc", "size": "8MiB"}],
        "auth_groups": [{"tag": 1, "secrets": [{"user": "u1", "secret": "not-to-be-seen"}]}],
        "portal_groups": [{"tag": 1, "portals": [f"127.0.0.1:{free_port()}"]}],
        "initiator_groups": [{"tag": 2, "initiators": ["ANY"], "netmasks": ["127.0.0.0/8"]}],
        "target_nodes": [
            {"name": "m", "luns": [{"id": 0, "bdev": "Malloc0"}], "maps": [{"portal_group": 1, "initiator_group": 2}]}
        ],
        "persist": str(tmp_path / "saved.json"),
    }


def test_the_saved_file_makes_the_same_target_again(launch: Launch, declared: dict[str, Any], tmp_path: Path) -> None:
    engine = launch()
    first = target_config(engine, **declared)
    assert first["actions"][-1]["action"] == "save"
    assert (tmp_path / "saved.json").stat().st_mode & 0o777 == 0o600
    engine.stop()
    other = launch("-c", tmp_path / "saved.json")
    again = target_config(other, **declared)
    assert not again["changed"]
    assert {name: again[name] for name in SHOWN} == {name: first[name] for name in SHOWN}


def test_check_mode_foretells_the_file_and_does_not_write_it(
    engine: Engine, declared: dict[str, Any], tmp_path: Path
) -> None:
    assert target_config(engine, check=True, **declared)["actions"][-1]["action"] == "save"
    assert not (tmp_path / "saved.json").exists()


def test_a_lost_file_is_written_again_and_nothing_else_is_done(
    engine: Engine, declared: dict[str, Any], tmp_path: Path
) -> None:
    target_config(engine, **declared)
    (tmp_path / "saved.json").unlink()
    again = target_config(engine, **declared)
    assert [each["action"] for each in again["actions"]] == ["save"]
    assert (tmp_path / "saved.json").exists()


def test_a_file_that_cannot_be_written_is_one_sentence_and_the_changes_are_live(
    engine: Engine, declared: dict[str, Any], tmp_path: Path
) -> None:
    result = target_config(engine, **{**declared, "persist": str(tmp_path / "nowhere" / "saved.json")}, fails=True)
    assert "saved.json" in result["msg"]
    assert "live but not saved" in result["msg"]
    assert [bdev["name"] for bdev in engine.rpc("bdev_get_bdevs")] == ["Malloc0"]
