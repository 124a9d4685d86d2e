# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module as a process of its own, started as Ansible starts it on a host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

COLLECTIONS = Path(__file__).resolve().parents[1] / "build" / "collections"
MODULES = "ansible_collections.openlun.iscsi.plugins.modules"


def run_module(module: str, /, *, check: bool = False, fails: bool = False, **options: Any) -> dict[str, Any]:
    """The module's result; AssertionError with it when the module fails and should not, or the other way round."""
    arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
    ended = subprocess.run(
        [sys.executable, "-m", f"{MODULES}.{module}"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stderr == ""
    result: dict[str, Any] = json.loads(ended.stdout)
    assert bool(result.get("failed")) == bool(ended.returncode) == fails, result
    return result
