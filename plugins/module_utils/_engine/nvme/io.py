# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that move and change blocks: started when there is room for them, tried again when that may help."""

from __future__ import annotations

import asyncio
import errno
import struct
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import Any, Callable, Final, Union

from . import status
from .memory import LARGEST, PAGE, DmaMemory, Piece
from .queue import Command, QueuePair

FLUSH, WRITE, READ, COMPARE, WRITE_ZEROES, DATASET_MANAGEMENT = 0x00, 0x01, 0x02, 0x05, 0x08, 0x09

MAX_TRIES: Final = 4
_RETRY_SECONDS: Final = 0.05
_RANGE: Final = struct.Struct("<IIQ")
"""Of Dataset Management: attributes, blocks, first block."""
_DEALLOCATE: Final = 1 << 2
FUA: Final = 1 << 30

_NAMES: Final = {
    FLUSH: "flush",
    WRITE: "write",
    READ: "read",
    COMPARE: "compare",
    WRITE_ZEROES: "write zeroes",
    DATASET_MANAGEMENT: "deallocate",
}

Data = Union[bytes, bytearray, memoryview]


class Transfer(Command):
    """A command of an I/O queue. ``data`` goes to the controller; what comes goes to ``into``, or to the result."""

    piece: Piece | None = None
    tries: int = 0

    def __init__(
        self,
        io: IoChannel,
        opcode: int,
        nsid: int,
        cdw10: int,
        cdw11: int,
        cdw12: int,
        length: int,
        data: Data | None,
        into: memoryview | None,
    ) -> None:
        # Command.__init__() written out, as this runs for every read and write.
        self.io = io
        self.opcode = opcode
        self.nsid = nsid
        self.cdw10 = cdw10
        self.cdw11 = cdw11
        self.cdw12 = cdw12
        self.length = length
        self.data = data
        self.into = into
        self.future: asyncio.Future[Any] = io.loop.create_future()
        """Of what was read; None for what reads nothing, and where ``into`` has it."""

    def __str__(self) -> str:
        return f"{_NAMES[self.opcode]} of namespace {self.nsid}"

    def finish(self, outcome: int, result: int) -> None:
        del result
        if outcome:
            self.io.failed(self, outcome)
            return
        data = None
        piece = self.piece
        if piece is not None:
            if self.opcode == READ:
                if self.into is None:
                    data = bytes(piece.view[: self.length])
                else:
                    self.into[:] = piece.view[: self.length]
            piece.free()
            self.piece = None
        if not self.future.done():
            self.future.set_result(data)
        if self.io.waiting:
            self.io.start_waiting()


class IoChannel:
    """Commands wait here, in order, while the queue is full, DMA memory is short or the controller is reset.

    ``seconds`` is how long a command may take.
    """

    def __init__(self, seconds: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.largest = LARGEST
        """Bytes that one command moves at most."""
        self.zeroes = LARGEST
        """Bytes that one Write Zeroes covers at most."""
        self.seconds = seconds
        self.queue: QueuePair | None = None
        self.waiting: deque[Transfer] = deque()
        self._memory: DmaMemory | None = None
        self._wake: Callable[[], None] = lambda: None
        self._ringing = False
        self._resting = 0
        """Commands that wait for their next try."""
        self._refusal: tuple[int, str] | None = (errno.ENODEV, "the controller is not started")

    # What namespaces ask for

    def submit(
        self,
        opcode: int,
        nsid: int,
        lba: int,
        cdw12: int,
        length: int = 0,
        data: Data | None = None,
        into: memoryview | None = None,
    ) -> asyncio.Future[Any]:
        """Start a command that moves ``length`` bytes; dword 12 is mostly the number of blocks less one, and FUA."""
        return self._begin(Transfer(self, opcode, nsid, lba & 0xFFFFFFFF, lba >> 32, cdw12, length, data, into))

    def deallocate(self, nsid: int, ranges: Sequence[tuple[int, int]]) -> asyncio.Future[Any]:
        """Ranges are first block and number of blocks, at most 256 of them."""
        data = b"".join(_RANGE.pack(0, blocks, lba) for lba, blocks in ranges)
        last = len(ranges) - 1
        return self._begin(Transfer(self, DATASET_MANAGEMENT, nsid, last, _DEALLOCATE, 0, len(data), data, None))

    # How they get there and back

    def _begin(self, transfer: Transfer) -> asyncio.Future[Any]:
        if self._refusal is not None:
            transfer.future.set_exception(OSError(*self._refusal))
        elif self.waiting or not self._start(transfer):
            if transfer.data is not None:
                transfer.data = bytes(transfer.data)  # the caller may reuse its buffer when we return
            self.waiting.append(transfer)
        return transfer.future

    def _start(self, transfer: Transfer) -> bool:
        """Hand it to the controller, if there is room."""
        queue, memory = self.queue, self._memory
        if queue is None or memory is None or not queue.free:
            return False
        length = transfer.length
        if length and transfer.piece is None:
            piece = memory.allocate(length)
            if piece is None:
                return False
            transfer.piece = piece
            if transfer.data is not None:
                piece.view[:length] = transfer.data
                transfer.data = None
            if length <= PAGE:
                transfer.prp1 = piece.bus
            else:
                transfer.prp1, transfer.prp2 = piece.prps(length)
        transfer.deadline = monotonic() + self.seconds
        queue.start(transfer)
        if len(queue.free) == queue.most - 1:
            queue.ring()
        elif not self._ringing:
            # Those that follow in this turn of the loop are told of together.
            self._ringing = True
            self.loop.call_soon(self._ring)
        self._wake()
        return True

    def _ring(self) -> None:
        self._ringing = False
        if self.queue is not None:
            self.queue.ring()

    def failed(self, transfer: Transfer, outcome: int) -> None:
        """The controller says so."""
        if status.may_pass(outcome) and transfer.tries + 1 < MAX_TRIES:
            transfer.tries += 1
            self._resting += 1
            self.loop.call_later(_RETRY_SECONDS, self._try_again, transfer)
        else:
            self._release(transfer)
            if not transfer.future.done():
                transfer.future.set_exception(status.error(outcome, str(transfer)))
        self.start_waiting()

    def _try_again(self, transfer: Transfer) -> None:
        self._resting -= 1
        if self._refusal is not None:
            self._fail(transfer, self._refusal)
            return
        self.waiting.appendleft(transfer)
        self.start_waiting()

    def start_waiting(self) -> None:
        """There may be room now."""
        waiting = self.waiting
        while waiting and self._start(waiting[0]):
            waiting.popleft()

    def _release(self, transfer: Transfer) -> None:
        if transfer.piece is not None:
            transfer.piece.free()
            transfer.piece = None

    def _fail(self, transfer: Transfer, reason: tuple[int, str]) -> None:
        self._release(transfer)
        if not transfer.future.done():
            number, why = reason
            transfer.future.set_exception(OSError(number, f"{transfer}: {why}"))

    # What the controller's life means for them

    @property
    def idle(self) -> bool:
        return not self.waiting and not self._resting and (self.queue is None or not self.queue.outstanding)

    def resume(self, queue: QueuePair, memory: DmaMemory, transfer_bytes: int, wake: Callable[[], None]) -> None:
        """The controller works, by this queue.

        ``transfer_bytes`` is its limit, 0 for none; ``wake`` is called when something was started.
        """
        self._wake = wake
        self.largest = min(transfer_bytes or LARGEST, LARGEST) // PAGE * PAGE
        self.zeroes = transfer_bytes or LARGEST
        self.queue, self._memory = queue, memory
        self._refusal = None
        self.start_waiting()

    def suspend(self) -> None:
        """The controller is about to be reset: what is in flight is done again afterwards, before all others."""
        queue, self.queue = self.queue, None
        again = []
        for command in queue.abandon() if queue is not None else ():
            if isinstance(command, Transfer):
                command.tries += 1
                if command.tries < MAX_TRIES:
                    again.append(command)
                else:
                    self._fail(command, (errno.EIO, f"given up after {MAX_TRIES} tries"))
        self.waiting.extendleft(reversed(again))

    def refuse(self, number: int, why: str) -> None:
        """Fail everything, now and from now on, with this error, until :meth:`resume`. The controller is disabled."""
        self._refusal = number, why
        queue, self.queue = self.queue, None
        self._memory = None
        commands = [each for each in queue.abandon() if isinstance(each, Transfer)] if queue is not None else []
        waiting = [*commands, *self.waiting]
        self.waiting.clear()
        for transfer in waiting:
            self._fail(transfer, self._refusal)
