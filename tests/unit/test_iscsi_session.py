# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command window: laws that hold whatever comes in whatever order (RFC 7143 §4.2.2.1)."""

from __future__ import annotations

from typing import Any

from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.keys import Parameters
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.session import Held, Session
from hypothesis import given
from hypothesis import strategies as st

DEPTH = 8
STARTS = st.one_of(st.integers(0, 2**32 - 1), st.integers(2**32 - DEPTH, 2**32 - 1))
"""First command numbers, often such that the window wraps."""


def number(start: int, ahead: int) -> int:
    return (start + ahead) % 2**32


class Wire:
    """A connection that notes the commands that have their turn, and answers each at once."""

    closed = leaving = False

    def __init__(self, session: Session) -> None:
        self.session = session
        self.done: list[int] = []

    def arrive(self, cmd_sn: int) -> None:
        if self.session.take_turn(cmd_sn):
            self.done.append(cmd_sn)
            self.session.release()
        else:
            wire: Any = self
            held = Held(wire, cmd_sn.to_bytes(4, "big"), b"")
            self.session.hold(cmd_sn, held)

    def take(self, header: memoryview, _data: memoryview) -> None:
        self.arrive(int.from_bytes(header, "big"))


def session_from(start: int) -> tuple[Session, Wire]:
    session = Session(1, bytes(6), "iqn.2026-01.test:i", None, 1, Parameters(), start, DEPTH)
    return session, Wire(session)


@given(STARTS, st.permutations(range(DEPTH)))
def test_commands_have_their_turn_in_order_whatever_order_they_come_in(start: int, order: list[int]) -> None:
    session, wire = session_from(start)
    for ahead in order:
        wire.arrive(number(start, ahead))
    session.catch_up()
    assert wire.done == [number(start, ahead) for ahead in range(DEPTH)]
    assert not session.behind


@given(STARTS, st.lists(st.integers(-3, DEPTH + 3), max_size=60))
def test_no_command_has_its_turn_twice(start: int, arrivals: list[int]) -> None:
    session, wire = session_from(start)
    for ahead in arrivals:
        wire.arrive(number(start, ahead))
        session.catch_up()
    assert wire.done == [number(start, ahead) for ahead in range(len(wire.done))]


@given(STARTS, st.lists(st.tuples(st.booleans(), st.integers(-3, 2 * DEPTH)), max_size=60))
def test_the_window_never_shrinks_and_keeps_its_size_when_all_is_answered(
    start: int, steps: list[tuple[bool, int]]
) -> None:
    session, wire = session_from(start)
    for plugs, ahead in steps:
        before = session.limit
        if plugs:
            session.plug(number(start, ahead))
        else:
            wire.arrive(number(start, ahead))
        session.catch_up()
        assert (session.limit - before) % 2**32 < 2**31
        assert (session.limit - session.exp_cmd_sn) % 2**32 == DEPTH
        assert len(session.waiting) < DEPTH


@given(STARTS, st.integers(0, DEPTH - 1), st.permutations(range(DEPTH)))
def test_what_counts_as_received_has_no_turn_any_more(start: int, plugged: int, order: list[int]) -> None:
    session, wire = session_from(start)
    assert session.plug(number(start, plugged))
    for ahead in order:
        wire.arrive(number(start, ahead))
    session.catch_up()
    assert wire.done == [number(start, ahead) for ahead in range(DEPTH) if ahead != plugged]


@given(STARTS, st.integers(1, DEPTH - 1), st.permutations(range(DEPTH)))
def test_what_is_deferred_is_done_between_the_commands_before_it_and_the_others(
    start: int, point: int, order: list[int]
) -> None:
    session, wire = session_from(start)
    done_before: list[int] = []
    session.defer(number(start, point), lambda: done_before.extend(wire.done))
    for ahead in order:
        wire.arrive(number(start, ahead))
    session.catch_up()
    assert done_before == [number(start, ahead) for ahead in range(point)]
    assert len(wire.done) == DEPTH


def test_a_full_window_takes_nothing_more() -> None:
    session, _wire = session_from(5)
    assert all(session.take_turn(5 + ahead) for ahead in range(DEPTH))
    assert not session.take_turn(5 + DEPTH)
    nothing: Any = None
    session.hold(5 + DEPTH, nothing)
    assert not session.waiting
    session.release()
    assert session.take_turn(5 + DEPTH)
