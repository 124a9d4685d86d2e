# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that an engine takes at its start: compared with a running one, saved for the next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._service.errors import ServiceError
from ansible_collections.openlun.iscsi.plugins.module_utils._service.options import StartOptions

SAVED: dict[str, Any] = {
    "subsystems": [
        {"subsystem": "bdev", "config": [{"method": "bdev_aio_create", "params": {"name": "d", "filename": "/d"}}]},
        {"subsystem": "scsi", "config": None},
        {
            "subsystem": "iscsi",
            "config": [
                {"method": "iscsi_set_options", "params": {"max_queue_depth": 64, "chap_group": 1}},
                {"method": "iscsi_create_auth_group", "params": {"tag": 1, "secrets": [{"user": "u", "secret": "s"}]}},
            ],
        },
    ]
}


def options(directory: Path, live: dict[str, Any] | None = None, **wanted: Any) -> StartOptions:
    return StartOptions(wanted, str(directory), None, lambda: live)


def save(each: StartOptions) -> list[str]:
    steps = list(each.saving())
    for step in steps:
        step.do()
    return [step.why for step in steps]


def test_the_rest_of_the_saved_configuration_stays(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(SAVED))
    wanted = options(tmp_path, max_queue_depth=128, immediate_data=False)
    assert save(wanted) == ["max_queue_depth is to be 128, immediate_data is to be no"]
    saved = json.loads(file.read_text())
    call = saved["subsystems"][2]["config"].pop(0)
    assert call["params"] == {"max_queue_depth": 128, "chap_group": 1, "immediate_data": False}
    assert saved["subsystems"][2]["config"] == SAVED["subsystems"][2]["config"][1:]
    assert saved["subsystems"][:2] == SAVED["subsystems"][:2]
    assert file.stat().st_mode & 0o777 == 0o600
    assert save(wanted) == []


@pytest.mark.parametrize(
    "found", ['{"subsystems": []}', '{"subsystems": [{"subsystem": "iscsi", "config": null}]}', None]
)
def test_a_call_that_is_not_there_is_added(tmp_path: Path, found: str | None) -> None:
    state = tmp_path / "state"
    if found is not None:
        state.mkdir()
        (state / "config.json").write_text(found)
    assert len(save(options(state, max_sessions=9))) == 1
    assert state.stat().st_mode & 0o077 == 0 or found is not None
    saved = json.loads((state / "config.json").read_text())
    calls = [{"method": "iscsi_set_options", "params": {"max_sessions": 9}}]
    assert saved == {"subsystems": [{"subsystem": "iscsi", "config": calls}]}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"subsystems": 1}'])
def test_a_damaged_configuration_is_left_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(ServiceError, match=r"not a configuration\. It was left untouched"):
        save(options(tmp_path, max_sessions=9))
    assert file.read_text() == text


def test_only_what_is_wanted_is_compared_with_a_running_engine(tmp_path: Path) -> None:
    live = {"max_sessions": 128, "max_queue_depth": 64, "immediate_data": True}
    assert options(tmp_path, live).outdated() == ""
    assert options(tmp_path, live, max_queue_depth=64).outdated() == ""
    said = options(tmp_path, live, max_queue_depth=128, immediate_data=False).outdated()
    assert said == "its target options changed: max_queue_depth 64 → 128, immediate_data yes → no"


def test_nothing_wanted_reads_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("damaged")
    assert save(options(tmp_path)) == []
    assert options(tmp_path).shown(running=False) == {}
