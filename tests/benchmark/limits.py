# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether rate limits of block devices hold: what clients that want more get within 10 seconds.

Prints a line for each limit and writes build/bench/limits.json; exit status 1 when one is missed by more than 5 %.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from engine_process import Engine, die_with_parent

ROOT: Final = Path(__file__).resolve().parents[2]
TOLERANCE: Final = 0.05
WARM_UP: Final = 1.0
"""Seconds before it counts: a limit lets its first slice pass at once."""
READS: Final = ("iscsi-perf", "-r", "-m", "32", "-t", "3600", "-b")
WRITES: Final = ("qemu-img", "bench", "-w", "-f", "raw", "-t", "none", "-d", "32", "-c", "100000000", "-s")


class Case(NamedTuple):
    limit: str
    value: int
    command: tuple[str, ...]
    counter: str
    unit: int = 1
    """How many of the counter are one of the limit."""


MIB: Final = 2**20
CASES: Final = (
    Case("rw_ios_per_sec", 5000, (*READS, "8"), "num_read_ops"),
    Case("rw_mbytes_per_sec", 50, (*READS, "128"), "bytes_read", MIB),
    Case("r_mbytes_per_sec", 10, (*READS, "8"), "bytes_read", MIB),
    Case("w_mbytes_per_sec", 20, (*WRITES, "65536"), "bytes_written", MIB),
)


def rate(engine: Engine, counter: str, seconds: float) -> float:
    """How fast a counter of the disk grows, each second."""

    def look() -> tuple[float, int]:
        answer: dict[str, Any] = engine.rpc("bdev_get_iostat", names=["M"])
        return answer["ticks"] / answer["tick_rate"], answer["bdevs"][0][counter]

    began, before = look()
    time.sleep(seconds)
    ended, after = look()
    return (after - before) / (ended - began)


def measure(engine: Engine, url: str, case: Case, seconds: float) -> float:
    """What clients get under a limit, in its unit."""
    engine.rpc("bdev_set_qos_limit", name="M", **{each.limit: 0 for each in CASES} | {case.limit: case.value})
    quiet = subprocess.DEVNULL
    with subprocess.Popen([*case.command, url], stdout=quiet, stderr=quiet, preexec_fn=die_with_parent) as client:
        try:
            time.sleep(WARM_UP)
            return rate(engine, case.counter, seconds) / case.unit
        finally:
            client.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 seconds each")
    seconds = 2.0 if parser.parse_args().quick else 10.0
    engine = Engine(ROOT / "build/openlun-iscsi.pyz").start()
    missed, found = [], {}
    try:
        engine.initiator_group()
        port = engine.portal_group()
        url = f"iscsi://127.0.0.1:{port}/{engine.node('limited', engine.malloc('M', 64))}/0"
        for case in CASES:
            found[case.limit] = got = measure(engine, url, case, seconds)
            error = got / case.value - 1
            print(f"{case.limit:18} {case.value:6}  measured {got:10.2f}  {error:+.2%}")
            if abs(error) > TOLERANCE:
                missed.append(case.limit)
    finally:
        engine.remove()
    directory = ROOT / "build/bench"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "limits.json").write_text(json.dumps({"seconds": seconds, "measured": found}, indent=2) + "\n")
    if missed:
        print(f"off by more than {TOLERANCE:.0%}: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
