# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Letting commands gather: only where they come faster that way, and for how long."""

from __future__ import annotations

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.gather import Gathering

TRIAL = 4096
TERM = 16
PACE = 8e-6


class Initiator:
    """Sends a command every so many seconds, and another time where they are left to gather."""

    def __init__(self, gathering: Gathering, pace: float, pace_gathering: float, outstanding: int = 32) -> None:
        self.now = 1.0
        self._gathering = gathering
        self._pace = {False: pace, True: pace_gathering}
        self._outstanding = outstanding
        self._wait = 0.0

    def send(self, commands: int) -> list[float]:
        """What is waited after each of them."""
        waits = []
        for _each in range(commands):
            self.now += self._pace[self._wait > 0]
            self._wait = self._gathering.after(1, self._outstanding, self.now)
            waits.append(self._wait)
        return waits


def trials(waits: list[float]) -> list[bool]:
    """In which of the trials it was waited most of the time."""
    return [sum(wait > 0 for wait in waits[at : at + TRIAL]) > TRIAL / 2 for at in range(0, len(waits), TRIAL)]


def test_both_ways_are_tried_and_the_faster_one_is_kept_for_a_while() -> None:
    initiator = Initiator(Gathering(), PACE, 0.9 * PACE)
    assert trials(initiator.send(40 * TRIAL))[:38] == [False, *[True] * (1 + TERM)] * 2 + [False, True]


@pytest.mark.parametrize("pace", [0.99 * PACE, PACE, 1.5 * PACE])
def test_where_that_is_no_faster_nothing_is_waited_for(pace: float) -> None:
    initiator = Initiator(Gathering(), PACE, pace)
    assert trials(initiator.send(36 * TRIAL)) == [False, True, *[False] * TERM] * 2


@pytest.mark.parametrize(
    ("outstanding", "wait"),
    [(0, 0.0), (1, 0.0), (3, 0.0), (4, 2 * PACE), (16, 8 * PACE), (32, 100e-6), (60000, 100e-6)],
)
def test_half_of_what_is_on_its_way_is_waited_for_but_not_for_long(outstanding: int, wait: float) -> None:
    initiator = Initiator(Gathering(), PACE, PACE, outstanding)
    assert initiator.send(TRIAL + 100)[-1] == pytest.approx(wait)


def test_what_was_on_its_way_counts_for_some_time() -> None:
    gathering = Gathering()
    initiator = Initiator(gathering, PACE, PACE, 10)
    initiator.send(TRIAL + 1)
    first = gathering.after(1, 0, initiator.now + PACE)
    waits = [first, *(gathering.after(1, 0, initiator.now + PACE) for _each in range(30))]
    assert first == pytest.approx(0.95 * 5 * PACE)
    assert waits == sorted(waits, reverse=True)
    assert waits[-1] == 0


def test_time_without_commands_says_nothing_about_either_way() -> None:
    gathering = Gathering()
    initiator = Initiator(gathering, PACE, 0.9 * PACE)
    for _each in range(TRIAL // 64 + 1):
        initiator.send(64)
        initiator.now += 0.01
    assert initiator.send(2)[-1] == pytest.approx(100e-6), "and not what a pace of some milliseconds would give"
    assert gathering._pace == pytest.approx(PACE)
