# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clients: their command lines for a server's URL, and how to read what they say."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from benchmark.processes import processor_seconds

DEADLINE: Final = 120
"""Seconds after which a client hangs."""
SECTOR: Final = 512
"""Bytes of iscsi-perf's blocks, and of all disks here."""


class Load(NamedTuple):
    """``size`` bytes a request, ``depth`` requests at a time in each of ``sessions``."""

    size: int
    depth: int
    sessions: int = 1
    writes: bool = False
    digests: bool = False


class Light(NamedTuple):
    """What the light client says; latencies in seconds. ``cpu`` is the server's processor time an operation."""

    rate: float
    median: float
    p99: float
    worst: float
    cpu: float


class ClientError(Exception):
    """A client failed, or said what nobody understands."""


class Clients:
    """Runs clients on some cores. ``light`` is the light client's program."""

    def __init__(self, cores: set[int], light: Path) -> None:
        self.cores = cores
        self._light = light

    def run(self, command: list[str]) -> str:
        """What a client prints; ClientError when it fails."""
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=DEADLINE, preexec_fn=self._pin
        )
        if ended.returncode:
            raise ClientError(f"{' '.join(command)} exited {ended.returncode}: {ended.stdout}{ended.stderr}")
        return ended.stdout

    def _pin(self) -> None:
        os.sched_setaffinity(0, self.cores)

    def iscsi_perf(self, url: str, load: Load, seconds: float, random: bool) -> float:
        """Reads; gives requests per second."""
        options = ["-r"] if random else []
        numbers = ["-m", str(load.depth), "-b", str(load.size // SECTOR)]
        whole_seconds = str(max(1, round(seconds)))  # iscsi-perf knows no others
        return iscsi_perf_rate(self.run(["iscsi-perf", *options, *numbers, "-t", whole_seconds, url]))

    def qemu_img(self, url: str, load: Load, seconds: float) -> float:
        """Writes. It takes a number of requests, not a time: a short run tells how many are needed."""
        pilot = self._qemu_img(url, load, 16 * load.depth)
        return self._qemu_img(url, load, max(16 * load.depth, int(pilot * seconds)))

    def _qemu_img(self, url: str, load: Load, requests: int) -> float:
        numbers = ["-d", str(load.depth), "-s", str(load.size), "-c", str(requests)]
        printed = self.run(["qemu-img", "bench", "-w", "-f", "raw", "-t", "none", *numbers, url])
        return requests / qemu_img_seconds(printed)

    def light(self, urls: list[str], load: Load, seconds: float, servers: list[int]) -> Light:
        """The light client. Processor time of the processes ``servers`` counts from the end of the logins."""
        with self._started(light_options(load, seconds), urls) as client:
            self._await_ready(client)
            before = processor_seconds(servers)
            print(file=client.stdin, flush=True)
            said = client.stdout.readline() if client.stdout else ""
            used = processor_seconds(servers) - before
            self._end(client)
        return light_report(said, used)

    @contextlib.contextmanager
    def quiet_session(self, url: str, seconds: float, every: float) -> Iterator[list[Light]]:
        """One 4K READ ``every`` so many seconds, beside what is done within; its report is in the list afterwards."""
        options = [*light_options(Load(4096, 1), seconds), "-i", str(round(every * 1e6))]
        reports: list[Light] = []
        with self._started(options, [url]) as client:
            self._await_ready(client)
            print(file=client.stdin, flush=True)
            yield reports
            said = client.stdout.readline() if client.stdout else ""
            self._end(client)
        reports.append(light_report(said, 0.0))

    @contextlib.contextmanager
    def _started(self, options: list[str], urls: list[str]) -> Iterator[subprocess.Popen[str]]:
        command = [str(self._light), *options, *urls]
        pipe = subprocess.PIPE
        client = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, preexec_fn=self._pin)
        try:
            yield client
        finally:
            client.kill()
            client.communicate()

    def _await_ready(self, client: subprocess.Popen[str]) -> None:
        if not client.stdout or client.stdout.readline() != "ready\n":
            raise ClientError(client.communicate(timeout=DEADLINE)[1].strip())

    def _end(self, client: subprocess.Popen[str]) -> None:
        _rest, complaint = client.communicate(timeout=DEADLINE)
        if client.returncode:
            raise ClientError(complaint.strip())


def iscsi_perf_rate(printed: str) -> float:
    """Requests per second of iscsi-perf's last word."""
    averages = re.findall(r"iops average (\d+)", printed)
    if not averages:
        raise ClientError(f"iscsi-perf told no rate: {printed}")
    return float(averages[-1])


def qemu_img_seconds(printed: str) -> float:
    took = re.search(r"Run completed in ([\d.]+) seconds", printed)
    if not took:
        raise ClientError(f"qemu-img bench did not complete: {printed}")
    return max(float(took.group(1)), 0.001)


def light_options(load: Load, seconds: float) -> list[str]:
    numbers = ["-n", str(load.sessions), "-d", str(load.depth), "-s", str(load.size), "-t", str(seconds)]
    return [*numbers, *(["-w"] if load.writes else []), *(["-D"] if load.digests else [])]


def light_report(said: str, used: float) -> Light:
    """The light client's line; ``used`` is the server's processor time during it."""
    try:
        report = json.loads(said)
        median, p99, worst = (report[name] / 1e6 for name in ("median_us", "p99_us", "worst_us"))
        return Light(report["rate"], median, p99, worst, used / max(1, report["operations"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ClientError(f"the light client told no result: {said!r}") from error


def compile_light(directory: Path) -> Path:
    """Compile the light client, if that has not been done since it changed."""
    source, program = Path(__file__).with_name("light.c"), directory / "light"
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise ClientError("no C compiler: install gcc and libc6-dev, or run make bench, which does")
    directory.mkdir(parents=True, exist_ok=True)
    new = program.with_suffix(".new")
    command = [compiler, "-O2", "-Wall", "-Wextra", "-std=gnu11", "-o", str(new), str(source)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    new.rename(program)
    return program
