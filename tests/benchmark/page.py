# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the last results of ``make bench`` into docs/performance.md: the table, the profile, the plot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from benchmark import lines
from benchmark.lines import Line, number, outcome, wanted

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs/performance.md"
MARK: Final = "<!-- {} {} -->"
_NAMES: Final = {"plain": "without digests"}


def markdown(table: Iterable[Line], facts: Mapping[str, str]) -> str:
    """The table and under which circumstances it came about."""
    rows = [
        "| work | openlun | against | result | goal | |",
        "|---|---|---|---|---|---|",
        *(_row(line) for line in table),
    ]
    told = "; ".join(f"{name}: {value}" for name, value in facts.items())
    return "\n".join((*rows, "", told[:1].upper() + told[1:] + "."))


def _row(line: Line) -> str:
    ours = f"{number(line.ours)} {line.unit}" if line.ours is not None else ""
    against = " ".join(
        filter(None, (_NAMES.get(line.against, line.against), number(line.theirs) if line.theirs else ""))
    )
    verdict = line.note if line.result is None else "; ".join(filter(None, (line.verdict.lower(), line.note)))
    return f"| {line.title} | {ours} | {against} | {outcome(line)} | {wanted(line)} | {verdict} |"


def replaced(page: str, part: str, between: str) -> str:
    """``page`` with something else between the marks of a part; ValueError when it has none."""
    begin, end = (MARK.format(word, part) for word in ("begin", "end"))
    before, first, rest = page.partition(begin)
    _old, last, after = rest.partition(end)
    if not first or not last:
        raise ValueError(f"no {begin} and {end} in the page")
    return f"{before}{begin}\n{between.strip()}\n{end}{after}"


def main() -> int:
    directory = ROOT / "build/bench"
    table, profile, plot = (directory / name for name in ("results.csv", "profile.md", "results.png"))
    page = PAGE.read_text()
    if table.exists():
        facts = json.loads((directory / "results.json").read_text())["facts"]
        page = replaced(page, "results", markdown(lines.load(table), facts))
    if profile.exists():
        page = replaced(page, "profile", profile.read_text())
    if plot.exists():
        shutil.copyfile(plot, PAGE.with_suffix(".png"))
    PAGE.write_text(page)
    for path, how in ((table, "make bench"), (profile, "make bench PROFILE=1"), (plot, "make bench")):
        print(f"{PAGE.name}: {path.name} {'taken over' if path.exists() else f'is not there: {how} makes it'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
