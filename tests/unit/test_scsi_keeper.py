# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What outlives a process is told to the keeper before anybody is told that it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi import sense
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.device import Device, Nexus, Task
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.dispatch import execute, prepare
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.erase import Eraser
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.unit import Options, Units, UnitState
from scsi_bench import BLOCK, BLOCKS, NAME

REGISTER = "5f00 0000 0000 0000 1800", bytes(8) + (7).to_bytes(8, "big") + bytes(8)
SELECT = "1510 0000 1800", bytes(4) + bytes((0x08, 0x12)) + bytes(18)  # the caching page, without WCE
EJECT = "1b00 0000 0200", b""
FORMAT, ERASE_IMMEDIATELY = ("0400 0000 0000", b""), ("4882 0000 0000 0000 0000", b"")
EXIT_FAILURE_MODE = "481f 0000 0000 0000 0000", b""
STANDBY = "a40a 0000 0000 0000 0008 0000", bytes((0, 0, 0, 0, 2, 0, 0, 1))


class Keeper:
    """Takes its time."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.future: asyncio.Future[None] | None = None

    def unit_changed(self, unit: UnitState) -> None:
        self.told.append(unit)

    def access_changed(self, device: Device) -> None:
        self.told.append(device)

    def kept(self) -> Awaitable[None] | None:
        return self.future


def begin(keeper: Keeper, cdb: str, data: bytes) -> asyncio.Future[Task]:
    units = Units()
    units.keeper = keeper
    device = Device(NAME, units)
    device.set_ports([1])
    lun = device.add(0, MallocBdev("M", BLOCKS, BLOCK), Options(removable=True))
    nexus = Nexus(device, "iqn.x:a,i,0x1", f"{NAME},t,0x0001", relative_port=1)
    device.nexuses.append(nexus)
    task = Task(nexus, lun, bytes.fromhex(cdb).ljust(16, b"\0"))
    task.data_out = data[: prepare(task)]
    if cdb == EXIT_FAILURE_MODE[0]:
        lun.state.erasure = Eraser.cut_short(lun.state, sanitizes=True, may_exit=True)
    done: asyncio.Future[Task] = asyncio.get_running_loop().create_future()
    execute(task, done.set_result)
    return done


@pytest.mark.parametrize(
    ("cdb", "data"), [REGISTER, SELECT, EJECT, STANDBY, FORMAT, ERASE_IMMEDIATELY, EXIT_FAILURE_MODE]
)
def test_a_change_is_answered_when_it_is_kept(cdb: str, data: bytes) -> None:
    async def run() -> None:
        keeper = Keeper()
        keeper.future = asyncio.get_running_loop().create_future()
        done = begin(keeper, cdb, data)
        for _turn in range(5):
            await asyncio.sleep(0)
        assert len(keeper.told) == 1
        assert not done.done()
        keeper.future.set_result(None)
        assert (await asyncio.wait_for(done, 10)).status == sense.GOOD

    asyncio.run(run())


def test_a_unit_is_formatted_when_it_is_kept_that_it_is() -> None:
    """Else it would have failed for who has to do with the unit later."""

    async def run() -> None:
        keeper = Keeper()
        done = begin(keeper, *FORMAT)
        keeper.future = asyncio.get_running_loop().create_future()
        for _turn in range(10):
            await asyncio.sleep(0)
        assert len(keeper.told) == 2
        assert not done.done()
        keeper.future.set_result(None)
        assert (await asyncio.wait_for(done, 10)).status == sense.GOOD

    asyncio.run(run())


def test_a_format_whose_beginning_cannot_be_kept_erases_nothing() -> None:
    async def run() -> None:
        keeper = Keeper()
        keeper.future = asyncio.get_running_loop().create_future()
        done = begin(keeper, *FORMAT)
        keeper.future.set_exception(OSError("nobody is there"))
        task = await asyncio.wait_for(done, 10)
        assert task.status == sense.CHECK_CONDITION
        assert len(keeper.told) == 1

    asyncio.run(run())


def test_a_reset_is_done_when_it_is_kept() -> None:
    async def run() -> None:
        keeper = Keeper()
        unit = UnitState(MallocBdev("M", BLOCKS, BLOCK), keeper)
        assert unit.reset() is None
        keeper.future = asyncio.get_running_loop().create_future()
        assert unit.reset() is keeper.future
        assert keeper.told == [unit, unit]

    asyncio.run(run())


def test_what_changes_nothing_is_not_told() -> None:
    async def run() -> None:
        keeper = Keeper()
        assert (await begin(keeper, "1a00 0800 ff00", b"")).status == sense.GOOD
        assert (await begin(keeper, "5e00 0000 0000 0000 ff00", b"")).status == sense.GOOD
        assert keeper.told == []

    asyncio.run(run())
