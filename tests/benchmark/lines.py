# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of the table, one a goal: as text, as CSV and back."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

FAILED: Final = "failed: "
"""How a note begins that tells what went wrong."""


class Line(NamedTuple):
    """One goal of one row. ``ours`` and ``theirs`` are medians in ``unit``; ``rounds`` are those of us that count."""

    row: str
    title: str
    target: str
    ours: float | None
    unit: str
    against: str
    theirs: float | None
    result: float | None
    """How many times as good, or ``ours`` when the goal is about that."""
    sign: str
    """``≥``: the result shall be at least the goal."""
    goal: float | None
    rounds: int
    dropped: int
    noise: float
    note: str
    """Why there is no result, or what else should be known."""

    @property
    def verdict(self) -> str:
        if self.result is None:
            return "FAILED" if self.note.startswith(FAILED) else "left out"
        if self.goal is None:
            return ""
        met = self.result >= self.goal if self.sign == "≥" else self.result <= self.goal
        return "met" if met else "MISSED"

    @property
    def is_ratio(self) -> bool:
        return self.sign == "≥"


def number(value: float | None) -> str:
    """Three digits that matter."""
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def outcome(line: Line) -> str:
    """The result as people say it."""
    if line.result is None:
        return "–"
    return f"{number(line.result)} ×" if line.is_ratio else f"{number(line.result)} {line.unit}"


def wanted(line: Line) -> str:
    if line.goal is None:
        return ""
    return f"{line.sign} {line.goal:g} {'×' if line.is_ratio else line.unit}"


def text(table: Iterable[Line]) -> str:
    """The table for a terminal."""
    head = f"{'work':46} {'openlun':>16} {'against':>22} {'result':>10} {'goal':>10}  rounds (dropped)"
    return "\n".join((head, *map(_text, table)))


def _text(line: Line) -> str:
    against = f"{line.against} {number(line.theirs)}" if line.against else ""
    ours = f"{number(line.ours)} {line.unit}" if line.ours is not None else "–"
    rounds = f"{line.rounds} ({line.dropped})" if line.rounds else ""
    end = "  ".join(filter(None, (f"{line.verdict:8}", rounds, line.note)))
    return f"{line.title:46} {ours:>16} {against:>22} {outcome(line):>10} {wanted(line):>10}  {end}".rstrip()


_NUMBERS: Final = ("ours", "theirs", "result", "goal")


def save(path: Path, table: Iterable[Line]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow((*Line._fields, "verdict"))
        for line in table:
            cells = ["" if cell is None else cell for cell in line]
            writer.writerow((*cells, line.verdict))


def load(path: Path) -> list[Line]:
    """What ``save`` wrote."""
    with path.open(newline="") as stream:
        return [_loaded(cells) for cells in csv.DictReader(stream)]


def _loaded(cells: dict[str, str]) -> Line:
    del cells["verdict"]
    floats = {name: float(cells[name]) if cells[name] else None for name in _NUMBERS}
    counts = {"rounds": int(cells["rounds"]), "dropped": int(cells["dropped"]), "noise": float(cells["noise"])}
    return Line(**{**cells, **floats, **counts})  # type: ignore[arg-type]


def merged(before: Iterable[Line], after: list[Line], order: Iterable[str]) -> list[Line]:
    """The lines of a run, and those of an earlier one of rows that it had not; in the order of the rows."""
    fresh = {line.row for line in after}
    kept = [*after, *(line for line in before if line.row not in fresh)]
    places = {key: place for place, key in enumerate(order)}
    return sorted((line for line in kept if line.row in places), key=lambda line: places[line.row])
