# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A timer wheel: one timer for everything that is looked at after some seconds, however many sessions there are."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Final, Protocol

_log = logging.getLogger(__name__)

_EARLY: Final = 0.1
"""Seconds by which somebody may be called early, so that a repeated second stays one."""


class Watched(Protocol):
    """Something with a next time at which it wants to be looked at."""

    def due(self) -> float | None:
        """Its time has come; gives the seconds until the next one, None for never again."""


class Clock:
    """Wakes up once a second at most, and only while somebody waits; so some are called up to 1 s late."""

    def __init__(self) -> None:
        self._waiting: dict[int, set[Watched]] = {}
        """By the second, on the loop's clock, in which they are due."""
        self._second: dict[Watched, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_second = 0

    def __len__(self) -> int:
        return len(self._second)

    def watch(self, who: Watched, seconds: float) -> None:
        """Call ``who.due()`` in so many seconds, and no longer at the time that was set before."""
        self.forget(who)
        second = math.ceil(asyncio.get_running_loop().time() + seconds - _EARLY)
        self._second[who] = second
        self._waiting.setdefault(second, set()).add(who)
        if self._timer is None or second < self._timer_second:
            self._arm(second)

    def forget(self, who: Watched) -> None:
        second = self._second.pop(who, None)
        if second is None:
            return
        left = self._waiting.get(second)
        if left is None:
            return  # it is being called
        left.discard(who)
        if not left:
            del self._waiting[second]
            if not self._waiting and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _arm(self, second: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_second = second
        self._timer = asyncio.get_running_loop().call_at(second, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for second in sorted(each for each in self._waiting if each <= now):
            for who in self._waiting.pop(second):
                if self._second.get(who) == second:
                    del self._second[who]
                    self._call(who)
        if self._waiting:
            self._arm(min(self._waiting))

    def _call(self, who: Watched) -> None:
        try:
            again = who.due()
        except Exception:  # pylint: disable=broad-except
            _log.exception("%s: bug in the engine", who)
            return
        if again is not None:
            self.watch(who, again)
