# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the engine with Debian's tgtd: the same file on tmpfs, the same clients, in turns, one core each.

Prints a table of medians; writes build/bench/results.json and results.csv. No threshold: it informs, it does not judge.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from benchmark.noise import Noise
from benchmark.servers import OpenlunServer, Server, TgtServer
from benchmark.workloads import WORKLOADS, Run, Workload

ROOT = Path(__file__).resolve().parents[2]
NOISY = 0.25
"""Part of a core that others may use before a measurement does not count."""


ATTEMPTS = 3
"""How often a measurement is tried until it is a quiet one."""


class Sample(NamedTuple):
    workload: str
    server: str
    round: int
    value: float
    unit: str
    noise: float


def client(core: int) -> Run:
    """Runs clients on one core."""

    def run(command: list[str]) -> str:
        finished = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        if finished.returncode:
            raise RuntimeError(f"{' '.join(command)} exited {finished.returncode}: {finished.stdout}{finished.stderr}")
        return finished.stdout

    return run


def measure(workload: Workload, server: Server, number: int, seconds: float, cores: tuple[int, int]) -> Sample:
    with Noise(set(cores), [server.pid()]) as noise:
        rate = workload.measure(workload, server.url, seconds, client(cores[1]))
    return Sample(workload.name, server.name, number, workload.value(rate), workload.unit, noise.share)


def quiet(samples: list[Sample]) -> list[Sample]:
    """The samples that count: those without foreign load, or all when there are no such."""
    return [sample for sample in samples if sample.noise <= NOISY] or samples


def compare(servers: list[Server], rounds: int, seconds: float, cores: tuple[int, int]) -> list[Sample]:
    """Every workload on every server in turns; who begins changes each round, a noisy measurement is repeated."""
    samples = []
    for number in range(rounds):
        for workload in WORKLOADS:
            for server in servers if number % 2 == 0 else servers[::-1]:
                for _attempt in range(ATTEMPTS):
                    samples.append(measure(workload, server, number, seconds, cores))
                    if samples[-1].noise <= NOISY:
                        break
        print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    return samples


def table(samples: list[Sample], names: list[str]) -> list[dict[str, str | float]]:
    """One row a workload: the median of each server and how many times the last server's that of the first is."""
    rows = []
    for workload in WORKLOADS:
        row: dict[str, str | float] = {"workload": workload.name, "unit": workload.unit}
        medians = []
        for name in names:
            mine = [sample for sample in samples if (sample.workload, sample.server) == (workload.name, name)]
            used = quiet(mine)
            medians.append(statistics.median(sample.value for sample in used))
            row[name] = round(medians[-1], 1)
            row[f"{name} measured"] = len(used)
            row[f"{name} dropped"] = len(mine) - len(used)
            row[f"{name} noise"] = round(max(sample.noise for sample in used), 2)
        row["ratio"] = round(medians[0] / medians[-1], 2)
        rows.append(row)
    return rows


def show(rows: list[dict[str, str | float]], names: list[str], facts: dict[str, str]) -> None:
    for key, value in facts.items():
        print(f"{key}: {value}")
    print(f"\n{'work':22} {'unit':7}" + "".join(f"{name:>10}" for name in names) + f"{'ratio':>8}  rounds (dropped)")
    for row in rows:
        rounds = ", ".join(f"{row[f'{name} measured']} ({row[f'{name} dropped']})" for name in names)
        values = "".join(f"{row[name]:>10}" for name in names)
        print(f"{row['workload']:22} {row['unit']:7}{values}{row['ratio']:>7}×  {rounds}")
    loud = [row["workload"] for row in rows if any(float(row[f"{name} noise"]) > NOISY for name in names)]
    if loud:
        print(
            f"\nOther work kept the machine busy during all rounds of: {', '.join(map(str, loud))}. Do not trust these."
        )


def save(directory: Path, samples: list[Sample], rows: list[dict[str, str | float]], facts: dict[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    results = {"facts": facts, "table": rows, "samples": [sample._asdict() for sample in samples]}
    (directory / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    with (directory / "results.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(Sample._fields)
        writer.writerows(samples)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round: does it work, roughly how fast")
    parser.add_argument("--rounds", type=int, help="rounds to take the median of (default 5)")
    parser.add_argument("--seconds", type=float, help="seconds a measurement (default 2)")
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 5)
    seconds = options.seconds or (1 if options.quick else 2)

    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        sys.stderr.write("The benchmark needs two processor cores: one for the server, one for the client.\n")
        return 1
    cores = (available[0], available[1])
    facts = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{len(available)} cores, Linux {platform.release()}",
        "pinned": f"server to core {cores[0]}, client to core {cores[1]}",
        "load at start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "rounds": f"{rounds}, {seconds} s a measurement, medians",
    }
    servers: list[Server] = []
    with tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="openlun-bench-") as image:
        image.write(os.urandom(2**20) * 1024)
        image.flush()
        try:
            servers.append(OpenlunServer(ROOT / "build/openlun-iscsi.pyz", Path(image.name), cores[0]))
            servers.append(TgtServer(Path(image.name), cores[0]))
            names = [server.name for server in servers]
            facts.update({server.name: server.version for server in servers})
            samples = compare(servers, rounds, seconds, cores)
        finally:
            for server in servers:
                server.stop()
    rows = table(samples, names)
    show(rows, names, facts)
    save(ROOT / "build/bench", samples, rows, facts)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
