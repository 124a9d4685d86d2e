# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker was told and has yet to do, and what it was asked and has yet to answer."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple


class WorkerGone(Exception):
    """The worker ended, or does not answer."""


class Told(NamedTuple):
    what: str
    done: asyncio.Future[None]
    change: int
    """The one that it belongs to, if that is about the worker's target nodes; else 0."""


class Outstanding:
    """Of one worker, and then of the next one in its place."""

    def __init__(self) -> None:
        self.lags = False
        """Somebody waited in vain for something of what it was told, and it has done nothing of it since."""
        self._loop = asyncio.get_running_loop()
        self._got_on = 0.0
        """When it did the last thing that it was told, or had nothing to do, on the loop's clock."""
        self._last = 0
        self._told: dict[int, Told] = {}
        self._asked: dict[int, asyncio.Future[Any]] = {}

    # -- told --------------------------------------------------------------------------------------------------------

    def tell(self, what: str, change: int = 0) -> int:
        """The number by which it says that this is done."""
        if not self._told:
            self.get_on()
        self._last += 1
        self._told[self._last] = Told(what, self._loop.create_future(), change)
        return self._last

    def done(self, number: int) -> str | None:
        """What it did; None when nobody waits for that any more."""
        self.lags = False
        self.get_on()
        told = self._told.pop(number, None)
        if told is None:
            return None
        told.done.set_result(None)
        return told.what

    def get_on(self) -> None:
        self._got_on = self._loop.time()

    def to_do(self) -> set[asyncio.Future[None]]:
        return {told.done for told in self._told.values()}

    def own_to_do(self, changes: Collection[int]) -> set[asyncio.Future[None]]:
        """What belongs to these changes, or with none to all, and is about the worker's target nodes."""
        return {told.done for told in self._told.values() if told.change and (told.change in changes or not changes)}

    def stands_still(self, seconds: float) -> bool:
        """It did nothing of what it was told for so long. A new one may have thousands of calls to make."""
        return self._loop.time() - self._got_on >= seconds

    # -- asked -------------------------------------------------------------------------------------------------------

    def ask(self) -> tuple[int, asyncio.Future[Any]]:
        """The number by which it answers a question, and the answer. That raises WorkerGone."""
        self._last += 1
        answer = self._asked[self._last] = self._loop.create_future()
        return self._last, answer

    def answered(self, words: Mapping[str, Any], who: object) -> None:
        asked = self._asked.pop(words["answer"], None)
        if asked is None or asked.done():
            return
        if words.get("error") is not None:
            asked.set_exception(WorkerGone(f"{who}: {words['error']}"))
        else:
            asked.set_result(words["result"])

    # -- the end -----------------------------------------------------------------------------------------------------

    def forget(self, who: object) -> None:
        """Nobody waits any more: the next worker gets everything at its start, and is asked anew."""
        for told in self._told.values():
            if not told.done.done():
                told.done.set_result(None)
        self._told.clear()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(WorkerGone(f"{who} ended, or was killed"))
        self._asked.clear()
        self.lags = False
