# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The admin queue: one command at a time, each awaited (NVMe Base 2.0, §5)."""

from __future__ import annotations

import asyncio
from typing import Callable, Final

from . import identify, status
from .queue import Command, QueuePair

DEPTH: Final = 16

_CREATE_SQ, _CREATE_CQ = 0x01, 0x05
_IDENTIFY, _ABORT, _SET_FEATURES = 0x06, 0x08, 0x09
_FEATURE_QUEUES: Final = 0x07
_CONTIGUOUS: Final = 1
_INTERRUPTS: Final = 2

ADMIN_SECONDS: Final = 30.0


class _AdminCommand(Command):
    def __init__(
        self, future: asyncio.Future[int], opcode: int, nsid: int, cdw10: int, cdw11: int, cdw12: int, prp1: int
    ) -> None:
        super().__init__(opcode, nsid, cdw10, cdw11, cdw12)
        self.prp1 = prp1
        self.future = future

    def finish(self, outcome: int, result: int) -> None:
        if self.future.done():
            return
        if outcome:
            self.future.set_exception(status.error(outcome, f"admin command {self.opcode:02x}h"))
        else:
            self.future.set_result(result)


class Admin:
    """``page`` is DMA memory of 4 KiB, with its bus address, where Identify puts its answer."""

    def __init__(
        self, queue: QueuePair, page: tuple[memoryview, int], wake: Callable[[], None], seconds: float = ADMIN_SECONDS
    ) -> None:
        self.queue = queue
        self.seconds = seconds
        self._page, self._page_bus = page
        self._wake = wake
        self._turn = asyncio.Lock()
        self.busy = False
        """A command is in flight."""

    async def identify(self, cns: int, nsid: int = 0) -> memoryview:
        """4 KiB, overwritten by the next call. Raises OSError."""
        await self._execute(_IDENTIFY, nsid, cns, prp1=self._page_bus)
        return self._page

    async def identify_or_nothing(self, cns: int, nsid: int = 0) -> memoryview:
        """For what a controller may not know."""
        try:
            return await self.identify(cns, nsid)
        except asyncio.TimeoutError:
            raise
        except OSError:
            return memoryview(bytes(identify.BYTES))

    async def request_queues(self, wanted: int) -> int:
        """Ask for I/O queue pairs; gives how many there may be."""
        result = await self._execute(_SET_FEATURES, 0, _FEATURE_QUEUES, (wanted - 1) << 16 | wanted - 1)
        return min(result & 0xFFFF, result >> 16) + 1

    async def create_queues(self, number: int, depth: int, bus: tuple[int, int], vector: int | None) -> None:
        """The completion and the submission queue at these bus addresses; ``vector`` None is without interrupts."""
        submission, completion = bus
        flags = _CONTIGUOUS if vector is None else _CONTIGUOUS | _INTERRUPTS | vector << 16
        size = (depth - 1) << 16 | number
        await self._execute(_CREATE_CQ, 0, size, flags, prp1=completion)
        await self._execute(_CREATE_SQ, 0, size, number << 16 | _CONTIGUOUS, prp1=submission)

    async def abort(self, queue: int, cid: int) -> bool:
        """True when the controller has aborted the command, whose completion then comes."""
        return not await self._execute(_ABORT, 0, cid << 16 | queue) & 1

    async def _execute(
        self, opcode: int, nsid: int, cdw10: int = 0, cdw11: int = 0, cdw12: int = 0, prp1: int = 0
    ) -> int:
        """Dword 0 of the completion. Raises OSError, asyncio.TimeoutError when the controller does not answer."""
        async with self._turn:
            future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            if not self.queue.free:
                raise asyncio.TimeoutError
            self.queue.start(_AdminCommand(future, opcode, nsid, cdw10, cdw11, cdw12, prp1))
            self.queue.ring()
            self.busy = True
            self._wake()
            try:
                return await asyncio.wait_for(future, self.seconds)
            finally:
                self.busy = False
