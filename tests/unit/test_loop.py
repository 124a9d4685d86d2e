# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event loop: callbacks are called directly, and nothing of asyncio suffers from it."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.loop import Loop
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.spin import Spin

SECONDS = 20


@pytest.fixture(params=[0.0, 0.0001, None], ids=["waiting", "spinning", "by itself"])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    loop = Loop(request.param)
    yield loop
    loop.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


@pytest.fixture
def busy(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> list[int]:
    """A descriptor that is ready all the time; how often its callback was called."""
    calls = [0]

    def count() -> None:
        calls[0] += 1

    pair[1].send(b"never read")
    loop.add_reader(pair[0], count)
    return calls


def test_a_timer_runs_while_a_descriptor_is_always_ready(loop: Loop, busy: list[int]) -> None:
    async def main() -> int:
        await asyncio.sleep(0.02)
        return busy[0]

    assert loop.run_until_complete(asyncio.wait_for(main(), SECONDS)) > 1


def test_a_timer_that_a_callback_sets_is_not_later_than_one_that_was_set_before(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    order: list[str] = []

    async def main() -> None:
        done = loop.create_future()

        def soon() -> None:
            ours.recv(10)
            loop.call_later(0.01, order.append, "soon")
            loop.call_later(0.01, done.set_result, None)

        late = loop.call_later(SECONDS, order.append, "late")
        loop.add_reader(ours, soon)
        theirs.send(b"x")
        await done
        late.cancel()

    loop.run_until_complete(main())
    assert order == ["soon"]


def test_another_thread_is_heard_while_a_descriptor_is_always_ready(loop: Loop, busy: list[int]) -> None:
    async def main() -> str:
        assert await loop.run_in_executor(None, threading.get_ident) != threading.get_ident()
        return "heard"

    assert loop.run_until_complete(asyncio.wait_for(main(), SECONDS)) == "heard"
    assert busy[0]


def test_a_stream_is_served_while_a_descriptor_is_always_ready(loop: Loop, busy: list[int]) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async def main() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        answer = await reader.readline()
        writer.close()
        server.close()
        return answer

    assert loop.run_until_complete(asyncio.wait_for(main(), SECONDS)) == b"hello\n"
    assert busy[0]


def test_what_a_callback_schedules_runs_without_another_event(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair

    async def main() -> bytes:
        future: asyncio.Future[bytes] = loop.create_future()
        loop.add_reader(ours, lambda: loop.call_soon(future.set_result, ours.recv(10)))
        theirs.send(b"hello")
        received = await asyncio.wait_for(future, SECONDS)
        assert loop.remove_reader(ours)
        assert not loop.remove_reader(ours)
        return received

    assert loop.run_until_complete(main()) == b"hello"


def test_a_descriptor_has_a_reader_and_a_writer(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    seen: set[str] = set()

    async def main() -> None:
        both = loop.create_future()

        def note(what: str) -> None:
            seen.add(what)
            (loop.remove_reader if what == "read" else loop.remove_writer)(ours)
            if len(seen) == 2:
                both.set_result(None)

        loop.add_reader(ours, note, "read")
        loop.add_writer(ours, note, "write")
        theirs.send(b"x")
        await asyncio.wait_for(both, SECONDS)

    loop.run_until_complete(main())
    assert seen == {"read", "write"}


def test_a_callback_that_was_taken_away_in_the_same_round_is_not_called(loop: Loop) -> None:
    pairs = [socket.socketpair() for _each in range(2)]
    called: list[int] = []

    async def main() -> None:
        for number, (ours, theirs) in enumerate(pairs):
            theirs.send(b"x")

            def take_the_other(number: int = number) -> None:
                called.append(number)
                for each, _theirs in pairs:
                    loop.remove_reader(each)

            loop.add_reader(ours, take_the_other)
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())
    for each in (end for pair in pairs for end in pair):
        each.close()
    assert len(called) == 1


def test_a_callback_that_fails_is_reported_and_hurts_no_other(loop: Loop) -> None:
    pairs = [socket.socketpair() for _each in range(2)]
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: reported.append(context))

    async def main() -> bytes:
        future: asyncio.Future[bytes] = loop.create_future()

        def fail() -> None:
            loop.remove_reader(pairs[0][0])
            raise ValueError("a bug")

        loop.add_reader(pairs[0][0], fail)

        def succeed() -> None:
            loop.remove_reader(pairs[1][0])
            future.set_result(b"fine")

        loop.add_reader(pairs[1][0], succeed)
        for _ours, theirs in pairs:
            theirs.send(b"x")
        return await asyncio.wait_for(future, SECONDS)

    assert loop.run_until_complete(main()) == b"fine"
    for each in (end for pair in pairs for end in pair):
        each.close()
    assert [str(context["exception"]) for context in reported] == ["a bug"]


def test_a_callback_that_the_other_of_its_descriptor_took_away_is_not_called(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    called: list[str] = []

    def read() -> None:
        called.append("read")
        loop.remove_reader(ours)
        loop.remove_writer(ours)

    async def main() -> None:
        theirs.send(b"x")
        loop.add_reader(ours, read)
        loop.add_writer(ours, called.append, "write")
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())
    assert called == ["read"]


def test_a_descriptor_that_cannot_be_watched_is_forgotten(loop: Loop, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    with (tmp_path / "plain").open("wb") as file:
        ours.close()
        os.dup2(file.fileno(), number)
        with pytest.raises(PermissionError):
            loop.add_reader(number, lambda: None)
        assert not loop.remove_reader(number)
    again, other = socket.socketpair()
    os.dup2(again.fileno(), number)  # the number has another meaning now

    async def main() -> None:
        readable = asyncio.Event()
        loop.add_reader(number, readable.set)
        other.send(b"x")
        await asyncio.wait_for(readable.wait(), SECONDS)

    loop.run_until_complete(main())
    assert loop.remove_reader(number)
    os.close(number)
    for each in (theirs, again, other):
        each.close()


def test_a_descriptor_that_is_closed_already_may_be_taken_away(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    loop.add_reader(number, lambda: None)
    ours.close()
    assert loop.remove_reader(number)
    theirs.close()


def test_the_next_command_is_looked_for_only_after_one_that_came_alone(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    looks: list[float | None] = []
    poll = Spin.poll

    def noted(spin: Spin, of: Any, timeout: float | None, most: int) -> Any:
        looks.append(timeout)
        return poll(spin, of, timeout, most)

    monkeypatch.setattr(Spin, "poll", noted)
    ours, theirs = pair
    loop = Loop()

    async def main() -> list[int]:
        seen = []
        for alone in (False, True, False):
            done = loop.create_future()

            def ready(alone: bool = alone, done: asyncio.Future[None] = done) -> None:
                ours.recv(10)
                if alone:
                    loop.answered(1, 0)
                done.set_result(None)

            loop.add_reader(ours, ready)
            theirs.send(b"x")
            await done
            await asyncio.sleep(0.001)
            seen.append(len(looks))
        return seen

    try:
        assert loop.run_until_complete(asyncio.wait_for(main(), SECONDS)) == [0, 1, 1]
    finally:
        loop.remove_reader(ours)
        loop.close()


@pytest.mark.parametrize("count", [3, 40])
def test_what_is_for_the_end_of_a_round_comes_after_what_was_ready_but_not_much_later(loop: Loop, count: int) -> None:
    order: list[str] = []
    failures: list[str] = []
    pairs = [socket.socketpair() for _each in range(count)]
    loop.set_exception_handler(lambda _loop, context: failures.append(str(context["exception"])))

    def later() -> None:
        order.append("later")
        raise OSError("cannot")

    def ready(ours: socket.socket) -> None:
        ours.recv(10)
        order.append("ready")
        loop.after_round(later)

    async def main() -> None:
        for ours, theirs in pairs:
            theirs.send(b"x")
            loop.add_reader(ours, ready, ours)
        while order.count("later") < count:
            await asyncio.sleep(0)

    try:
        loop.run_until_complete(asyncio.wait_for(main(), SECONDS))
    finally:
        for ours, theirs in pairs:
            loop.remove_reader(ours)
            ours.close()
            theirs.close()
    assert failures == ["cannot"] * count, "and a failure ends nothing"
    waiting = [order[:end].count("ready") - order[:end].count("later") for end in range(len(order))]
    assert max(waiting) == min(count, 16)


class Looks:
    """What is looked for, and waited for: the timeouts, and what was found."""

    def __init__(self, watch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.timeouts: list[float | None] = []
        self.founds: list[list[tuple[int, int]]] = []
        self._watch = watch
        monkeypatch.setattr(watch, "_epoll", self)

    def poll(self, timeout: float | None, _most: int) -> list[tuple[int, int]]:
        self.timeouts.append(timeout)
        if not self.founds:
            self._watch.asyncio_wanted = True
            return []
        return self.founds.pop(0)

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def learning() -> Iterator[Loop]:
    """As it is by default."""
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def looks(learning: Loop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Looks]:
    with monkeypatch.context() as patch:
        yield Looks(learning._watch, patch)


def answers(loop: Loop, fd: int, *counts: int) -> None:
    """A descriptor whose callback answers so many commands, one number a round and then none."""
    left = list(counts)

    def callback() -> None:
        if left:
            loop.answered(left.pop(0), 32)

    loop._watch.readers[fd] = callback


@pytest.mark.parametrize(("counts", "few"), [((1, 1), True), ((2,), True), ((2, 1), False), ((3,), False)])
def test_the_next_commands_are_looked_for_when_few_came_together(
    learning: Loop, looks: Looks, counts: tuple[int, ...], few: bool
) -> None:
    for fd, count in enumerate(counts, 1001):
        answers(learning, fd, count)
    looks.founds = [[(fd, 1) for fd, _count in enumerate(counts, 1001)]]
    learning._watch.select(None)
    assert looks.timeouts[:2] == [None, 0 if few else None]


def test_who_found_a_part_of_a_command_by_looking_looks_for_the_rest(learning: Loop, looks: Looks) -> None:
    answers(learning, 1001, 1)
    looks.founds = [[(1001, 1)], [(1001, 1)]]
    learning._watch.select(None)
    assert looks.timeouts[:3] == [None, 0, 0]


def test_who_slept_until_a_part_of_a_command_came_sleeps_until_the_rest_does(learning: Loop, looks: Looks) -> None:
    answers(learning, 1001)
    looks.founds = [[(1001, 1)]]
    learning._watch.select(None)
    assert looks.timeouts == [None, None]


def test_commands_gather_until_another_initiator_sends_one(
    learning: Loop, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning._watch._gathering, "after", lambda *_numbers: 30.0)
    rounds: list[int] = []
    answers(learning, 1001, 5)
    learning._watch.readers[1002] = lambda: rounds.append(len(looks.timeouts))
    looks.founds = [[(1001, 1)], *[[(1001, 1)]] * 3, [(1001, 1), (1002, 1)]]
    learning._watch.select(None)
    assert looks.timeouts == [None, 0, 0, 0, 0, None]
    assert rounds == [5]


def test_commands_gather_only_for_a_time(learning: Loop, looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning._watch._gathering, "after", lambda *_numbers: 1e-9)
    answers(learning, 1001, 5)
    looks.founds = [[(1001, 1)]] * 3
    learning._watch.select(None)
    assert looks.timeouts == [None, 0, None, None], "once for those that gathered, and then they are waited for"


def test_who_is_never_to_use_the_processor_for_that_waits_for_nothing() -> None:
    loop = Loop(0.0)
    watch = loop._watch
    try:
        watch.answered(1, 32)
        watch._expect()
        assert not watch._spins
        assert not watch._pause
    finally:
        loop.close()


def test_what_no_number_of_commands_can_be_is_none(loop: Loop) -> None:
    loop.answered(1, 5)
    loop.answered(1, 0xFFFFFFF0)
    assert loop._watch._outstanding == 5
