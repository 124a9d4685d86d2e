# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Persistent reservations on the wire: between initiators, between target nodes, and over a power cut."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_process import Launch, Target
from pdu import cdb
from pdu import reservation as pr
from pdu.initiator import Initiator

BLOCK = 512
GOOD = 0
UNIT_ATTENTION, ILLEGAL_REQUEST = 6, 5
OTHER = "iqn.2016-06.io.example:other"


@pytest.fixture
def disk(launch: Launch, tmp_path: Path) -> Target:
    """An engine that keeps its state, with a file as LUN 0."""
    engine = launch(state=True)
    engine.initiator_group()
    port = engine.portal_group()
    engine.aio("D", tmp_path / "disk", size=2**20)
    return Target(engine, port, engine.node("disk", "D"))


@pytest.fixture
def initiator(target: Target) -> Iterator[Initiator]:
    """Nothing is left behind for the next test."""
    with target.login() as initiator:
        yield initiator
        out(initiator, pr.REGISTER_AND_IGNORE, 0, 0x99)
        out(initiator, pr.CLEAR, 0x99)


@pytest.fixture
def other(target: Target) -> Iterator[Initiator]:
    with target.connect(name=OTHER).login(target.name) as other:
        yield other


def out(initiator: Initiator, action: int, key: int, new: int = 0, kind: int = 0, flags: int = 0) -> int:
    parameters = pr.reserve_out_list(key, new, flags)
    return initiator.write(pr.reserve_out_cdb(action, kind), parameters, immediate=len(parameters)).status


def keys(initiator: Initiator) -> list[int]:
    return pr.keys(initiator.read(pr.reserve_in_cdb(pr.READ_KEYS), 1024).data)[1]


def write(initiator: Initiator, lba: int, data: bytes) -> int:
    return initiator.write(cdb.write_10(lba, 1), data * BLOCK, immediate=BLOCK).status


def test_a_reservation_survives_a_power_cut(disk: Target) -> None:
    with disk.login() as initiator:
        assert out(initiator, pr.REGISTER, 0, 0xA1, flags=pr.APTPL) == GOOD
        assert out(initiator, pr.RESERVE, 0xA1, kind=pr.WRITE_EXCLUSIVE) == GOOD
    disk.engine.restart(signal.SIGKILL)
    with disk.connect(name=OTHER).login(disk.name) as other:
        assert keys(other) == [0xA1]
        assert write(other, 0, b"x") == pr.RESERVATION_CONFLICT
    with disk.login() as initiator:
        assert write(initiator, 0, b"y") == GOOD
        assert out(initiator, pr.CLEAR, 0xA1) == GOOD
    disk.engine.restart(signal.SIGKILL)
    with disk.login() as initiator:
        assert keys(initiator) == []


def test_a_reservation_that_need_not_survive_does_not(disk: Target) -> None:
    with disk.login() as initiator:
        assert out(initiator, pr.REGISTER, 0, 0xA1, flags=pr.APTPL) == GOOD
        assert out(initiator, pr.REGISTER, 0xA1, 0xA2) == GOOD  # APTPL is off again
    disk.engine.restart()
    with disk.login() as initiator:
        assert keys(initiator) == []


def test_without_a_state_directory_nothing_is_promised(target: Target, initiator: Initiator) -> None:
    assert initiator.read(pr.reserve_in_cdb(pr.REPORT_CAPABILITIES), 8).data[2] & 0x01 == 0
    assert out(initiator, pr.REGISTER, 0, 0xA1, flags=pr.APTPL) != GOOD
    assert keys(initiator) == []
    assert target.engine.alive()


def test_one_disk_behind_two_target_nodes_is_one_logical_unit(target: Target, initiator: Initiator) -> None:
    node = target.engine.node("again", "Malloc0")
    with target.connect(name=OTHER).login(node) as other:
        assert out(initiator, pr.REGISTER, 0, 1) == GOOD
        assert out(initiator, pr.RESERVE, 1, kind=pr.EXCLUSIVE_ACCESS) == GOOD
        assert other.read(cdb.read_10(0, 1), BLOCK).status == pr.RESERVATION_CONFLICT
        assert out(initiator, pr.CLEAR, 1) == GOOD
        assert other.read(cdb.read_10(0, 1), BLOCK).status == GOOD


def test_who_is_preempted_learns_of_it_and_is_kept_out(initiator: Initiator, other: Initiator) -> None:
    assert out(other, pr.REGISTER, 0, 0xB1) == GOOD
    assert out(other, pr.RESERVE, 0xB1, kind=pr.WRITE_EXCLUSIVE) == GOOD
    assert out(initiator, pr.REGISTER, 0, 0xA1) == GOOD
    assert write(initiator, 1, b"a") == pr.RESERVATION_CONFLICT
    assert out(initiator, pr.PREEMPT_AND_ABORT, 0xA1, 0xB1, kind=pr.WRITE_EXCLUSIVE) == GOOD
    assert keys(initiator) == [0xA1]
    outcome = other.write(cdb.write_10(1, 1), b"b" * BLOCK, immediate=BLOCK)
    assert outcome.response.sense == (UNIT_ATTENTION, 0x2A, 0x05)
    assert write(other, 1, b"b") == pr.RESERVATION_CONFLICT
    assert write(initiator, 1, b"a") == GOOD


def test_registrations_survive_a_logout_and_reserve_does_not(target: Target, initiator: Initiator) -> None:
    with target.connect(name=OTHER).login(target.name) as other:
        assert other.execute(bytes((0x16, 0, 0, 0, 0, 0))).status == GOOD
        assert initiator.execute(cdb.unit_ready()).status == pr.RESERVATION_CONFLICT
        other.send(other.logout())
        other.receive()
        assert other.is_closed()
    assert initiator.execute(cdb.unit_ready()).status == GOOD
    with target.connect(name=OTHER).login(target.name) as other:
        assert out(other, pr.REGISTER, 0, 0xB1) == GOOD
    assert keys(initiator) == [0xB1]
