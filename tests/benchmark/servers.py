# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The targets of the comparison, each serving the same files, from one core unless its name says otherwise."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import spdk_stand_in
from benchmark.disks import DISKS, Disks
from benchmark.processes import family, send
from engine_process import Engine, run, serve_command
from spdk_process import SpdkEngine
from tgt_process import Tgtd

SPIN: Final = 50
"""Microseconds that the spinning engine looks for more work before it sleeps."""
BURST: Final = "262144"
_HUGEPAGES: Final = 512
"""Of 2 MiB: what SPDK gets, if the host has them."""


class LeftOut(Exception):
    """Why a target, or a row, cannot be measured here."""


class Setting(NamedTuple):
    """``core`` is the servers', ``client_core`` that of the clients. ``python`` has the libraries for digests."""

    archive: Path
    disks: Disks
    core: int
    client_core: int
    python: Path
    spdk: Path | None


class Server(Protocol):
    version: str
    spread: tuple[str, ...]
    """The disks over which many sessions are spread."""
    everywhere: bool
    """It works on the clients' core as well."""

    def pid(self) -> int: ...

    def url(self, disk: str) -> str:
        """Of a disk, which is served from the first time on that somebody asks."""

    def stop(self) -> None: ...


class EngineServer:
    """What is steered by SPDK's RPC: the engine of this collection, or SPDK's."""

    spread: tuple[str, ...] = ("memory",)
    everywhere = False

    def __init__(self, engine: Engine, disks: Disks) -> None:
        self.engine = engine
        self._disks = disks
        self._urls: dict[str, str] = {}
        try:
            engine.start()
            self.version = engine.rpc("spdk_get_version")["version"]
            engine.initiator_group()
            self._port = engine.portal_group()
        except BaseException:
            engine.remove()
            raise

    def pid(self) -> int:
        return self.engine.process.pid if self.engine.process else 0

    def url(self, disk: str) -> str:
        if disk not in self._urls:
            options: dict[str, Any] = {"direct": True} if DISKS[disk].direct else {}
            bdev = self.engine.aio(bdev_name(disk), self._disks.path(disk), block_size=512, **options)
            node = self.engine.node(f"bench{len(self._urls)}", bdev)
            self._urls[disk] = f"iscsi://127.0.0.1:{self._port}/{node}/0"
        return self._urls[disk]

    def limit(self, disk: str, **limits: int) -> None:
        """What ``bdev_set_qos_limit`` takes."""
        self.engine.rpc("bdev_set_qos_limit", name=bdev_name(disk), **limits)

    def stop(self) -> None:
        send(self.pid(), signal.SIGCONT)
        self.engine.remove()


def bdev_name(disk: str) -> str:
    return disk.title().replace(" ", "")


class TgtServer:
    """Debian's tgtd. ``parameters`` are what it negotiates otherwise than by itself."""

    spread: tuple[str, ...] = ("memory",)
    everywhere = False

    def __init__(self, disks: Disks, core: int, **parameters: str) -> None:
        self.version = run("tgtd", "--version").stdout.strip()
        self._disks = disks
        self._luns: dict[str, int] = {}
        self._tgtd = Tgtd(core=core)
        try:
            for name, value in parameters.items():
                self._tgtd.set_parameter(name, value)
        except BaseException:
            self.stop()
            raise

    def pid(self) -> int:
        return self._tgtd.process.pid

    def url(self, disk: str) -> str:
        if disk not in self._luns:
            number = len(self._luns) + 1
            self._tgtd.add_lun(self._disks.path(disk), number=number, direct=DISKS[disk].direct)
            self._luns[disk] = number
        return self._tgtd.url(self._luns[disk])

    def stop(self) -> None:
        self._tgtd.stop()


def _plain(setting: Setting) -> Server:
    return EngineServer(Engine(setting.archive, "-m", hex(1 << setting.core)), setting.disks)


def _spinning(setting: Setting) -> Server:
    if "--spin" not in run(*serve_command(setting.archive, "--help")).stdout:
        raise LeftOut("this engine has no --spin")
    options = ("-m", hex(1 << setting.core), "--spin", str(SPIN))
    return EngineServer(Engine(setting.archive, *options), setting.disks)


def _with_library(setting: Setting) -> Server:
    """With one of the libraries for CRC32C that the engine knows."""
    looks = "import crc32c, google_crc32c, sys; sys.exit(google_crc32c.implementation != 'c')"
    if not setting.python.exists() or run(setting.python, "-c", looks, check=False).returncode:
        raise LeftOut("no crc32c and google-crc32c with compiled code: see build/bench/venv.log")
    engine = Engine(setting.archive, "-m", hex(1 << setting.core), python=setting.python)
    return EngineServer(engine, setting.disks)


def _on_two_cores(setting: Setting) -> Server:
    server = EngineServer(
        Engine(setting.archive, "-m", hex(1 << setting.core | 1 << setting.client_core)), setting.disks
    )
    server.everywhere = True
    server.spread = ("memory", "more memory")
    for disk in server.spread:
        server.url(disk)
    if family(server.pid()) == [server.pid()]:
        server.stop()
        raise LeftOut("this engine starts no worker for a second core")
    return server


def _tgtd(setting: Setting) -> Server:
    return TgtServer(setting.disks, setting.core)


def _tuned_tgtd(setting: Setting) -> Server:
    burst = {"MaxRecvDataSegmentLength": BURST, "FirstBurstLength": BURST, "InitialR2T": "No"}
    return TgtServer(setting.disks, setting.core, **burst)


def _spdk(setting: Setting) -> Server:
    if setting.spdk is None:
        raise LeftOut("no SPDK was named")
    resources = ("-m", hex(1 << setting.core), "-s", "1024", "--no-pci", *(() if _has_hugepages() else ("--no-huge",)))
    return EngineServer(SpdkEngine(setting.spdk, resources=resources), setting.disks)


def _has_hugepages() -> bool:
    free = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    return free.exists() and int(free.read_text()) >= _HUGEPAGES


STARTS: Final[dict[str, Callable[[Setting], Server]]] = {
    "openlun": _plain,
    "openlun spin": _spinning,
    "openlun crc32c": _with_library,
    "openlun 2 cores": _on_two_cores,
    "tgtd": _tgtd,
    "tgtd tuned": _tuned_tgtd,
    "spdk": _spdk,
}
"""How each target is started; LeftOut when it cannot be."""


def spdk_program(named: str, build: Path) -> Path | None:
    """SPDK's target as ``SPDK=`` names it; LeftOut when it is no program."""
    if not named:
        return None
    program = spdk_stand_in.install(build / "spdk-stand-in") if named == "stand-in" else Path(named).resolve()
    if not program.is_file() or not os.access(program, os.X_OK):
        raise LeftOut(f"SPDK={named} is no program; name the iscsi_tgt of a built SPDK")
    return program


def python_version() -> str:
    return sys.version.split()[0]
