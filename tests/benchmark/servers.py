# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two targets of the comparison, each serving the same file from one core."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Protocol

from engine_process import Engine, die_with_parent, eventually, free_port, run

TGT_NODE = "iqn.2026-01.test.openlun:tgt"


class Server(Protocol):
    name: str
    version: str
    url: str

    def pid(self) -> int: ...

    def stop(self) -> None: ...


class OpenlunServer:
    """The engine of this collection, from its archive."""

    name = "openlun"

    def __init__(self, archive: Path, image: Path, core: int) -> None:
        self.engine = Engine(archive, "-m", hex(1 << core))
        try:
            self.engine.start()
            self.version = self.engine.rpc("engine_get_info")["version"] + f", Python {sys.version.split()[0]}"
            self.engine.initiator_group()
            port = self.engine.portal_group()
            node = self.engine.node("bench", self.engine.aio("Bench0", image, block_size=512))
        except BaseException:
            self.engine.remove()
            raise
        self.url = f"iscsi://127.0.0.1:{port}/{node}/0"

    def pid(self) -> int:
        return self.engine.process.pid if self.engine.process else 0

    def stop(self) -> None:
        self.engine.remove()


class TgtServer:
    """Debian's tgtd, on a port and a control channel of its own."""

    name = "tgtd"

    def __init__(self, image: Path, core: int) -> None:
        port = free_port()
        self.control = str(port % 30000 + 1000)
        self.directory = Path(tempfile.mkdtemp(prefix="openlun-tgt-"))
        self.version = run("tgtd", "--version").stdout.strip()

        def prepare() -> None:
            die_with_parent()
            os.sched_setaffinity(0, {core})

        self.process = subprocess.Popen(
            ["tgtd", "-f", "-C", self.control, "--iscsi", f"portal=127.0.0.1:{port}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.directory / "log").open("w"),
            preexec_fn=prepare,
        )
        try:
            eventually(lambda: self._admin("show", "system", check=False) == 0, "tgtd")
            self._admin("new", "target", "--tid", "1", "--targetname", TGT_NODE)
            self._admin("new", "logicalunit", "--tid", "1", "--lun", "1", "--backing-store", str(image))
            self._admin("bind", "target", "--tid", "1", "--initiator-address", "ALL")
        except BaseException:
            self.stop()
            raise
        self.url = f"iscsi://127.0.0.1:{port}/{TGT_NODE}/1"

    def _admin(self, operation: str, mode: str, *options: str, check: bool = True) -> int:
        command = ["tgtadm", "-C", self.control, "--lld", "iscsi", "--op", operation, "--mode", mode, *options]
        return run(*command, check=check).returncode

    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        """tgtd ignores SIGTERM while it has targets, and there is nothing in it to save."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory)
        for left in Path("/var/run/tgtd").glob(f"socket.{self.control}*"):
            left.unlink()
