# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of the machine from /proc: who belongs together, what they used, and how to make them hold still."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")


def family(pid: int) -> list[int]:
    """A process and all that descend from it; none if it is gone."""
    try:
        threads = list((_PROC / str(pid) / "task").iterdir())
        children = [int(word) for thread in threads for word in (thread / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(each for child in children for each in family(child))]


def processor_seconds(pids: Iterable[int]) -> float:
    """Seconds that these processes have worked; in nanoseconds where the kernel counts so, else in ticks."""
    return sum(_thread_seconds(thread) for pid in pids for thread in _threads(pid))


def _threads(pid: int) -> list[Path]:
    try:
        return list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return []


def _thread_seconds(thread: Path) -> float:
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int((thread / "schedstat").read_text().split()[0]) / 1e9
    with contextlib.suppress(OSError):
        return sum(stat_times((thread / "stat").read_text()))
    return 0.0


def processor_times(pid: int) -> tuple[float, float]:
    """Seconds of user and of system time of a process, to a tick."""
    return stat_times((_PROC / str(pid) / "stat").read_text())


def stat_times(text: str) -> tuple[float, float]:
    """User and system time of what /proc/PID/stat says; the name in it may hold spaces and parentheses."""
    fields = text.rpartition(")")[2].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


class Share:
    """What children of this process that ended within worked, as part of a core."""

    share = 0.0

    def __enter__(self) -> Share:
        self._begin = time.monotonic()
        self._worked = self._of_children()
        return self

    def __exit__(self, *_error: object) -> None:
        self.share = (self._of_children() - self._worked) / max(time.monotonic() - self._begin, 0.001)

    @staticmethod
    def _of_children() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime


def resident(pids: Iterable[int]) -> int:
    """KiB of memory that these processes hold."""
    pages = sum(int((_PROC / str(pid) / "statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


@contextlib.contextmanager
def awake(pid: int) -> Iterator[None]:
    """Let a halted process and its descendants work for a while, then hold them still again."""
    send(pid, signal.SIGCONT)
    try:
        yield
    finally:
        send(pid, signal.SIGSTOP)


def send(pid: int, number: signal.Signals) -> None:
    """A signal to a process and its descendants."""
    for each in family(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, number)
