# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured: a client's command line for a server's URL, and how to read its answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

Run = Callable[[list[str]], str]
"""Runs a client and returns what it printed."""


class Workload(NamedTuple):
    """``blocks`` of 512 bytes a request, ``depth`` requests at a time; ``measure`` gives requests per second."""

    name: str
    blocks: int
    depth: int
    unit: str
    measure: Callable[[Workload, str, float, Run], float]

    def value(self, rate: float) -> float:
        """Requests per second in the unit that people read: thousand IOPS, or MB/s for large blocks."""
        return rate / 1000 if self.unit == "K IOPS" else rate * self.blocks * 512 / 1e6


def random_reads(workload: Workload, url: str, seconds: float, run: Run) -> float:
    return _iscsi_perf(["-r"], workload, url, seconds, run)


def sequential_reads(workload: Workload, url: str, seconds: float, run: Run) -> float:
    return _iscsi_perf([], workload, url, seconds, run)


def _iscsi_perf(options: list[str], workload: Workload, url: str, seconds: float, run: Run) -> float:
    depth, blocks = str(workload.depth), str(workload.blocks)
    whole_seconds = str(max(1, round(seconds)))  # iscsi-perf knows no others
    text = run(["iscsi-perf", *options, "-m", depth, "-b", blocks, "-t", whole_seconds, url])
    averages = re.findall(r"iops average (\d+)", text)
    if not averages:
        raise ValueError(f"iscsi-perf said nothing about {url}: {text}")
    return float(averages[-1])


def writes(workload: Workload, url: str, seconds: float, run: Run) -> float:
    """qemu-img takes a number of requests, not a time: a short run tells how many are needed."""
    pilot = _qemu_img(workload, url, 16 * workload.depth, run)
    return _qemu_img(workload, url, max(16 * workload.depth, int(pilot * seconds)), run)


def _qemu_img(workload: Workload, url: str, requests: int, run: Run) -> float:
    size, depth = str(workload.blocks * 512), str(workload.depth)
    command = ["qemu-img", "bench", "-w", "-f", "raw", "-t", "none", "-d", depth, "-s", size, "-c", str(requests), url]
    took = re.search(r"Run completed in ([\d.]+) seconds", run(command))
    if not took:
        raise ValueError(f"qemu-img bench did not complete against {url}")
    return requests / max(float(took.group(1)), 0.001)


WORKLOADS: Final = (
    Workload("4K random read, QD1", 8, 1, "K IOPS", random_reads),
    Workload("4K random read, QD32", 8, 32, "K IOPS", random_reads),
    Workload("256K read, QD8", 512, 8, "MB/s", sequential_reads),
    Workload("4K write, QD32", 8, 32, "K IOPS", writes),
    Workload("256K write, QD8", 512, 8, "MB/s", writes),
)
