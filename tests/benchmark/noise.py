# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of the machine somebody else used during a measurement, from /proc."""

from __future__ import annotations

import resource
import time
from pathlib import Path

from benchmark.processes import TICKS, family, processor_seconds


def _busy(cores: set[int]) -> float:
    """Seconds that these cores have worked since boot, or were lent to other virtual machines."""
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _idle, _iowait, irq, softirq, steal, *_guests = map(int, fields)
            total += user + nice + system + irq + softirq + steal
    return total / TICKS


def _own() -> float:
    """Seconds that this process and its finished clients have used."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Noise:
    """``with Noise(cores, pids) as noise``; then ``noise.share`` is the part of a core that others used meanwhile.

    ``pids`` are the servers; what they started is theirs. The servers' network work is done in interrupt context, so a
    small share is their own.
    """

    def __init__(self, cores: set[int], pids: list[int]) -> None:
        self.cores = cores
        self.pids = pids
        self.share = 0.0

    def _foreign(self) -> float:
        servers = processor_seconds(each for pid in self.pids for each in family(pid))
        return _busy(self.cores) - _own() - servers

    def __enter__(self) -> Noise:
        self.began = time.monotonic()
        self.before = self._foreign()
        return self

    def __exit__(self, *_error: object) -> None:
        self.share = max(0.0, self._foreign() - self.before) / (time.monotonic() - self.began)
