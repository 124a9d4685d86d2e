# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measuring how long the commands of a connection take, at no cost to connections that nobody measures."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..bdev.histogram import Histogram
from .command import IscsiTask
from .connection import Connection
from .node import TargetNode

if TYPE_CHECKING:
    from .target import IscsiTarget


class MeasuredConnection(Connection):
    """What a connection is while its target node is measured.

    It stays the same object.
    """

    def hurry(self, view: memoryview, at: int, end: int) -> int:  # noqa: ARG002
        return at

    def run(self, task: IscsiTask) -> None:
        task.begun = time.monotonic_ns()
        super().run(task)

    def finish(self, task: IscsiTask) -> None:
        if task.begun:
            node = self.open_session.node
            if node is not None and node.histogram is not None:
                node.histogram.tally(time.monotonic_ns() - task.begun)
            task.begun = 0
        super().finish(task)


def measure(connection: Connection, wanted: bool) -> None:
    """Count the time from the start of each command to its answer from now on, or no longer."""
    connection.__class__ = MeasuredConnection if wanted else Connection


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
            measure(connection, histogram is not None)
