# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many sessions, and connections that come and go. ``make bench CROWD=1`` measures the same at full size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from benchmark.crowd import (
    KIB_A_SESSION,
    answer_pings,
    crowded_engine,
    open_files,
    open_session,
    resident,
    settled,
)
from engine_process import Engine
from pdu import cdb, wire
from pdu.initiator import Initiator

SESSIONS = 100
GOOD = 0


class Place(NamedTuple):
    """An engine for many sessions, which pings idle ones every second."""

    engine: Engine
    address: tuple[str, int]
    node: str

    def open(self, number: int) -> Initiator:
        return open_session(self.address, self.node, number)


@pytest.fixture
def place(unpacked: Path) -> Iterator[Place]:
    engine, address, node = crowded_engine(unpacked, SESSIONS, nop_in_interval=1, nop_timeout=30)
    yield Place(engine, address, node)
    engine.remove()


def test_idle_sessions_take_little_memory_and_all_stay(place: Place) -> None:
    with ExitStack() as stack:
        stack.enter_context(place.open(SESSIONS))  # what is made once is made now
        before = resident(place.engine)
        crowd = [stack.enter_context(place.open(number)) for number in range(SESSIONS)]
        assert resident(place.engine) - before <= SESSIONS * 2 * KIB_A_SESSION  # memory is taken in larger pieces
        assert answer_pings(crowd, 3) >= SESSIONS
        assert len(place.engine.rpc("iscsi_get_connections")) == SESSIONS + 1


def test_connections_that_come_and_go_leave_no_file_open(place: Place) -> None:
    with place.open(0) as stays:
        settled_files = open_files(place.engine)
        for number in range(1, SESSIONS):
            with place.open(number) as initiator:
                if number % 3 == 0:
                    initiator.send(initiator.logout())
                    initiator.receive()
                elif number % 3 == 1:
                    initiator.send(bytes(initiator.nop_out(bytes(1000)))[:100])
                else:
                    write = wire.FINAL | wire.WRITE | wire.SIMPLE
                    initiator.send(initiator.command(cdb.write_10(0, 8), flags=write, length=4096))
        stays.send(stays.logout())
        stays.receive()
    settled(place.engine)
    assert open_files(place.engine) <= settled_files
    with place.open(1) as initiator:
        assert initiator.execute(cdb.unit_ready()).status == GOOD
