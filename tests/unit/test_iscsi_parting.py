# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes along with a target node that another process serves from now on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.base import BdevRegistry
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import Busy
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi import luggage, parting
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.auth import Auth
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.target import IscsiTarget
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.erase import Eraser
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.reservations import Identity
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.sense import SanitizeFailed
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.unit import Modes, UnitState

NAME = "iqn.2016-06.io.spdk:node"
SAVED: dict[str, Any] = {"registrants": [["a,i,0x1", "t,t,0x0001", 1, 7]], "holder": None, "type": None}


class Files:
    """What was saved, perhaps by another process."""

    saved: dict[str, Any] | None = None

    def load(self, _uuid: str) -> dict[str, Any] | None:
        return self.saved

    async def save(self, _uuid: str, saved: dict[str, Any] | None) -> None:
        self.saved = saved


class Place:
    """A process that knows a target node; the unit behind it."""

    def __init__(self, files: Files) -> None:
        bdevs = BdevRegistry()
        bdevs.create(MallocBdev("M0", 8, 512))
        self.target = IscsiTarget(bdevs, files, has_portals=False)
        self.node = self.target.create_node(NAME, "", [], [(0, "M0")], 8, Auth())

    @property
    def unit(self) -> UnitState:
        return self.node.device.luns[0].state


ANYBODY = Identity("a,i,0x1", "t,t,0x0001", 1)


def luggage_of(place: Place) -> luggage.Luggage:
    packed: luggage.Luggage = json.loads(json.dumps(luggage.pack([place.node], luggage.units_of([place.node]))))
    return packed


def test_what_is_in_memory_goes_along() -> None:
    async def move() -> None:
        old, new = Place(Files()), Place(Files())
        unit = old.unit
        unit.reservations.register(ANYBODY, [ANYBODY], 0, 7, ignore=False, aptpl=False)
        unit.modes = Modes(write_cache=False)
        unit.loaded = False
        unit.erasure = Eraser.cut_short(unit, sanitizes=True, may_exit=True)
        await parting.see_off(old.target, [NAME], 0, until_rest=True)
        assert (old.node.moved, new.node.moved) == (True, False)
        parting.take_over(new.target, [NAME], luggage_of(old))
        assert luggage_of(new) == luggage_of(old)
        assert new.unit.reservations.registrants == {ANYBODY: 7}
        assert not new.unit.reservations.aptpl
        assert new.unit.write_through
        assert new.unit.erasure
        assert isinstance(new.unit.erasure.refusal(), SanitizeFailed)

    asyncio.run(move())


def test_what_was_there_before_does_not_come_back() -> None:
    async def move() -> None:
        old, new = Place(Files()), Place(Files())
        new.unit.reservations.registrants[ANYBODY] = 7
        new.unit.loaded = False
        parting.take_over(new.target, [NAME], luggage_of(old))
        assert luggage_of(new) == luggage_of(old)
        assert not new.unit.guarded

    asyncio.run(move())


def test_a_unit_of_which_the_luggage_does_not_tell_is_left_alone() -> None:
    """Nor is its file touched: what is in memory here is not what it is about."""

    async def move() -> None:
        files = Files()
        old, new = Place(Files()), Place(files)
        new.unit.reservations.registrants[ANYBODY] = 7
        files.saved = SAVED
        units = parting.take_over(new.target, [NAME], luggage.pack([old.node], []))
        await parting.save_reservations(new.target, units)
        assert new.unit.reservations.registrants == {ANYBODY: 7}
        assert files.saved == SAVED

    asyncio.run(move())


def test_files_have_what_came_along() -> None:
    """Whoever served the node before may have ended before it had saved what it told."""

    async def move() -> None:
        files = Files()
        old, new = Place(Files()), Place(files)
        old.unit.reservations.register(ANYBODY, [ANYBODY], 0, 7, ignore=False, aptpl=True)
        units = parting.take_over(new.target, [NAME], luggage_of(old))
        await parting.save_reservations(new.target, units)
        assert files.saved == SAVED
        units = parting.take_over(new.target, [NAME], luggage_of(Place(Files())))
        await parting.save_reservations(new.target, units)
        assert files.saved is None

    asyncio.run(move())


def test_a_node_that_stays_is_as_it_was() -> None:
    async def move() -> None:
        place = Place(Files())
        place.unit.reservations.registrants[ANYBODY] = 7
        await parting.see_off(place.target, [NAME], 0, until_rest=True)
        parting.take_over(place.target, [NAME], None)
        assert not place.node.moved
        assert place.unit.reservations.registrants

    asyncio.run(move())


class Erasing:
    """An erasure whose steps take as long as the test wants."""

    def __init__(self, place: Place) -> None:
        self.steps = 0
        self.may_go_on = asyncio.Event()
        unit = place.unit
        unit.bdev.num_blocks = 2**20  # many steps
        self.eraser = Eraser(unit, [self._step], sanitizes=True)
        self.eraser.begin()

    async def _step(self, _offset: int, _length: int) -> None:
        self.steps += 1
        await self.may_go_on.wait()


def test_an_erasure_does_not_hold_a_node_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends as failed at its next step, and goes along like that."""

    async def move() -> None:
        old, new = Place(Files()), Place(Files())
        erasing = Erasing(old)
        leaving = asyncio.ensure_future(parting.see_off(old.target, [NAME], 0, until_rest=True))
        while not erasing.eraser.is_called_off:
            await asyncio.sleep(0.001)
        assert not leaving.done()  # nothing lands late
        erasing.may_go_on.set()
        await leaving
        assert erasing.steps == 1
        parting.take_over(new.target, [NAME], luggage_of(old))
        assert new.unit.erasure
        assert isinstance(new.unit.erasure.refusal(), SanitizeFailed)

    monkeypatch.setattr(parting, "_ERASE_SECONDS", 0.01)
    asyncio.run(move())


def test_a_step_of_an_erasure_that_does_not_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def move() -> None:
        old = Place(Files())
        erasing = Erasing(old)
        with pytest.raises(Busy, match="still work on 1 commands"):
            await parting.see_off(old.target, [NAME], 0, until_rest=True)
        erasing.may_go_on.set()
        await parting.at_rest(old.target, [NAME])

    monkeypatch.setattr(parting, "_ERASE_SECONDS", 0.01)
    monkeypatch.setattr(parting, "_REST_SECONDS", 0.01)
    asyncio.run(move())
