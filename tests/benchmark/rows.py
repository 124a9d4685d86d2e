# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of the table: which figure of which work is held against whom, and what it shall reach."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import Final, NamedTuple

from benchmark.servers import SPIN
from benchmark.works import CROWD, IOS_LIMIT, K256, MEBIBYTES_LIMIT


class Unit(NamedTuple):
    """``factor`` turns what was measured into what people read."""

    name: str
    factor: float


K_IOPS: Final = Unit("K IOPS", 1e-3)
MEGABYTES: Final = Unit("MB/s", K256 / 1e6)
MICROSECONDS: Final = Unit("µs", 1e6)
MILLISECONDS: Final = Unit("ms", 1e3)
PERCENT: Final = Unit("%", 100)
KIBIBYTES: Final = Unit("KiB", 1)
MEBIBYTES: Final = Unit("MiB", 1 / 1024)


class Goal(NamedTuple):
    """At least ``bound`` times as good as ``against``; None: whatever comes out. ``against`` is a target.

    With ``part`` it is another figure of the same measurement. Without ``against`` the figure itself may be ``bound``
    at most, in the row's unit.
    """

    against: str
    bound: float | None
    part: bool = False


class Row(NamedTuple):
    """``figure`` of ``work`` on the target ``subject``. ``less`` is better, for processor time."""

    key: str
    title: str
    work: str
    figure: str
    unit: Unit
    goals: tuple[Goal, ...]
    subject: str = "openlun"
    less: bool = False

    def targets(self) -> set[str]:
        """Who has to be measured for it."""
        return {self.subject, *(goal.against for goal in self.goals if goal.against and not goal.part)}


def _against(tgtd: float | None = None, spdk: float | None = None, **others: float | None) -> tuple[Goal, ...]:
    goals = (Goal("tgtd", tgtd), *(Goal(name.replace("_", " "), bound) for name, bound in others.items()))
    return goals if spdk is None else (*goals, Goal("spdk", spdk))


def _at_most(bound: float) -> tuple[Goal, ...]:
    return (Goal("", bound),)


ROWS: Final = (
    Row("read-qd1", "4K random read QD1, iscsi-perf", "read-qd1", "rate", K_IOPS, _against(1.5, 0.8)),
    Row(
        *("read-qd1-spin", f"4K random read QD1, iscsi-perf, --spin {SPIN}", "read-qd1", "rate", K_IOPS),
        goals=_against(2.0, 1.0),
        subject="openlun spin",
    ),
    Row("read-qd32", "4K random read QD32, iscsi-perf", "read-qd32", "rate", K_IOPS, _against(3.8, 1.0)),
    Row("write-qd32", "4K write QD32, qemu-img", "write-qd32", "rate", K_IOPS, _against(2.0, 1.0)),
    Row("read-256k", "256K sequential read QD8, iscsi-perf", "read-256k", "rate", MEGABYTES, _against(2.2, 1.0)),
    Row(
        *("write-256k", "256K write QD8, qemu-img", "write-256k", "rate", MEGABYTES),
        goals=_against(6.0, 1.0, tgtd_tuned=1.2),
    ),
    Row("light-read", "4K read QD32, light client", "light-read", "rate", K_IOPS, _against(None, 1.0)),
    Row("light-write", "4K write QD32, light client", "light-write", "rate", K_IOPS, _against(None, 1.0)),
    Row("cpu-read", "server CPU of a 4K read QD32", "light-read", "cpu", MICROSECONDS, _against(8.0), less=True),
    Row("cpu-write", "server CPU of a 4K write QD32", "light-write", "cpu", MICROSECONDS, _against(8.0), less=True),
    Row("sessions-read", "4K read, 32 sessions QD8", "sessions-read", "rate", K_IOPS, _against(6.0, 1.0)),
    Row("sessions-write", "4K write, 32 sessions QD8", "sessions-write", "rate", K_IOPS, _against(6.0, 1.0)),
    Row(
        *("cores-read", "4K read, 32 sessions QD8, two cores", "sessions-read", "rate", K_IOPS),
        goals=_against(openlun=None),
        subject="openlun 2 cores",
    ),
    Row(
        *("cores-write", "4K write, 32 sessions QD8, two cores", "sessions-write", "rate", K_IOPS),
        goals=_against(openlun=None),
        subject="openlun 2 cores",
    ),
    Row("file-warm", "4K random read QD32, file in page cache", "file-warm", "rate", K_IOPS, _against(3.0)),
    Row("file-direct", "4K random read QD32, file by O_DIRECT", "file-direct", "rate", K_IOPS, _against(1.0)),
    Row(
        *("file-stall", "worst wait of a quiet session beside that", "file-direct", "worst", MILLISECONDS),
        goals=(*_against(), *_at_most(20)),
        less=True,
    ),
    Row(
        *("digests", "4K read QD32, both digests, light client", "digests", "rate", K_IOPS),
        goals=(Goal("plain", 0.6, part=True),),
        subject="openlun crc32c",
    ),
    Row("idle-cpu", f"{CROWD} idle sessions: part of a core", "idle", "share", PERCENT, _at_most(1)),
    Row("idle-memory", f"{CROWD} idle sessions: memory of each", "idle", "session", KIBIBYTES, _at_most(4)),
    Row("base-memory", "memory without sessions", "idle", "base", MEBIBYTES, _at_most(30)),
    Row("limit-iops", f"off a limit of {IOS_LIMIT} IOPS", "limits", "operations", PERCENT, _at_most(5)),
    Row("limit-bandwidth", f"off a limit of {MEBIBYTES_LIMIT} MiB/s", "limits", "bandwidth", PERCENT, _at_most(5)),
)


def chosen(patterns: Iterable[str], with_spdk: bool) -> list[Row]:
    """The rows whose names match one of the patterns, all without patterns; ValueError names a pattern of none."""
    names = [row.key for row in ROWS]
    wanted = set()
    for pattern in patterns:
        matched = fnmatch.filter(names, pattern)
        if not matched:
            raise ValueError(f"no row is named {pattern}. There are: {', '.join(names)}")
        wanted.update(matched)
    rows = [row for row in ROWS if not wanted or row.key in wanted]
    if with_spdk:
        return rows
    return [row._replace(goals=tuple(goal for goal in row.goals if goal.against != "spdk")) for row in rows]
