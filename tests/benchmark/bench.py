# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the engine with Debian's tgtd, and with SPDK where it is: the same files, the same clients, in turns.

Prints a table of medians with the goals beside them; writes results.csv, results.json and results.png to build/bench.
No threshold: it informs, it does not judge. Exit status 1 when something could not be measured that should have been.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from benchmark import lines
from benchmark.clients import ClientError, Clients, compile_light
from benchmark.disks import Disks, file_system
from benchmark.lines import FAILED, Line
from benchmark.noise import Noise
from benchmark.pages import short_lists
from benchmark.processes import Share, awake, send
from benchmark.results import CLIENT, NOISY, Sample, judge
from benchmark.rows import ROWS, Row, chosen
from benchmark.servers import STARTS, LeftOut, Server, Setting, python_version, spdk_program
from benchmark.works import WORKS, Work
from engine_process import RpcError

ROOT: Final = Path(__file__).resolve().parents[2]
BUILD: Final = ROOT / "build/bench"
PYTHON: Final = BUILD / "venv/bin/python"
"""Of the environment with matplotlib and a library for CRC32C; missing when it could not be made."""
ENGINE: Final = ROOT / "build/openlun-iscsi.pyz"
CONGESTION_CONTROL: Final = Path("/proc/sys/net/ipv4/tcp_congestion_control")
ATTEMPTS: Final = 3
"""How often a measurement is tried until it is a quiet one."""
REPEATS: Final = 0.5
"""And how many are repeated at most, as a part of all: a busy machine shall not keep anybody waiting for hours."""


FAILURES: Final = (ClientError, RpcError, OSError, AssertionError, subprocess.SubprocessError)
"""What goes wrong with a client or a target, and stops neither the others nor the benchmark."""


class Comparison:
    """Targets that are started when they are first needed, and hold still while it is not their turn."""

    def __init__(self, setting: Setting, light: Path) -> None:
        self.samples: list[Sample] = []
        self.missing: dict[str, str] = {}
        self.failed = False
        self._setting = setting
        self._light = light
        self._servers: dict[str, Server] = {}
        self._running = contextlib.ExitStack()
        self._repeats = 0

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *_error: object) -> None:
        self._running.close()

    def versions(self) -> dict[str, str]:
        """By target, for those with one of their own."""
        told: dict[str, str] = {}
        for name, server in self._servers.items():
            if server.version not in told.values():
                told[name] = server.version
        return told

    def run(self, rows: Iterable[Row], rounds: int, seconds: float, quick: bool) -> None:
        """Every work on every target in turns; who begins changes each round."""
        targets = _targets(rows)
        self._repeats = int(REPEATS * rounds * sum(map(len, targets.values())))
        for number in range(rounds):
            for key, names in targets.items():
                work = WORKS[key]
                if work.long and number:
                    continue
                duration = work.long[quick] if work.long else seconds
                for name in names if number % 2 == 0 else names[::-1]:
                    self._measure(work, name, number, duration)
            print(f"round {number + 1} of {rounds} done", file=sys.stderr)

    def _measure(self, work: Work, name: str, number: int, seconds: float) -> None:
        """Try until it is a quiet one; what goes wrong is remembered, and the rest goes on."""
        place = f"{work.key} on {name}"
        if name in self.missing or place in self.missing:
            return
        try:
            server = self._server(name)
        except (LeftOut, *FAILURES) as error:
            self._miss(name, error)
            return
        try:
            for attempt in range(ATTEMPTS):
                self.samples.append(self._once(work, name, server, number, seconds))
                if self.samples[-1].noise <= NOISY or not self._repeats:
                    break
                self._repeats -= attempt + 1 < ATTEMPTS
        except FAILURES as error:
            self._miss(place, error)

    def _miss(self, what: str, error: Exception) -> None:
        """What can be had without is told in the table only, what went wrong also here."""
        self.missing[what] = str(error)
        if not isinstance(error, LeftOut):
            self.failed = True
            self.missing[what] = f"{FAILED}{' '.join(str(error).split())}"
            print(f"{what} failed: {error}", file=sys.stderr)

    def _server(self, name: str) -> Server:
        if name not in self._servers:
            server = STARTS[name](self._setting)
            self._running.callback(server.stop)
            send(server.pid(), signal.SIGSTOP)
            self._servers[name] = server
        return self._servers[name]

    def _once(self, work: Work, name: str, server: Server, number: int, seconds: float) -> Sample:
        all_cores = {self._setting.core, self._setting.client_core}
        clients = Clients(all_cores if server.everywhere else {self._setting.client_core}, self._light)
        _forget_connections()
        with awake(server.pid()):
            for disk in work.disks or server.spread:
                server.url(disk)  # made and served before the time is taken
            with Noise(all_cores, [server.pid()]) as noise, Share() as of_a_core:
                figures = work.measure(server, clients, seconds)
        figures[CLIENT] = of_a_core.share / len(clients.cores)
        return Sample(work.key, name, number, figures, 0.0 if work.long else noise.share)


def _forget_connections() -> None:
    """What the kernel remembers of earlier connections to this host, such as how fast they were, begins no new one."""
    with contextlib.suppress(OSError):  # there is no ip
        subprocess.run(["ip", "tcp_metrics", "flush", "127.0.0.1"], capture_output=True, check=False)


def _targets(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Whom each work has to be done to, in a fixed order."""
    needed: dict[str, set[str]] = {}
    for row in rows:
        needed.setdefault(row.work, set()).update(row.targets())
    return {work: [name for name in STARTS if name in needed[work]] for work in WORKS if work in needed}


def save(table: list[Line], samples: list[Sample], facts: dict[str, str]) -> None:
    """Everything that came out, and the plot if there is what draws it."""
    lines.save(BUILD / "results.csv", table)
    kept = {"facts": facts, "samples": [sample._asdict() for sample in samples]}
    (BUILD / "results.json").write_text(json.dumps(kept, indent=2) + "\n")
    command: list[str | Path] = [PYTHON, "-m", "benchmark.plot", BUILD / "results.csv", BUILD / "results.png"]
    if not PYTHON.exists():
        print("No plot: matplotlib could not be installed, see build/bench/venv.log.", file=sys.stderr)
    elif subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": str(ROOT / "tests")}).returncode:
        print("No plot: drawing it failed.", file=sys.stderr)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round: does it work, roughly how fast")
    parser.add_argument("--rounds", type=int, help="rounds to take the median of (default 5)")
    parser.add_argument("--seconds", type=float, help="seconds a measurement (default 2)")
    parser.add_argument("--only", action="append", default=[], metavar="ROW", help="only rows of this name, or like it")
    parser.add_argument("--merge", action="store_true", help="keep the results of other rows from the last run")
    parser.add_argument("--engine", type=Path, metavar="FILE", default=ENGINE, help="another archive of the engine")
    parser.add_argument("--list", action="store_true", help="list the rows")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.list:
        print("\n".join(f"{row.key:16} {row.title}" for row in ROWS))
        return 0
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        sys.stderr.write("The benchmark needs two processor cores: one for the server, one for the client.\n")
        return 1
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        spdk = spdk_program(os.environ.get("SPDK", ""), ROOT / "build")
        rows = chosen(options.only, spdk is not None)
        light = compile_light(BUILD)
    except (LeftOut, ValueError, ClientError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    rounds = options.rounds or (1 if options.quick else 5)
    seconds = options.seconds or (1 if options.quick else 2)
    facts = {
        "date": datetime.now(timezone.utc).isoformat(timespec="minutes"),
        "machine": f"{len(available)} cores, Linux {platform.release()}, Python {python_version()}",
        "pinned": f"server to core {available[0]}, client to core {available[1]}",
        "TCP": CONGESTION_CONTROL.read_text().strip(),
        "files": f"tmpfs, and {file_system(BUILD)} for the rows about files",
        "rounds": f"{rounds} of {seconds:g} s a measurement, medians",
        "load at start": _load(),
    }
    with contextlib.ExitStack() as stack:
        facts["free pages"] = stack.enter_context(short_lists())
        disks = stack.enter_context(Disks(Path("/dev/shm"), BUILD))
        setting = Setting(options.engine.resolve(), disks, available[0], available[1], PYTHON, spdk)
        comparison = stack.enter_context(Comparison(setting, light))
        comparison.run(rows, rounds, seconds, options.quick)
        facts.update({"load at end": _load(), **comparison.versions()})
    table = judge(rows, comparison.samples, comparison.missing)
    print("\n".join(f"{name}: {value}" for name, value in facts.items()), end="\n\n")
    print(lines.text(table))
    if options.merge and (BUILD / "results.csv").exists():
        table = lines.merged(lines.load(BUILD / "results.csv"), table, (row.key for row in ROWS))
    save(table, comparison.samples, facts)
    return 1 if comparison.failed else 0


def _load() -> str:
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


if __name__ == "__main__":
    raise SystemExit(main())
