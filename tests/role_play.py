# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays on this host, each test with a home of its own for the engine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from engine_process import free_port

ROOT = Path(__file__).resolve().parents[1]
ANSIBLE_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
SECRET, MSECRET = "not-for-your-eyes", "nor-for-theirs"


class Played(NamedTuple):
    """What a play printed, and the counters of its recap by host."""

    output: str
    recap: dict[str, dict[str, int]]

    @property
    def changed(self) -> int:
        return sum(counters["changed"] for counters in self.recap.values())


class Place:
    """A directory with an engine's home, a disk and the variables that declare both."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="openlun-"))  # short: socket paths end at 107 bytes
        self.home = self.directory / "home"
        self.disk = self.directory / "disks" / "disk0.img"
        self.portal = f"127.0.0.1:{free_port()}"
        self.variables: dict[str, Any] = {
            "ansible_python_interpreter": sys.executable,
            "iscsi_target_hosts": "all",
            "iscsi_target_home": str(self.home),
            "iscsi_target_manager": "process",
            "iscsi_target_bdevs": [{"name": "disk0", "type": "aio", "path": str(self.disk), "size": "8MiB"}],
            "iscsi_target_portal_groups": [{"tag": 1, "portals": [self.portal]}],
            "iscsi_target_initiator_groups": [{"tag": 2, "initiators": ["ANY"], "netmasks": ["127.0.0.0/8"]}],
            "iscsi_target_nodes": [
                {"name": "disk0", "luns": [{"bdev": "disk0"}], "maps": [{"portal_group": 1, "initiator_group": 2}]}
            ],
        }

    def play(
        self,
        *flags: str,
        book: str = "openlun.iscsi.target",
        hosts: str = "here",
        fails: bool = False,
        **variables: Any,
    ) -> Played:
        """Run a playbook. ``hosts``, separated by commas, are all this machine."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHONPATH"))},
            "ANSIBLE_HOME": str(self.directory / "ansible"),
            "ANSIBLE_LOCAL_TEMP": str(self.directory / "local"),
            "ANSIBLE_REMOTE_TMP": str(self.directory / "remote"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build" / "collections"),
            "ANSIBLE_GATHERING": "explicit",
        }
        given = json.dumps({**self.variables, **variables})
        command = [str(ANSIBLE_PLAYBOOK), "-i", f"{hosts},", "-c", "local", "-e", given]
        done = subprocess.run(
            [*command, *flags, book],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        output = done.stdout + done.stderr
        assert bool(done.returncode) == fails, output
        counters = re.findall(r"^(\S+)\s+: (ok=.*)$", done.stdout, re.MULTILINE)
        return Played(
            output,
            {host: {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", text)} for host, text in counters},
        )

    def remove(self) -> None:
        for file in self.home.rglob("engine.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(file.read_text().split()[0]), signal.SIGKILL)
        shutil.rmtree(self.directory)
