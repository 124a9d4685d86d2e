# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A SCSI device without a transport: commands go in as hexadecimal CDBs, tasks come out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.base import Bdev, Buffer
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi import sense
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.device import Device, Nexus, Task
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.dispatch import execute, prepare
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.unit import LogicalUnit, Options

NAME = "iqn.2016-06.io.spdk:disk1"
BLOCK = 512
BLOCKS = 64


class SlowBdev(MallocBdev):
    """Every operation takes a turn of the event loop, so that commands overlap."""

    consumes_inline = False

    def read(self, offset: int, length: int) -> Awaitable[Buffer]:  # type: ignore[override]
        return self._later(lambda: bytes(super(SlowBdev, self).read(offset, length)))

    def write(self, offset: int, data: Buffer) -> Awaitable[None]:  # type: ignore[override]
        return self._later(lambda: super(SlowBdev, self).write(offset, data))

    @staticmethod
    async def _later(operation: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        return operation()


class Bench:
    """A device with a memory disk as LUN 0, and nexuses to it through portal groups 1 and 2."""

    def __init__(self, bdev: Bdev | None = None, options: Options | None = None) -> None:
        self.device = Device(NAME)
        self.device.set_ports([1, 2])
        self.lun: LogicalUnit = self.device.add(0, bdev or MallocBdev("M", BLOCKS, BLOCK), options or Options())
        self.nexus = self.connect("a")

    def connect(self, initiator: str, port: int = 1) -> Nexus:
        nexus = Nexus(self.device, f"iqn.x:{initiator},i,0x1", f"{NAME},t,0x{port:04x}", relative_port=port)
        self.device.nexuses.append(nexus)
        return nexus

    def run(self, cdb: str, data: bytes = b"", nexus: Nexus | None = None, expected: int | None = None) -> Task:
        """The task when it is done; ``data`` is taken as far as the command wants it."""
        return asyncio.run(self._run(cdb, data, nexus or self.nexus, expected))

    async def _run(self, cdb: str, data: bytes, nexus: Nexus, expected: int | None) -> Task:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        task = Task(nexus, self.lun, bytes.fromhex(cdb).ljust(16, b"\0"))
        task.expected = expected
        wanted = prepare(task)
        task.data_out = data[:wanted]
        if task.status == sense.GOOD:
            execute(task, done.set_result)
            await asyncio.wait_for(done, 10)
        return task

    def good(self, cdb: str, data: bytes = b"", nexus: Nexus | None = None) -> bytes:
        """The data of a command that succeeds."""
        task = self.run(cdb, data, nexus)
        assert task.status == sense.GOOD, f"{cdb}: {failure(task)}"
        return bytes(task.data_in or b"")

    def fails(self, cdb: str, data: bytes = b"", nexus: Nexus | None = None) -> tuple[int, int, int]:
        """Sense key, additional sense code and qualifier of a command that fails."""
        return failure(self.run(cdb, data, nexus))

    def write(self, lba: int, data: bytes) -> None:
        self.good(f"2a00{lba:08x}00{len(data) // BLOCK:04x}00", data)

    def read(self, lba: int, blocks: int) -> bytes:
        return self.good(f"2800{lba:08x}00{blocks:04x}00")


def failure(task: Task) -> tuple[int, int, int]:
    assert task.status == sense.CHECK_CONDITION, f"status 0x{task.status:02x}"
    if task.sense[0] & 0x7F == 0x72:
        return task.sense[1] & 0xF, task.sense[2], task.sense[3]
    return task.sense[2] & 0xF, task.sense[12], task.sense[13]
