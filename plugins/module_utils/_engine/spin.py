# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking for the next command before sleeping: to fall asleep and to wake up takes longer than to answer it.

An initiator that waits for each answer sends its next command some ten microseconds later. Looking for it so long costs
little more processor time than sleeping does, and halves the time of the command. But where commands come in crowds,
there is no need; and where they come seldom, no sense.
"""

from __future__ import annotations

from time import monotonic
from typing import Callable, Final

Events = list[tuple[int, int]]
Poll = Callable[..., Events]
"""epoll.poll(): seconds, or None for any time, and how many events at most."""

_SECONDS: Final = 50e-6
"""For which it is looked for the next command: somewhat more than an initiator needs that has to wake up itself."""
_MOST_LUCK: Final = 12
_LOSS: Final = 3
"""What looking in vain costs of the luck that finding earns one by one: so that three of four have to be found."""
_PATIENCE: Final = 32
"""Without luck it is tried again after so many chances."""


class Spin:
    """Whether to look now, and for how long.

    With ``seconds`` that is after every event; with 0 never; with None where it pays: after few commands at
    once, while most of them are followed by another one soon.
    """

    def __init__(self, seconds: float | None) -> None:
        self._always = seconds is not None
        self._seconds = _SECONDS if seconds is None else seconds
        self._until = 0.0
        self._luck = _MOST_LUCK
        self._waited = 0
        self.found = False
        """The last time that it was looked there was something before it was slept."""

    @property
    def never(self) -> bool:
        return self._always and not self._seconds

    @property
    def always(self) -> bool:
        return self._always and self._seconds > 0

    def tries(self) -> bool:
        """Few commands came at once: is the next one to be looked for?"""
        if self._always:
            return False
        if self._luck > 0:
            return True
        self._waited += 1
        if self._waited < _PATIENCE:
            return False
        self._waited = 0
        return True

    def poll(self, poll: Poll, timeout: float | None, most: int) -> Events:
        """As ``poll``, looking first; after :meth:`tries`, or each time if that is :attr:`always` so."""
        events = poll(0, most)
        self.found = True
        if not events and timeout != 0:
            now = monotonic()
            end = None if timeout is None else now + timeout
            until = self._until if self._always else now + self._seconds
            if end is not None:
                until = min(until, end)
            while not events and monotonic() < until:
                events = poll(0, most)
            if not self._always:
                self._learn(bool(events))
            self.found = bool(events) or self._always
            if not events:
                events = poll(None if end is None else max(0, end - monotonic()), most)
        if events and self._always:
            self._until = monotonic() + self._seconds
        return events

    def _learn(self, found: bool) -> None:
        self._luck = min(self._luck + 1, _MOST_LUCK) if found else max(self._luck - _LOSS, 0)
