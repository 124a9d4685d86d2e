# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the ratios of a table as bars with their goals: python -m benchmark.plot RESULTS.csv PLOT.png

Runs in the benchmark's own environment, which has matplotlib.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
from benchmark import lines
from benchmark.lines import Line
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

_COLOURS = {"met": "#2a7f4f", "MISSED": "#c0392b", "": "#7f8c8d"}


def label(line: Line) -> str:
    return f"{line.title}, against {'the same without' if line.against == 'plain' else line.against}"


def draw(table: list[Line], path: Path) -> None:
    """The lines with a ratio, the first on top; the goal of each is a tick across its bar."""
    shown = [line for line in table if line.is_ratio and line.result is not None][::-1]
    mpl.rcParams["font.size"] = 9
    figure, axes = plt.subplots(figsize=(10, 1.4 + 0.3 * len(shown)), layout="constrained")
    places = range(len(shown))
    values = [line.result or 0.0 for line in shown]
    widest = 1.12 * max([1.0, *values, *(line.goal or 0.0 for line in shown)])
    axes.barh(places, values, color=[_COLOURS[line.verdict] for line in shown], height=0.7)
    for place, line, value in zip(places, shown, values):
        goal = line.goal or 0.0
        beside = goal if value <= goal < value + widest / 10 else value  # the tick does not strike the number out
        axes.text(beside, place, f" {lines.number(value)} ×", va="center")
        if line.goal is not None:
            axes.plot([goal, goal], [place - 0.45, place + 0.45], color="black", linewidth=2)
    axes.axvline(1, color="grey", linewidth=0.8, linestyle=":")
    axes.set_yticks(places, [label(line) for line in shown])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlim(0, widest)
    axes.set_xlabel("times as good (rates: higher; processor time and waits: lower)")
    marks = [
        Patch(color=_COLOURS["met"], label="goal met"),
        Patch(color=_COLOURS["MISSED"], label="goal missed"),
        Patch(color=_COLOURS[""], label="no goal"),
        Line2D([], [], color="black", linewidth=2, label="goal"),
    ]
    figure.legend(handles=marks, loc="outside upper center", ncols=len(marks), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> int:
    table, path = map(Path, sys.argv[1:])
    mpl.use("Agg")
    draw(lines.load(table), path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
