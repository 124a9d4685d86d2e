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
