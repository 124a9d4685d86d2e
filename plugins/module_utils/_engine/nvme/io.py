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
from typing import Callable, Final, Union

from . import status
from .memory import LARGEST, PAGE, DmaMemory, Piece
from .queue import Command, QueuePair

FLUSH, WRITE, READ, COMPARE, WRITE_ZEROES, DATASET_MANAGEMENT = 0x00, 0x01, 0x02, 0x05, 0x08, 0x09

MAX_TRIES: Final = 4
_RETRY_SECONDS: Final = 0.05
_RANGE: Final = struct.Struct("<IIQ")
"""Of Dataset Management: attributes, blocks, first block."""
_DEALLOCATE: Final = 1 << 2
_FUA: Final = 1 << 30

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

    __slots__ = ("data", "future", "into", "io", "length", "piece", "tries")

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
        self.io = io
        self.opcode = opcode
        self.nsid = nsid
        self.cdw10 = cdw10
        self.cdw11 = cdw11
        self.cdw12 = cdw12
        self.prp1 = self.prp2 = 0
        self.cid = -1
        self.deadline = 0.0
        self.length = length
        self.data = data
        self.into = into
        self.piece: Piece | None = None
        self.tries = 0
        self.future: asyncio.Future[bytes] = io.loop.create_future()

    def __str__(self) -> str:
        return f"{_NAMES[self.opcode]} of namespace {self.nsid}"

    def finish(self, status: int, result: int) -> None:
        del result
        self.io.finished(self, status)


class IoChannel:
    """Commands wait here, in order, while the queue is full, DMA memory is short or the controller is reset.

    ``wake`` is called when something was started, ``seconds`` is how long a command may take.
    """

    def __init__(self, wake: Callable[[], None], seconds: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.largest = LARGEST
        """Bytes that one command moves at most."""
        self.zeroes = LARGEST
        """Bytes that one Write Zeroes covers at most."""
        self.seconds = seconds
        self.queue: QueuePair | None = None
        self._memory: DmaMemory | None = None
        self._wake = wake
        self._waiting: deque[Transfer] = deque()
        self._ringing = False
        self._resting = 0
        """Commands that wait for their next try."""
        self._refusal: tuple[int, str] | None = (errno.ENODEV, "the controller is not started")

    # What namespaces ask for; offsets and lengths are in blocks here.

    def read(self, nsid: int, lba: int, blocks: int, length: int, into: memoryview | None) -> asyncio.Future[bytes]:
        return self._submit(READ, nsid, lba, blocks - 1, length, None, into)

    def write(self, nsid: int, lba: int, blocks: int, data: Data, fua: bool) -> asyncio.Future[bytes]:
        return self._submit(WRITE, nsid, lba, blocks - 1 | (_FUA if fua else 0), len(data), data)

    def compare(self, nsid: int, lba: int, blocks: int, data: Data) -> asyncio.Future[bytes]:
        """The future raises OSError (EILSEQ) when a block differs."""
        return self._submit(COMPARE, nsid, lba, blocks - 1, len(data), data)

    def write_zeroes(self, nsid: int, lba: int, blocks: int) -> asyncio.Future[bytes]:
        return self._submit(WRITE_ZEROES, nsid, lba, blocks - 1, 0)

    def deallocate(self, nsid: int, ranges: Sequence[tuple[int, int]]) -> asyncio.Future[bytes]:
        """Ranges are first block and number of blocks, at most 256 of them."""
        data = b"".join(_RANGE.pack(0, blocks, lba) for lba, blocks in ranges)
        transfer = Transfer(self, DATASET_MANAGEMENT, nsid, len(ranges) - 1, _DEALLOCATE, 0, len(data), data, None)
        return self._begin(transfer)

    def flush(self, nsid: int) -> asyncio.Future[bytes]:
        return self._submit(FLUSH, nsid, 0, 0, 0)

    def _submit(
        self,
        opcode: int,
        nsid: int,
        lba: int,
        cdw12: int,
        length: int,
        data: Data | None = None,
        into: memoryview | None = None,
    ) -> asyncio.Future[bytes]:
        return self._begin(Transfer(self, opcode, nsid, lba & 0xFFFFFFFF, lba >> 32, cdw12, length, data, into))

    # How they get there and back

    def _begin(self, transfer: Transfer) -> asyncio.Future[bytes]:
        if self._refusal is not None:
            transfer.future.set_exception(OSError(*self._refusal))
        elif self._waiting or not self._start(transfer):
            if transfer.data is not None:
                transfer.data = bytes(transfer.data)  # the caller may reuse its buffer when we return
            self._waiting.append(transfer)
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
            transfer.prp1, transfer.prp2 = piece.prps(length)
        transfer.deadline = self.loop.time() + self.seconds
        queue.start(transfer)
        if queue.outstanding == 1:
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

    def finished(self, transfer: Transfer, status_field: int) -> None:
        if not status_field:
            self._succeed(transfer)
        elif status.may_pass(status_field) and transfer.tries + 1 < MAX_TRIES:
            transfer.tries += 1
            self._resting += 1
            self.loop.call_later(_RETRY_SECONDS, self._try_again, transfer)
        else:
            self._release(transfer)
            if not transfer.future.done():
                transfer.future.set_exception(status.error(status_field, str(transfer)))
        self._start_waiting()

    def _succeed(self, transfer: Transfer) -> None:
        data = b""
        piece = transfer.piece
        if piece is not None:
            if transfer.opcode == READ:
                if transfer.into is None:
                    data = bytes(piece.view[: transfer.length])
                else:
                    transfer.into[:] = piece.view[: transfer.length]
            piece.free()
            transfer.piece = None
        if not transfer.future.done():
            transfer.future.set_result(data)

    def _try_again(self, transfer: Transfer) -> None:
        self._resting -= 1
        if self._refusal is not None:
            self._fail(transfer, self._refusal)
            return
        self._waiting.appendleft(transfer)
        self._start_waiting()

    def _start_waiting(self) -> None:
        waiting = self._waiting
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
        return not self._waiting and not self._resting and (self.queue is None or not self.queue.outstanding)

    def resume(self, queue: QueuePair, memory: DmaMemory, transfer_bytes: int) -> None:
        """The controller works, by this queue. ``transfer_bytes`` is its limit, 0 for none."""
        self.largest = min(transfer_bytes or LARGEST, LARGEST) // PAGE * PAGE
        self.zeroes = transfer_bytes or LARGEST
        self.queue, self._memory = queue, memory
        self._refusal = None
        self._start_waiting()

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
        self._waiting.extendleft(reversed(again))

    def refuse(self, number: int, why: str) -> None:
        """Fail everything, now and from now on, with this error, until :meth:`resume`. The controller is disabled."""
        self._refusal = number, why
        queue, self.queue = self.queue, None
        self._memory = None
        commands = [each for each in queue.abandon() if isinstance(each, Transfer)] if queue is not None else []
        waiting = [*commands, *self._waiting]
        self._waiting.clear()
        for transfer in waiting:
            self._fail(transfer, self._refusal)
