# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the engine's time goes in a 4K READ at queue depth 32: user and system time, and by function.

The first is measured without a profiler. The second with cProfile, which makes functions of Python look dearer than
they are beside calls into the kernel; so compare functions with each other. Writes build/bench/profile.md.
"""

from __future__ import annotations

import pstats
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from benchmark.clients import Clients, Load, compile_light
from benchmark.disks import Disks
from benchmark.processes import processor_times
from benchmark.servers import EngineServer
from engine_process import Engine, die_with_parent

ROOT: Final = Path(__file__).resolve().parents[2]
SECONDS: Final = 3.0
SHOWN: Final = 14
"""Functions in the table."""
OFTEN: Final = 0.01
"""Calls an operation; less is no part of the work. A wake-up is for some thirty operations."""
LOADS: Final = (Load(4096, 32), Load(4096, 32, writes=True))

_PROGRAM: Final = """\
import cProfile, sys
archive, result, *words = sys.argv[1:]
sys.path.insert(0, archive)
from openlun_iscsi_engine.main import main
profile = cProfile.Profile()
status = profile.runcall(main, words)
profile.dump_stats(result)
sys.exit(status)
"""


class ProfiledEngine(Engine):
    """Leaves its statistics in ``result`` when it has stopped."""

    def __init__(self, archive: Path, result: Path, *arguments: str) -> None:
        super().__init__(archive, *arguments)
        self._result = result

    def spawn(self) -> subprocess.Popen[bytes]:
        words = [self.archive, self._result, "serve", "-r", self.socket, *self.arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        return self.process


class Share(NamedTuple):
    """``calls`` and ``microseconds`` an operation."""

    function: str
    calls: float
    microseconds: float


def shares(stats: pstats.Stats, operations: float) -> list[Share]:
    """What functions cost themselves, without what they call; waiting for work and starting are left out."""
    rows = [
        Share(_name(*place), numbers[0] / operations, numbers[2] / operations * 1e6)
        for place, numbers in stats.stats.items()  # type: ignore[attr-defined]
        if numbers[0] >= operations * OFTEN and "'poll' of 'select.epoll'" not in place[2]
    ]
    return sorted(rows, key=lambda row: -row.microseconds)


def _name(file: str, _line: int, function: str) -> str:
    if file == "~":
        return function.strip("<>").replace("method ", "").replace("built-in ", "")
    _place, _engine, inside = file.partition("openlun_iscsi_engine/")
    return f"{inside or Path(file).name} {function}"


def measure_times(disks: Disks, clients: Clients, load: Load) -> tuple[float, float]:
    """Microseconds of user and of system time an operation."""
    server = EngineServer(Engine(ROOT / "build/openlun-iscsi.pyz", "-m", "0x1"), disks)
    try:
        urls = [server.url("memory")]
        clients.light(urls, load, 0.5, [])
        before = processor_times(server.pid())
        operations = clients.light(urls, load, SECONDS, []).rate * SECONDS
        user, system = (after - once for after, once in zip(processor_times(server.pid()), before))
    finally:
        server.stop()
    return user / operations * 1e6, system / operations * 1e6


def measure_functions(disks: Disks, clients: Clients, load: Load) -> list[Share]:
    with tempfile.NamedTemporaryFile() as result:
        engine = ProfiledEngine(ROOT / "build/openlun-iscsi.pyz", Path(result.name), "-m", "0x1")
        server = EngineServer(engine, disks)
        try:
            operations = clients.light([server.url("memory")], load, SECONDS, []).rate * SECONDS
        finally:
            server.stop()
        return shares(pstats.Stats(result.name), operations)


def markdown(times: list[tuple[float, float]], functions: list[Share]) -> str:
    rows = ["| 4K at QD32 | user µs | system µs |", "|---|---|---|"]
    rows += (f"| {name} | {user:.2f} | {system:.2f} |" for name, (user, system) in zip(("READ", "WRITE"), times))
    rows += ["", "| of a READ, under the profiler | calls | µs |", "|---|---|---|"]
    rows += (f"| `{each.function}` | {each.calls:.2f} | {each.microseconds:.2f} |" for each in functions[:SHOWN])
    rest = sum(each.microseconds for each in functions[SHOWN:])
    return "\n".join((*rows, f"| everything else | | {rest:.2f} |"))


def main() -> int:
    build = ROOT / "build/bench"
    clients = Clients({1}, compile_light(build))
    with Disks(Path("/dev/shm"), build) as disks:
        times = [measure_times(disks, clients, load) for load in LOADS]
        functions = measure_functions(disks, clients, LOADS[0])
    text = markdown(times, functions)
    print(text)
    (build / "profile.md").write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
