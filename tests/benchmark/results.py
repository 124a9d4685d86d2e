# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From samples to the lines of the table: medians, ratios, what is missing and why."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from benchmark.lines import Line
from benchmark.rows import Goal, Row

NOISY: Final = 0.25
"""Part of a core that others may use before a measurement does not count."""
CLIENT: Final = "client"
"""The figure that every measurement has: part of its cores that the client used."""
_FULL: Final = 0.93
"""Part from which on the client is what limits."""


class Sample(NamedTuple):
    work: str
    target: str
    round: int
    figures: dict[str, float]
    noise: float
    """Part of a core that others used meanwhile."""


class Median(NamedTuple):
    value: float
    rounds: int
    dropped: int
    noise: float


def quiet(samples: list[Sample]) -> list[Sample]:
    """The samples that count: those without foreign load, or all when there are no such."""
    return [sample for sample in samples if sample.noise <= NOISY] or samples


def median(samples: list[Sample], figure: str) -> Median | None:
    """Of the samples that count; None when there is none at all."""
    used = quiet(samples)
    if not used:
        return None
    value = statistics.median(sample.figures.get(figure, 0.0) for sample in used)
    return Median(value, len(used), len(samples) - len(used), max(sample.noise for sample in used))


def judge(rows: Iterable[Row], samples: list[Sample], missing: Mapping[str, str]) -> list[Line]:
    """``missing`` tells why a target, or work on a target (``work on target``), gave nothing."""
    return [_line(row, goal, samples, missing) for row in rows for goal in row.goals]


def _line(row: Row, goal: Goal, samples: list[Sample], missing: Mapping[str, str]) -> Line:
    def of(target: str, figure: str) -> Median | None:
        mine = [sample for sample in samples if (sample.work, sample.target) == (row.work, target)]
        return median(mine, figure)

    ours = of(row.subject, row.figure)
    theirs = of(row.subject, goal.against) if goal.part else of(goal.against, row.figure) if goal.against else None
    result, sign = None, "≥" if goal.against else "≤"
    if ours and not goal.against:
        result = ours.value * row.unit.factor
    elif ours and theirs:
        better, worse = (theirs, ours) if row.less else (ours, theirs)
        result = better.value / worse.value if worse.value else None
    targets = [row.subject, *([goal.against] if goal.against and not goal.part else [])]
    reasons = [missing.get(target) or missing.get(f"{row.work} on {target}") or "" for target in targets]
    note = "; ".join(dict.fromkeys(filter(None, reasons)))
    client = of(row.subject, CLIENT)
    if row.figure == "rate" and client and client.value >= _FULL:
        note = "; ".join(filter(None, (note, "the client's core is full")))
    used = [each for each in (ours, theirs) if each]
    if result is not None and max(each.noise for each in used) > NOISY:
        note = "; ".join(filter(None, (note, "disturbed by other load")))
    return Line(
        row.key,
        row.title,
        row.subject,
        ours.value * row.unit.factor if ours else None,
        row.unit.name,
        goal.against,
        theirs.value * row.unit.factor if theirs else None,
        result,
        sign,
        goal.bound,
        min((each.rounds for each in used), default=0),
        sum(each.dropped for each in used),
        max((each.noise for each in used), default=0.0),
        note,
    )
