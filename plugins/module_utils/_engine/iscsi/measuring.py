# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measuring how long the commands of a connection take, at no cost to connections that nobody measures."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..bdev.histogram import Histogram
from .command import IscsiTask

if TYPE_CHECKING:
    from .connection import Connection
    from .node import TargetNode
    from .target import IscsiTarget


def measure(connection: Connection, histogram: Histogram | None) -> None:
    """Count, from now on, the nanoseconds from the start of each command to its answer; None ends it.

    Commands are run and finished by methods that are shadowed on this one connection.
    """
    place: dict[str, Any] = vars(connection)
    if histogram is None:
        place.pop("run", None)
        place.pop("finish", None)
        return
    plain = type(connection)
    tally, clock = histogram.tally, time.monotonic_ns

    def run(task: IscsiTask) -> None:
        task.begun = clock()
        plain.run(connection, task)

    def finish(task: IscsiTask) -> None:
        if task.begun:
            tally(clock() - task.begun)
            task.begun = 0
        plain.finish(connection, task)

    place.update(run=run, finish=finish)


def set_histogram(target: IscsiTarget, name: str, histogram: Histogram | None) -> None:
    """Measure the latency of a node's commands from now on, or no longer, because somebody asked for it."""
    node = target.node(name)
    node.shows_histogram = histogram is not None
    _measure_node(target, node, histogram)


def measure_all(target: IscsiTarget) -> None:
    """Measure what is not measured yet: somebody watches the target as a whole."""
    for node in target.nodes.values():
        if node.histogram is None:
            _measure_node(target, node, Histogram())


def _measure_node(target: IscsiTarget, node: TargetNode, histogram: Histogram | None) -> None:
    node.histogram = histogram
    for connection in target.sessions.connections:
        if connection.session is not None and connection.session.node is node:
            measure(connection, histogram)
