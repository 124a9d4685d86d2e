# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the time goes at queue depth 32 and 4K: user and system time, beside tgtd's, and the engine's by function.

The first is measured without a profiler. The second with cProfile, which makes functions of Python look dearer than
they are beside calls into the kernel; so compare functions with each other. Writes build/bench/profile.md.
"""

from __future__ import annotations

import os
import pstats
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from benchmark.clients import Clients, Load, compile_light
from benchmark.disks import Disks
from benchmark.processes import processor_times
from benchmark.servers import STARTS, EngineServer, Setting
from engine_process import Engine, die_with_parent

ROOT: Final = Path(__file__).resolve().parents[2]
SECONDS: Final = 3.0
SHOWN: Final = 14
"""Functions in the table."""
OFTEN: Final = 0.01
"""Calls an operation; less is no part of the work. A wake-up is for some thirty operations."""
LOADS: Final = {"READ": Load(4096, 32), "WRITE": Load(4096, 32, writes=True)}

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


class Times(NamedTuple):
    """Microseconds an operation, in the program and in the kernel for it."""

    target: str
    work: str
    user: float
    system: float


def measure_times(setting: Setting, clients: Clients, target: str) -> Iterator[Times]:
    server = STARTS[target](setting)
    try:
        for work, load in LOADS.items():
            urls = [server.url("memory")]
            clients.light(urls, load, 0.5, [])
            before = processor_times(server.pid())
            operations = clients.light(urls, load, SECONDS, []).rate * SECONDS
            user, system = (after - once for after, once in zip(processor_times(server.pid()), before))
            yield Times(target, work, user / operations * 1e6, system / operations * 1e6)
    finally:
        server.stop()


def measure_functions(setting: Setting, clients: Clients, load: Load) -> list[Share]:
    with tempfile.NamedTemporaryFile() as result:
        engine = ProfiledEngine(setting.archive, Path(result.name), "-m", hex(1 << setting.core))
        server = EngineServer(engine, setting.disks)
        try:
            operations = clients.light([server.url("memory")], load, SECONDS, []).rate * SECONDS
        finally:
            server.stop()
        return shares(pstats.Stats(result.name), operations)


def markdown(times: list[Times], functions: list[Share]) -> str:
    rows = ["| 4K at QD32 | target | user µs | system µs |", "|---|---|---|---|"]
    rows += (f"| {each.work} | {each.target} | {each.user:.2f} | {each.system:.2f} |" for each in times)
    rows += ["", "| of a READ by openlun, under the profiler | calls | µs |", "|---|---|---|"]
    rows += (f"| `{each.function}` | {each.calls:.2f} | {each.microseconds:.2f} |" for each in functions[:SHOWN])
    rest = sum(each.microseconds for each in functions[SHOWN:])
    return "\n".join((*rows, f"| everything else | | {rest:.2f} |"))


def main() -> int:
    build = ROOT / "build/bench"
    core, client_core = sorted(os.sched_getaffinity(0))[:2]
    clients = Clients({client_core}, compile_light(build))
    with Disks(Path("/dev/shm"), build) as disks:
        archive = ROOT / "build/openlun-iscsi.pyz"
        setting = Setting(archive, disks, core, client_core, Path(sys.executable), None)
        times = [each for target in ("openlun", "tgtd") for each in measure_times(setting, clients, target)]
        functions = measure_functions(setting, clients, LOADS["READ"])
    text = markdown(sorted(times, key=lambda each: each.work), functions)
    print(text)
    (build / "profile.md").write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
