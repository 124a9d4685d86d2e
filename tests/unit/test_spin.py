# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking for more before sleeping: for how long, and whether at all."""

from __future__ import annotations

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine import spin as spin_module
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.spin import Spin

EVENT = [(12345, 1)]
A_LOOK = 0.00002


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(spin_module, "monotonic", clock)
    return clock


class Epoll:
    """Gives what it is told to give; notes how long it would have waited."""

    def __init__(self, clock: Clock, *answers: list[tuple[int, int]]) -> None:
        self.waits: list[float | None] = []
        self._answers = list(answers)
        self._clock = clock

    def poll(self, timeout: float | None, _most: int) -> list[tuple[int, int]]:
        self.waits.append(timeout)
        self._clock.now += A_LOOK
        return self._answers.pop(0) if self._answers else []


def test_nothing_that_is_to_run_waits_while_spinning(clock: Clock) -> None:
    spin = Spin(0.01)
    epoll = Epoll(clock, EVENT)
    spin.poll(epoll.poll, None, 1)
    assert spin.poll(epoll.poll, 0, 1) == []
    assert epoll.waits == [0, 0], "it is not asked again"
    begin = clock.now
    assert spin.poll(epoll.poll, 0.0001, 1) == []
    assert 0.0001 <= clock.now - begin < 0.0002, "nor longer than the next timer takes"


def test_spinning_ends_with_waiting(clock: Clock) -> None:
    spin = Spin(0.0001)
    epoll = Epoll(clock, EVENT)
    assert spin.poll(epoll.poll, None, 1) == EVENT
    assert spin.poll(epoll.poll, None, 1) == []
    assert epoll.waits[0] == 0, "an event that is there is not waited for"
    assert set(epoll.waits[1:-1]) == {0}, "for a while after an event"
    assert 3 <= len(epoll.waits) - 2 <= 6
    assert epoll.waits[-1] is None, "then it is waited for without using the processor"
    assert spin.poll(epoll.poll, None, 1) == []
    assert epoll.waits[-2:] == [0, None], "and no longer asked twice"


@pytest.mark.parametrize(("seconds", "always"), [(0.0001, True), (0.0, False), (None, False)])
def test_only_what_was_asked_for_spins_after_every_event(seconds: float | None, always: bool) -> None:
    spin = Spin(seconds)
    assert spin.always == always
    assert spin.tries() == (seconds is None)


def chances(spin: Spin, clock: Clock, found: list[bool]) -> list[bool]:
    """Which of these commands, each alone, the next one was looked for after; ``found``: it would come at once."""
    looked = []
    for each in found:
        looked.append(spin.tries())
        if looked[-1]:
            epoll = Epoll(clock, [], EVENT) if each else Epoll(clock)
            begin = clock.now
            assert spin.poll(epoll.poll, None, 1) == (EVENT if each else [])
            assert clock.now - begin < 0.0002, "not for long"
            assert (None in epoll.waits) != each
    return looked


def test_it_is_looked_for_the_next_command_as_long_as_most_come(clock: Clock) -> None:
    often = [True, True, True, True, False] * 100
    assert all(chances(Spin(None), clock, often))


def test_commands_that_come_seldom_are_nearly_never_looked_for(clock: Clock) -> None:
    spin = Spin(None)
    looked = chances(spin, clock, [False] * 1000)
    assert 4 <= sum(looked) <= 40
    assert any(looked[-100:]), "it is tried again now and then,"
    later = chances(spin, clock, [True] * 1000)
    assert all(later[-900:]), "and when they come soon at last, they are looked for"


def test_half_of_them_are_too_few(clock: Clock) -> None:
    looked = chances(Spin(None), clock, [True, False] * 1000)
    assert sum(looked) < 200
