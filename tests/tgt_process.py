# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's tgtd, the target that others are compared with: a process with ports and a control channel of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from engine_process import die_with_parent, eventually, free_port, run

NODE = "iqn.2026-01.test.openlun:tgt"


class Tgtd:
    """tgtd with one target node that lets everybody in; ``core`` is the only processor it may use."""

    def __init__(self, portals: int = 1, core: int | None = None) -> None:
        self.ports = [free_port() for _each in range(portals)]
        self.control = str(self.ports[0] % 30000 + 1000)
        self.directory = Path(tempfile.mkdtemp(prefix="openlun-tgt-"))

        def prepare() -> None:
            die_with_parent()
            if core is not None:
                os.sched_setaffinity(0, {core})

        first, *others = (f"portal=127.0.0.1:{port}" for port in self.ports)
        with (self.directory / "log").open("w") as log:
            self.process = subprocess.Popen(
                ["tgtd", "-f", "-C", self.control, "--iscsi", first],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                preexec_fn=prepare,
            )
        try:
            eventually(lambda: self._admin("show", "system", check=False) == 0, "tgtd")
            for portal in others:
                self._admin("new", "portal", "--param", portal)
            self._admin("new", "target", "--tid", "1", "--targetname", NODE)
            self._admin("bind", "target", "--tid", "1", "--initiator-address", "ALL")
        except BaseException:
            self.stop()
            raise

    def _admin(self, operation: str, mode: str, *options: str, check: bool = True) -> int:
        command = ["tgtadm", "-C", self.control, "--lld", "iscsi", "--op", operation, "--mode", mode, *options]
        return run(*command, check=check).returncode

    def set_parameter(self, name: str, value: str) -> None:
        """What the target negotiates in later logins, such as ``InitialR2T``."""
        self._admin("update", "target", "--tid", "1", "--name", name, "--value", value)

    def add_lun(
        self, image: Path, block_size: int = 512, parameters: str = "", number: int = 1, direct: bool = False
    ) -> None:
        """Show a file as a LUN; ``parameters`` are tgtadm's, such as ``readonly=1``."""
        lun = ("--tid", "1", "--lun", str(number))
        flags = ("--bstype", "rdwr", "--bsoflags", "direct") if direct else ()
        self._admin("new", "logicalunit", *lun, "--backing-store", str(image), "--blocksize", str(block_size), *flags)
        if parameters:
            self._admin("update", "logicalunit", *lun, "--params", parameters)

    @property
    def urls(self) -> list[str]:
        """Of LUN 1, by each portal."""
        return [f"iscsi://127.0.0.1:{port}/{NODE}/1" for port in self.ports]

    def url(self, number: int) -> str:
        """Of a LUN, by the first portal."""
        return f"iscsi://127.0.0.1:{self.ports[0]}/{NODE}/{number}"

    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        """tgtd ignores SIGTERM while it has targets, and there is nothing in it to save."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory)
        for left in Path("/var/run/tgtd").glob(f"socket.{self.control}*"):
            left.unlink()
