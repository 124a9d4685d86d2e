# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running target engine for tests: started from its archive in its own directory, spoken to over its RPC socket."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from pdu.initiator import Initiator

T = TypeVar("T")

DEADLINE = 20.0
"""Seconds before something awaited counts as never coming."""

NODE_BASE = "iqn.2016-06.io.spdk"


def eventually(condition: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """The first true value of ``condition``, asked every 10 ms; AssertionError naming ``what`` after the deadline."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline} s for {what}")
        time.sleep(0.01)


_GIVEN: Final[set[int]] = set()
"""Ports that free_port gave: who asks twice before using one gets two."""


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nothing uses right now, and that nobody in this process was given."""
    while True:
        with socket.create_server((host, 0)) as server:
            port: int = server.getsockname()[1]
        if port not in _GIVEN:
            _GIVEN.add(port)
            return port


def run(*command: str | Path, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a client; when it fails, its own words are the failure."""
    words = [str(word) for word in command]
    result = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=timeout, check=False)
    if check and result.returncode:
        raise AssertionError(f"{' '.join(words)} exited {result.returncode}:\n{result.stdout}{result.stderr}")
    return result


def serve_command(archive: Path, *arguments: str | Path, python: Path | None = None) -> list[str]:
    interpreter = python or os.environ.get("OPENLUN_ENGINE_PYTHON", sys.executable)
    return [str(word) for word in (interpreter, archive, "serve", *arguments)]


def refused_start(archive: Path, *arguments: str | Path) -> str:
    """The sentence that a start which must fail leaves behind."""
    result = run(*serve_command(archive, *arguments), check=False)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("openlun-iscsi: ")]
    return sentence


def on_cores(count: int) -> tuple[str, ...]:
    """The arguments for an engine on the first so many of our cores; none for one."""
    cores = sorted(os.sched_getaffinity(0))[:count]
    return ("-m", f"[{','.join(map(str, cores))}]") if count > 1 else ()


class RpcError(Exception):
    """An error answer: SPDK's code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def die_with_parent() -> None:
    """For preexec_fn: an interrupted run leaves no server behind (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Engine:
    """An engine process. ``arguments`` come after ``serve -r SOCKET``; OPENLUN_CORES=2 in the environment adds -m."""

    def __init__(self, archive: Path, *arguments: str | Path, state: bool = False, python: Path | None = None) -> None:
        self.archive = archive
        self.python = python
        self.directory = Path(tempfile.mkdtemp(prefix="openlun-"))  # short: socket paths end at 107 bytes
        self.socket = self.directory / "rpc.sock"
        self.state_dir = self.directory / "state"
        self.log = self.directory / "engine.log"
        mask = () if "-m" in arguments else on_cores(int(os.environ.get("OPENLUN_CORES", "1")))
        self.arguments = [*(("--state-dir", self.state_dir) if state else ()), *mask, *arguments]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Engine:
        """Start and wait until the RPC answers; AssertionError with the log when it never does."""
        self.spawn()
        eventually(self._answers, f"the engine's RPC; its log says:\n{self.words()}")
        return self

    def spawn(self) -> subprocess.Popen[bytes]:
        command = serve_command(self.archive, "-r", self.socket, *self.arguments, python=self.python)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        return self.process

    def _answers(self) -> bool:
        if not self.alive():
            raise AssertionError(f"the engine ended at start:\n{self.words()}")
        try:
            return bool(self.rpc("spdk_get_version"))
        except OSError:
            return False

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def words(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit status, which is negative when a signal ended it."""
        if self.process is None:
            raise AssertionError("the engine was never started")
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def stop(self) -> None:
        if self.alive():
            try:
                self.end(signal.SIGTERM)
            except subprocess.TimeoutExpired:
                self.end(signal.SIGKILL)
                raise

    def restart(self, how: signal.Signals = signal.SIGTERM) -> Engine:
        self.end(how)
        return self.start()

    def remove(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.directory)

    def exchange(self, request: bytes) -> bytes:
        """What the engine answers to raw bytes, up to the end of the line or of the connection."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(DEADLINE)
            connection.connect(str(self.socket))
            connection.sendall(request)
            with connection.makefile("rb") as stream:
                return stream.readline()

    def rpc(self, method: str, **params: Any) -> Any:
        """Call a method; raises RpcError for an error answer and OSError when nobody listens."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, **({"params": params} if params else {})}
        answer = json.loads(self.exchange(json.dumps(request).encode()) or b"{}")
        if "error" in answer:
            raise RpcError(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    def spdk_rpc(self, *words: str | Path) -> Any:
        """What SPDK's own client prints, as JSON; None when it prints nothing."""
        text = run(Path(sys.executable).with_name("spdk-rpc"), "-s", self.socket, *words).stdout
        return json.loads(text) if text.strip() else None

    # -- what most tests need

    def portal_group(self, tag: int = 1, host: str = "127.0.0.1") -> int:
        """Create a portal group with one portal on a free port and return the port."""
        port = free_port(host.strip("[]"))
        self.rpc("iscsi_create_portal_group", tag=tag, portals=[{"host": host, "port": str(port)}])
        return port

    def initiator_group(self, tag: int = 2) -> None:
        self.rpc("iscsi_create_initiator_group", tag=tag, initiators=["ANY"], netmasks=["127.0.0.0/8"])

    def malloc(self, name: str, mebibytes: int = 64, block_size: int = 512) -> str:
        self.rpc("bdev_malloc_create", name=name, num_blocks=mebibytes * 2**20 // block_size, block_size=block_size)
        return name

    def aio(self, name: str, path: Path, **options: Any) -> str:
        self.rpc("bdev_aio_create", name=name, filename=str(path), **options)
        return name

    def node(self, name: str, *bdevs: str) -> str:
        """Create a target node in portal group 1 for initiator group 2, LUNs numbered from 0; returns its full name."""
        luns = [{"lun_id": number, "bdev_name": bdev} for number, bdev in enumerate(bdevs)]
        maps = [{"pg_tag": 1, "ig_tag": 2}]
        self.rpc(
            "iscsi_create_target_node",
            name=name,
            alias_name=f"{name} alias",
            pg_ig_maps=maps,
            luns=luns,
            queue_depth=64,
            disable_chap=True,
        )
        return f"{NODE_BASE}:{name}"


class Launch(Protocol):
    """Start an engine that ends with the test; ``archive`` instead of what was unpacked from it."""

    def __call__(self, *arguments: str | Path, state: bool = False, archive: Path | None = None) -> Engine: ...


class Target(NamedTuple):
    """A target node to talk to."""

    engine: Engine
    port: int
    name: str

    @property
    def portal(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, lun: int = 0) -> str:
        return f"iscsi://{self.portal}/{self.name}/{lun}"

    def connect(self, **options: Any) -> Initiator:
        return Initiator(("127.0.0.1", self.port), **options)

    def login(self, **keys: str) -> Initiator:
        """A connection with a normal session on this node."""
        return self.connect().login(self.name, **keys)
