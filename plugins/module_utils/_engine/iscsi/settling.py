# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that were given up while a bdev works on them: it cannot be called back, so somebody waits for it.

An aborted WRITE that lands after its abort was answered, or after its initiator came back and wrote anew, would undo
what was acknowledged.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from typing import Callable

from ..scsi.unit import LogicalUnit
from .command import IscsiTask

Initiator = tuple[str, str]
"""Comparable initiator name, target node name."""


class Settling:
    """Who waits for which given-up commands to come to rest."""

    def __init__(self) -> None:
        self._futures: dict[IscsiTask, asyncio.Future[None]] = {}
        self._left_by: dict[Initiator, set[IscsiTask]] = {}

    def when_settled(self, task: IscsiTask) -> asyncio.Future[None]:
        """A future that is done when the given-up ``task`` has come to rest."""
        future = self._futures.get(task)
        if future is None:
            future = self._futures[task] = asyncio.get_running_loop().create_future()
        return future

    def settled(self, task: IscsiTask) -> None:
        future = self._futures.pop(task, None)
        if future is not None and not future.done():
            future.set_result(None)

    def leave_behind(self, initiator: Initiator, tasks: Iterable[IscsiTask]) -> None:
        """The connection of these commands is gone; they still change the medium."""
        for task in tasks:
            left = self._left_by.setdefault(initiator, set())
            left.add(task)
            self.when_settled(task).add_done_callback(functools.partial(self._landed, initiator, task))

    def _landed(self, initiator: Initiator, task: IscsiTask, _done: asyncio.Future[None]) -> None:
        left = self._left_by.get(initiator, set())
        left.discard(task)
        if not left:
            self._left_by.pop(initiator, None)

    def left_by(self, initiator: Initiator, lun: LogicalUnit | None = None) -> list[asyncio.Future[None]]:
        """What the initiator left behind, on one logical unit or on all."""
        left = self._left_by.get(initiator, ())
        return [self.when_settled(task) for task in left if lun is None or task.lun is lun]

    def left_on(self, lun: LogicalUnit) -> list[asyncio.Future[None]]:
        """What anybody left behind on a logical unit."""
        return [self.when_settled(task) for left in self._left_by.values() for task in left if task.lun is lun]


def wait_for(futures: list[asyncio.Future[None]], then: Callable[[], None]) -> None:
    """Call ``then`` when all of them are done: at once when there are none."""
    if not futures:
        then()
        return
    asyncio.gather(*futures, return_exceptions=True).add_done_callback(lambda _done: then())
