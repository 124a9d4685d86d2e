# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Noticing completions: by interrupts where there are any, else by looking, and only while something is in flight."""

from __future__ import annotations

import asyncio
import contextlib
import os
from time import monotonic
from typing import Callable, Final, Protocol

_EAGER_SECONDS: Final = 0.002
"""How long after the last completion every turn of the event loop looks."""
_PAUSES: Final = (0.0005, 0.008)
"""Then it looks after this many seconds, which double up to the second number."""

_LOOKS: Final = 8

Reap = Callable[[], int]
"""Takes the completions there are, and gives how many there were."""


class Attention(Protocol):
    """How a controller's completions are noticed."""

    def wake(self) -> None:
        """Something was started."""

    def close(self) -> None:
        """Nothing is noticed any more."""


class Interrupts:
    """Event descriptors become readable when there are completions."""

    def __init__(self, events: tuple[int, ...], reap: Reap) -> None:
        self._loop = asyncio.get_running_loop()
        self._events = events
        self._reap = reap
        for event in events:
            self._loop.add_reader(event, self._on_event, event)

    def _on_event(self, event: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(event, 8)
        self._reap()

    def wake(self) -> None:
        """The interrupt comes by itself."""

    def close(self) -> None:
        for event in self._events:
            self._loop.remove_reader(event)


class Polling:
    """Looks for completions while ``busy`` says that something is in flight: eagerly, then ever more rarely."""

    def __init__(self, reap: Reap, busy: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._reap = reap
        self._busy = busy
        self._handle: asyncio.Handle | None = None
        self._eager = False
        self._eager_until = 0.0
        self._pause = _PAUSES[0]

    def wake(self) -> None:
        if self._eager:
            return
        if self._handle is not None:
            # What was just started may be done long before the next look.
            self._handle.cancel()
        self._be_eager(monotonic())
        self._handle = self._loop.call_soon(self._look)

    def _be_eager(self, now: float) -> None:
        self._eager = True
        self._eager_until = now + _EAGER_SECONDS
        self._pause = _PAUSES[0]

    def _look(self) -> None:
        # A few looks cost less than a turn of the loop.
        for _each in range(_LOOKS):
            if self._reap():
                self._eager_until = 0.0
                break
        if not self._busy():
            self._handle = None
            self._eager = False
            return
        now = monotonic()
        if not self._eager_until:
            self._be_eager(now)
        if now < self._eager_until:
            self._handle = self._loop.call_soon(self._look)
        else:
            self._eager = False
            self._handle = self._loop.call_later(self._pause, self._look)
            self._pause = min(self._pause * 2, _PAUSES[1])

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._eager = False
