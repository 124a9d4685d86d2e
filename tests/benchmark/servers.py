# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two targets of the comparison, each serving the same file from one core."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Protocol

from engine_process import Engine, run
from tgt_process import Tgtd


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
    """Debian's tgtd."""

    name = "tgtd"

    def __init__(self, image: Path, core: int) -> None:
        self.version = run("tgtd", "--version").stdout.strip()
        self._tgtd = Tgtd(core=core)
        try:
            self._tgtd.add_lun(image)
        except BaseException:
            self.stop()
            raise
        (self.url,) = self._tgtd.urls

    def pid(self) -> int:
        return self._tgtd.process.pid

    def stop(self) -> None:
        self._tgtd.stop()
