# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Letting commands gather, where initiators have more to send than they are answered.

Who takes every command as it comes answers each by itself, and each answer costs its initiator time, too. An initiator
with many commands on their way has the next ones to send before it misses an answer; so some of them can be taken, and
answered, together. That helps where its processor is the limit, and harms where the network is: so it is found out,
again and again, in which way commands come faster.
"""

from __future__ import annotations

from typing import Final

_PART: Final = 2
"""One of so many commands that initiators have on their way may come before the others are answered."""
_LEAST: Final = 2
"""Commands that are worth it."""
_LONGEST: Final = 100e-6
"""Seconds that a command may have to wait for others."""
_FADE: Final = 0.95
"""An initiator with more to do sends late, and looks as if it had less on its way: the most of late counts, less with
every round."""
_BREAK: Final = 1e-3
"""Seconds without a command after which the time from one to the next says nothing."""
_TRIAL: Final = 4096
"""Commands after which the two ways are compared."""
_TERM: Final = 16
"""Trials for which the better way is kept."""
_BETTER: Final = 0.98
"""What the time from one command to the next has to fall to, for the processor time that it takes."""


class Gathering:
    """How long to wait after each round of answers. It is told the time, in seconds."""

    def __init__(self) -> None:
        self._last = 0.0
        self._commands = 0
        self._seconds = 0.0
        self._outstanding = 0.0
        self._pace = 0.0
        """Seconds from one command to the next where none was waited for."""
        self._waits = False
        self._left = 0
        """Trials for which the way is kept; 0: it is tried out."""

    def after(self, answered: int, outstanding: int, now: float) -> float:
        """Seconds to wait after a round that answered commands, of initiators which had so many on their way."""
        gap = now - self._last
        self._last = now
        if gap < _BREAK:
            self._seconds += gap
            self._commands += answered
            if self._commands >= _TRIAL:
                self._compare()
        self._outstanding = max(outstanding, self._outstanding * _FADE)
        if not self._waits or self._outstanding < _LEAST * _PART:
            return 0.0
        return min(self._outstanding / _PART * self._pace, _LONGEST)

    def _compare(self) -> None:
        pace = self._seconds / self._commands
        self._commands, self._seconds = 0, 0.0
        if self._left:
            self._left -= 1
            if not self._left:
                self._waits = False
        elif self._waits:
            self._waits = pace < self._pace * _BETTER
            self._left = _TERM
        else:
            self._pace, self._waits = pace, True
