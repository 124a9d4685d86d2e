# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reservations: who may do what, who learns of it, and what is kept (SPC-4 §5.12)."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi import sense, transport_id
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.device import Nexus
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.reservations import (
    Conflict,
    Identity,
    Reservations,
    Told,
    Type,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.sense import (
    InvalidRelease,
    ReservationConflict,
)
from hypothesis import given
from hypothesis import strategies as st
from scsi_bench import BLOCK, NAME, Bench

HOLDER, REGISTERED, STRANGER = (Identity(f"iqn.x:{name},i,0x1", f"{NAME},t,0x0001", 1) for name in ("h", "r", "s"))
READS, WRITES = Conflict.READ, Conflict.WRITE
CONFLICT = sense.RESERVATION_CONFLICT


def reserved(kind: Type) -> Reservations:
    made = Reservations()
    made.register(HOLDER, [HOLDER], 0, 1, ignore=False, aptpl=False)
    made.register(REGISTERED, [REGISTERED], 0, 2, ignore=False, aptpl=False)
    made.reserve(HOLDER, 1, kind)
    return made


@pytest.mark.parametrize(
    ("kind", "registered_reads", "registered_writes", "stranger_reads"),
    [
        (Type.WRITE_EXCLUSIVE, True, False, True),
        (Type.EXCLUSIVE_ACCESS, False, False, False),
        (Type.WRITE_EXCLUSIVE_REGISTRANTS_ONLY, True, True, True),
        (Type.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY, True, True, False),
        (Type.WRITE_EXCLUSIVE_ALL_REGISTRANTS, True, True, True),
        (Type.EXCLUSIVE_ACCESS_ALL_REGISTRANTS, True, True, False),
    ],
)
def test_each_type_lets_through_what_it_says(
    kind: Type, registered_reads: bool, registered_writes: bool, stranger_reads: bool
) -> None:
    made = reserved(kind)
    assert not made.forbids(HOLDER, WRITES)
    assert made.forbids(REGISTERED, READS) is not registered_reads
    assert made.forbids(REGISTERED, WRITES) is not registered_writes
    assert made.forbids(STRANGER, READS) is not stranger_reads
    assert made.forbids(STRANGER, WRITES)
    assert not made.forbids(STRANGER, Conflict.RESERVE)


def test_a_key_that_is_not_the_registered_one_is_a_conflict() -> None:
    made = reserved(Type.WRITE_EXCLUSIVE)
    with pytest.raises(ReservationConflict):
        made.register(HOLDER, [HOLDER], 9, 1, ignore=False, aptpl=False)
    with pytest.raises(ReservationConflict):
        made.release(HOLDER, 9, Type.WRITE_EXCLUSIVE)
    with pytest.raises(ReservationConflict):
        made.reserve(STRANGER, 0, Type.WRITE_EXCLUSIVE)


def test_reserving_twice_is_good_and_differently_is_a_conflict() -> None:
    made = reserved(Type.WRITE_EXCLUSIVE)
    made.reserve(HOLDER, 1, Type.WRITE_EXCLUSIVE)
    with pytest.raises(ReservationConflict):
        made.reserve(HOLDER, 1, Type.EXCLUSIVE_ACCESS)
    with pytest.raises(InvalidRelease):
        made.release(HOLDER, 1, Type.EXCLUSIVE_ACCESS)


def test_releasing_tells_the_registrants_that_were_let_in() -> None:
    assert reserved(Type.WRITE_EXCLUSIVE).release(HOLDER, 1, Type.WRITE_EXCLUSIVE) == {}
    open_to_registrants = Type.WRITE_EXCLUSIVE_REGISTRANTS_ONLY
    notices = reserved(open_to_registrants).release(HOLDER, 1, open_to_registrants)
    assert notices == {REGISTERED: Told.RESERVATIONS_RELEASED}


def test_a_holder_that_unregisters_lets_go() -> None:
    made = reserved(Type.WRITE_EXCLUSIVE_REGISTRANTS_ONLY)
    notices = made.register(HOLDER, [HOLDER], 1, 0, ignore=False, aptpl=False)
    assert (made.type, notices) == (None, {REGISTERED: Told.RESERVATIONS_RELEASED})


def test_of_all_registrants_the_last_one_lets_go() -> None:
    made = reserved(Type.WRITE_EXCLUSIVE_ALL_REGISTRANTS)
    made.register(HOLDER, [HOLDER], 1, 0, ignore=False, aptpl=False)
    assert made.holds(REGISTERED)
    made.register(REGISTERED, [REGISTERED], 2, 0, ignore=False, aptpl=False)
    assert made.type is None


def test_preempting_the_holder_takes_its_place() -> None:
    made = reserved(Type.EXCLUSIVE_ACCESS)
    notices = made.preempt(REGISTERED, 2, 1, Type.WRITE_EXCLUSIVE)
    assert notices == {HOLDER: Told.REGISTRATIONS_PREEMPTED}
    assert (made.holder, made.type, made.registrants) == (REGISTERED, Type.WRITE_EXCLUSIVE, {REGISTERED: 2})


def test_preempting_somebody_else_leaves_the_reservation() -> None:
    made = reserved(Type.EXCLUSIVE_ACCESS)
    made.preempt(HOLDER, 1, 2, Type.WRITE_EXCLUSIVE)
    assert (made.holder, made.type, made.registrants) == (HOLDER, Type.EXCLUSIVE_ACCESS, {HOLDER: 1})
    with pytest.raises(ReservationConflict):
        made.preempt(HOLDER, 1, 2, Type.WRITE_EXCLUSIVE)


def test_preempting_all_registrants_removes_everybody_else() -> None:
    made = reserved(Type.WRITE_EXCLUSIVE_ALL_REGISTRANTS)
    made.preempt(REGISTERED, 2, 0, Type.EXCLUSIVE_ACCESS)
    assert (made.holder, made.type, made.registrants) == (REGISTERED, Type.EXCLUSIVE_ACCESS, {REGISTERED: 2})


def test_reserve_of_spc2_and_persistent_reservations_exclude_each_other() -> None:
    made = Reservations()
    made.reserve_unit(HOLDER)
    assert made.forbids(STRANGER, Conflict.RESERVE)
    assert not made.forbids(STRANGER, Conflict.NEVER)
    made.release_unit(STRANGER)
    assert made.reserved_by == HOLDER
    with pytest.raises(ReservationConflict):
        reserved(Type.WRITE_EXCLUSIVE).reserve_unit(STRANGER)


_who = st.sampled_from([HOLDER, REGISTERED, STRANGER])
_action = st.sampled_from(["register", "reserve", "release", "clear", "preempt"])
_step = st.tuples(_action, _who, st.integers(0, 3), st.sampled_from(Type))


@given(st.lists(_step, max_size=20))
def test_whatever_happens_the_holder_is_registered_and_what_is_kept_comes_back(steps: list[Any]) -> None:
    made = Reservations()
    for action, who, key, kind in steps:
        own = made.registrants.get(who, 0)
        try:
            if action == "register":
                made.register(who, [who], own, key, ignore=False, aptpl=True)
            elif action == "reserve":
                made.reserve(who, own, kind)
            elif action == "release":
                made.release(who, own, kind)
            elif action == "clear":
                made.clear(who, own)
            else:
                made.preempt(who, own, key, kind)
        except sense.CommandFailed:
            continue
        if made.type is not None:
            assert made.holder in made.registrants
            assert any(made.holds(each) for each in made.registrants)
    saved = made.saved()
    if saved is not None:
        again = Reservations()
        again.restore(json.loads(json.dumps(saved)))
        assert (again.registrants, again.holder, again.type) == (made.registrants, made.holder, made.type)


# -- the commands


def register(bench: Bench, nexus: Nexus, key: int, flags: int = 0, more: bytes = b"") -> None:
    parameters = struct.pack(">QQ4xB3x", 0, key, flags) + more
    bench.good(f"5f06 000000 {len(parameters):08x} 00", parameters, nexus)


def reserve(bench: Bench, nexus: Nexus, key: int, kind: int) -> None:
    bench.good(f"5f01 {kind:02x} 0000 00000018 00", struct.pack(">QQ8x", key, 0), nexus)


def test_conflicts_come_from_the_table() -> None:
    bench = Bench()
    other = bench.connect("b")
    register(bench, bench.nexus, 1)
    reserve(bench, bench.nexus, 1, Type.EXCLUSIVE_ACCESS)
    statuses = {
        cdb: bench.run(cdb, bytes(BLOCK), other).status
        for cdb in ("120000002400", "000000000000", "28000000000000000100", "2a000000000000000100", "1a003f00ff00")
    }
    assert statuses == {
        "120000002400": sense.GOOD,
        "000000000000": sense.GOOD,
        "28000000000000000100": CONFLICT,
        "2a000000000000000100": CONFLICT,
        "1a003f00ff00": CONFLICT,
    }


def test_all_target_ports_are_registered_at_once() -> None:
    bench = Bench()
    register(bench, bench.nexus, 5, flags=0x04)
    full = bench.good("5e03 0000000000 0400 00")
    assert len(bench.lun.state.reservations.registrants) == 2
    assert full.count(b"iqn.x:a,i,0x1") == 2


def test_others_can_be_registered_by_name() -> None:
    bench = Bench()
    other = bench.connect("b")
    port = transport_id.encode("iqn.x:b,i,0x1")
    parameters = struct.pack(">QQ4xB3xL", 0, 5, 0x08, len(port)) + port
    bench.good(f"5f00 000000 {len(parameters):08x} 00", parameters)
    assert bench.lun.state.reservations.registrants == {bench.nexus.identity: 5, other.identity: 5}


def test_a_reservation_can_be_moved() -> None:
    bench = Bench()
    other = bench.connect("b", port=2)
    register(bench, bench.nexus, 1)
    reserve(bench, bench.nexus, 1, Type.WRITE_EXCLUSIVE)
    port = transport_id.encode("iqn.x:b,i,0x1")
    parameters = struct.pack(">QQxBHL", 1, 9, 0x02, 2, len(port)) + port
    bench.good(f"5f07 000000 {len(parameters):08x} 00", parameters)
    assert bench.lun.state.reservations.registrants == {other.identity: 9}
    assert bench.run("2a000000000000000100", bytes(BLOCK)).status == CONFLICT
    bench.good("2a000000000000000100", bytes(BLOCK), other)


@pytest.mark.parametrize("length", [0, 8, 23, 25])
def test_a_list_of_the_wrong_length_is_an_error(length: int) -> None:
    assert Bench().fails(f"5f00 000000 {length:08x} 00", bytes(length)) == (sense.ILLEGAL_REQUEST, 0x1A, 0x00)


@given(st.binary(max_size=80))
def test_no_transport_id_is_a_bug_of_the_engine(data: bytes) -> None:
    with contextlib.suppress(sense.InvalidFieldInParameters):
        transport_id.decode_list(struct.pack(">L", len(data)) + data)


@given(st.from_regex(r"iqn\.[a-z]{1,20},i,0x[0-9a-f]{12}", fullmatch=True))
def test_a_transport_id_reads_as_it_was_written(name: str) -> None:
    assert transport_id.decode(transport_id.encode(name)) == name
