# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which commands of a logical unit may run at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Callable

Start = Callable[[], object]


class Gate:
    """Commands overlap, but for those that have to be alone, such as COMPARE AND WRITE.

    Only commands that take time are counted: what is done at once cannot be disturbed.
    """

    __slots__ = ("_alone", "_running", "_waiting")

    def __init__(self) -> None:
        self._running = 0
        self._alone = False
        self._waiting: deque[tuple[bool, Start]] = deque()

    @property
    def closed(self) -> bool:
        """Whoever comes now has to :meth:`wait`."""
        return self._alone or bool(self._waiting)

    def free(self, alone: bool) -> bool:
        """May a command start?"""
        return not self.closed and not (alone and self._running)

    def wait(self, alone: bool, start: Start) -> None:
        """``start`` is called when it is the command's turn."""
        self._waiting.append((alone, start))

    def join(self, start: Start) -> None:
        """The same for a command of another unit, which goes in front.

        It only waits for who is alone now. If it waited for who waits, two of them could wait for each other.
        """
        if self._alone:
            self._waiting.appendleft((False, start))
        else:
            start()

    def enter(self, alone: bool) -> None:
        """A command that takes time has started."""
        self._running += 1
        self._alone = alone

    def leave(self) -> None:
        """It is done."""
        self._running -= 1
        self._alone = False

    def admitted(self) -> Iterator[Start]:
        """The waiting commands that may start now, one after the other; each starts before the next is asked for."""
        while self._waiting and not self._alone and not (self._waiting[0][0] and self._running):
            yield self._waiting.popleft()[1]
