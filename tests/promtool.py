# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus' own judgement of metrics."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from engine_process import DEADLINE

ROOT = Path(__file__).resolve().parents[1]


def check_with_promtool(text: str) -> None:
    found = shutil.which("promtool", path=f"{ROOT}/build/cache/prometheus/usr/bin:{os.environ['PATH']}")
    if found is None:
        pytest.skip("promtool is not here: scripts/promtool.sh gets it")
    done = subprocess.run(
        [found, "check", "metrics"], input=text, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
