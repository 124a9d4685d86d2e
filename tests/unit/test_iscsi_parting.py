# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes along with a target node that another process serves from now on."""

from __future__ import annotations

import asyncio
from typing import Any

from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.base import BdevRegistry
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi import parting
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.auth import Auth
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.target import IscsiTarget
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.reservations import Identity, Reservations
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.unit import UnitState

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


def test_reservations_go_along_though_they_are_in_no_file() -> None:
    async def move() -> None:
        files = Files()
        old, new = Place(files), Place(files)
        old.unit.reservations.registrants[Identity("a,i,0x1", "t,t,0x0001", 1)] = 7
        luggage = await parting.see_off(old.target, [NAME], 0, until_rest=True)
        assert (old.node.moved, new.node.moved) == (True, False)
        parting.take_over(new.target, [NAME], luggage)
        assert new.unit.reservations.registrants == {Identity("a,i,0x1", "t,t,0x0001", 1): 7}
        assert not new.unit.reservations.aptpl

    asyncio.run(move())


def test_what_a_process_that_is_gone_saved_is_read() -> None:
    async def move() -> None:
        files = Files()
        new = Place(files)
        files.saved = SAVED
        parting.take_over(new.target, [NAME], {})
        assert new.unit.reservations.registrants == {Identity("a,i,0x1", "t,t,0x0001", 1): 7}
        files.saved = None  # nobody is registered any more
        parting.take_over(new.target, [NAME], {})
        assert new.unit.reservations.to_plain() == Reservations().to_plain()

    asyncio.run(move())


def test_a_node_that_stays_is_as_it_was() -> None:
    async def move() -> None:
        place = Place(Files())
        place.unit.reservations.registrants[Identity("a,i,0x1", "t,t,0x0001", 1)] = 7
        await parting.see_off(place.target, [NAME], 0, until_rest=True)
        parting.take_over(place.target, [NAME], parting.NOTHING)
        assert not place.node.moved
        assert place.unit.reservations.registrants

    asyncio.run(move())
