# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the last results of ``make bench`` into docs/performance.md: the table between its marks, and the plot."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from benchmark import lines
from benchmark.lines import Line, number, outcome, wanted

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs/performance.md"
BEGIN: Final = "<!-- results of make bench -->"
END: Final = "<!-- end of the results -->"
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
    verdict = line.note if line.result is None else line.verdict.lower()
    return f"| {line.title} | {ours} | {against} | {outcome(line)} | {wanted(line)} | {verdict} |"


def replaced(page: str, between: str) -> str:
    """``page`` with something else between the marks; ValueError when it has none."""
    before, begin, rest = page.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} and {END} in the page")
    return f"{before}{begin}\n{between}\n{end}{after}"


def main() -> int:
    directory = ROOT / "build/bench"
    if not (directory / "results.csv").exists():
        sys.stderr.write("There are no results yet: run make bench first.\n")
        return 1
    facts = json.loads((directory / "results.json").read_text())["facts"]
    PAGE.write_text(replaced(PAGE.read_text(), markdown(lines.load(directory / "results.csv"), facts)))
    if (directory / "results.png").exists():
        shutil.copyfile(directory / "results.png", PAGE.with_suffix(".png"))
    print(f"Updated {PAGE.relative_to(ROOT)} and its plot.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
