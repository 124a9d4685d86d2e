# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The quickstart as a newcomer meets it: up, again, down, and what goes wrong. Works in this checkout's build/."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._service.procfs import start_time
from engine_process import eventually, free_port, run

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "quickstart"
TARGETS = {"iqn.2016-06.io.spdk:malloc0", "iqn.2016-06.io.spdk:disk0"}


class Quickstart:
    """The two scripts, with a portal that nothing else uses."""

    def __init__(self) -> None:
        self.portal = f"127.0.0.1:{free_port()}"

    def _run(self, script: str, path: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PORTAL": self.portal, "PATH": path + os.environ["PATH"]}
        command = ["bash", str(ROOT / "scripts" / script)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def up(self, path: str = "") -> subprocess.CompletedProcess[str]:
        return self._run("quickstart.sh", path)

    def down(self) -> subprocess.CompletedProcess[str]:
        return self._run("quickstart-down.sh")

    @property
    def pid(self) -> int:
        return int((HOME / "engine.pid").read_text().split()[0])


@pytest.fixture
def quickstart() -> Iterator[Quickstart]:
    if HOME.exists():
        pytest.skip("a quickstart is up in this checkout; make quickstart-down first")
    quickstart = Quickstart()
    yield quickstart
    quickstart.down()


def recap(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """The counters of the last line that Ansible prints."""
    last = done.stdout.strip().splitlines()[-1]
    return dict(re.findall(r"(\w+)=(\d+)", last))


def test_up_again_killed_and_down(quickstart: Quickstart) -> None:
    up = quickstart.up()
    assert up.returncode == 0, up.stdout + up.stderr
    table = {line.split()[0]: line.split()[1:4] for line in up.stdout.splitlines() if line.lstrip().startswith("iqn.")}
    assert table == {
        "iqn.2016-06.io.spdk:malloc0": ["0", "64", "MiB"],
        "iqn.2016-06.io.spdk:disk0": ["0", "256", "MiB"],
    }
    listed = run("iscsi-ls", "-s", f"iscsi://{quickstart.portal}").stdout
    assert set(re.findall(r"Target:(\S+)", listed)) == TARGETS

    again = quickstart.up()
    assert again.returncode == 0
    assert (recap(again)["changed"], recap(again)["failed"]) == ("0", "0")

    pid = quickstart.pid
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: start_time(pid) is None, "the end of the engine")
    assert quickstart.up().returncode == 0

    pid = quickstart.pid
    assert quickstart.down().returncode == 0
    assert start_time(pid) is None
    assert not HOME.exists()
    assert quickstart.down().stdout == "There is no quickstart to take away.\n"


def test_a_busy_port_is_one_sentence_with_a_way_out(quickstart: Quickstart) -> None:
    host, port = quickstart.portal.split(":")
    with socket.create_server((host, int(port))):
        busy = quickstart.up()
    assert busy.returncode != 0
    assert (
        busy.stderr.strip()
        .splitlines()[-1]
        .startswith(f"make quickstart: portal {quickstart.portal}: the port is taken by process {os.getpid()} of ")
    )
    assert "make quickstart PORTAL=127.0.0.1:3261" in busy.stderr
    assert not (HOME / "engine.pid").exists()


def test_a_full_disk_is_one_sentence_before_anything_is_made(quickstart: Quickstart, tmp_path: Path) -> None:
    df = tmp_path / "df"
    df.write_text("#!/bin/sh\necho head\necho tmpfs 2048 1024 1024 50% /\n")
    df.chmod(0o755)
    full = quickstart.up(f"{tmp_path}:")
    assert full.returncode != 0
    assert re.fullmatch(rf"{ROOT}/build needs \d+ MiB, and its file system has 1 MiB free\. .*\n", full.stderr)
    assert not HOME.exists()
