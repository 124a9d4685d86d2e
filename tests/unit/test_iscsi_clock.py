# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timer wheel, on a loop whose time a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.clock import Clock


class Handle:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when, self.call, self.is_cancelled = when, call, False

    def cancel(self) -> None:
        self.is_cancelled = True


class Loop:
    """Just the time and the timers of an event loop."""

    def __init__(self) -> None:
        self.now = 1000.25
        self.timers: list[Handle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> Handle:
        self.timers.append(Handle(when, call))
        return self.timers[-1]

    @property
    def pending(self) -> list[Handle]:
        return [each for each in self.timers if not each.is_cancelled]

    def run_until(self, when: float) -> None:
        while True:
            due = [each for each in self.pending if each.when <= when]
            if not due:
                self.now = when
                return
            first = min(due, key=lambda each: each.when)
            first.is_cancelled = True
            self.now = max(self.now, first.when)
            first.call()


class Noted:
    """Somebody who notes when it is called."""

    def __init__(self, loop: Loop, again: float | None = None) -> None:
        self.loop, self.again, self.calls = loop, again, list[float]()

    def due(self) -> float | None:
        self.calls.append(self.loop.now)
        return self.again


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


def test_somebody_is_called_within_a_second_after_its_time(loop: Loop) -> None:
    clock, who = Clock(), Noted(loop)
    clock.watch(who, 5)
    loop.run_until(1100)
    assert len(who.calls) == 1
    assert 1005.15 <= who.calls[0] <= 1006.25
    assert not loop.pending  # nobody waits: no timer


def test_a_thousand_share_one_timer(loop: Loop) -> None:
    clock = Clock()
    crowd = [Noted(loop, again=30) for _each in range(1000)]
    for who in crowd:
        clock.watch(who, 30)
    assert len(loop.pending) == 1
    loop.run_until(1100)
    assert {len(who.calls) for who in crowd} == {3}
    assert len(loop.pending) == 1


def test_somebody_can_be_called_every_second(loop: Loop) -> None:
    clock, who = Clock(), Noted(loop, again=1)
    clock.watch(who, 1)
    loop.run_until(1011)
    assert len(who.calls) == 10


def test_a_nearer_time_is_not_missed(loop: Loop) -> None:
    clock, far, near = Clock(), Noted(loop), Noted(loop)
    clock.watch(far, 60)
    clock.watch(near, 2)
    loop.run_until(1010)
    assert (len(near.calls), len(far.calls)) == (1, 0)
    loop.run_until(1100)
    assert len(far.calls) == 1


def test_who_is_forgotten_is_not_called(loop: Loop) -> None:
    clock, who, other = Clock(), Noted(loop), Noted(loop)
    clock.watch(who, 5)
    clock.watch(other, 5)
    clock.forget(who)
    clock.forget(who)
    loop.run_until(1100)
    assert (len(who.calls), len(other.calls)) == (0, 1)
    assert len(clock) == 0


def test_who_is_forgotten_by_another_that_is_called_is_not_called(loop: Loop) -> None:
    clock = Clock()

    class Forgetful(Noted):
        other: Noted

        def due(self) -> float | None:
            clock.forget(self.other)
            return super().due()

    one, two = Forgetful(loop), Forgetful(loop)
    one.other, two.other = two, one
    clock.watch(one, 5)
    clock.watch(two, 5)
    loop.run_until(1100)
    assert len(one.calls) + len(two.calls) == 1


def test_a_bug_in_one_does_not_keep_the_others_from_being_called(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Noted):
        def due(self) -> float | None:
            raise ZeroDivisionError

    clock, broken, who = Clock(), Broken(loop), Noted(loop)
    clock.watch(broken, 5)
    clock.watch(who, 5)
    loop.run_until(1100)
    assert len(who.calls) == 1
    assert "bug in the engine" in caplog.text


def test_it_runs_on_a_real_loop() -> None:
    async def wait() -> float:
        clock, done = Clock(), asyncio.Event()

        class Waker:
            def due(self) -> float | None:
                done.set()
                return None

        clock.watch(Waker(), 0)
        await asyncio.wait_for(done.wait(), 5)
        return 1.0

    assert asyncio.run(wait())
