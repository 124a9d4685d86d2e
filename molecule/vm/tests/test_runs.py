# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run says it would do, does, and finds done."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def runs() -> dict[str, list[dict[str, Any]]]:
    """What the tasks of the first three runs told: check mode on the bare host, the run, and the run after it."""
    files = sorted(Path(os.environ["VM_RECORDS"]).iterdir())
    told = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    assert [file.name for file in files][:3] == ["0-check", "1-apply", "2-apply"]
    return dict(zip(("check", "apply", "again"), told))


def _changed(run: list[dict[str, Any]]) -> list[str]:
    return [said["task"] for said in run if said["changed"]]


def _steps(run: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What was done to which object, in order.

    In check mode a task that starts what an earlier one would have installed says both: each step counts once.
    """
    return list(dict.fromkeys((step["action"], step["object"]) for said in run for step in said.get("actions", ())))


def test_check_mode_predicts_the_run(runs: dict[str, list[dict[str, Any]]]) -> None:
    assert _changed(runs["apply"])
    assert _changed(runs["check"]) == _changed(runs["apply"])
    assert _steps(runs["check"]) == _steps(runs["apply"])


def test_a_second_run_changes_nothing(runs: dict[str, list[dict[str, Any]]]) -> None:
    assert not [said for said in runs["again"] if said["changed"] or said.get("actions")]
