# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A namespace as a range of bytes: what is larger than a command may be is split, and put together again."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Sequence
from typing import Any, Final

from .controller import Controller
from .identify import NamespaceInfo
from .io import COMPARE, FLUSH, FUA, READ, WRITE, WRITE_ZEROES, Data, IoChannel

_MOST_ZEROED: Final = 65536
"""Blocks of a Write Zeroes."""
_MOST_DEALLOCATED: Final = 2**32 - 1
"""Blocks of a range."""


class Namespace:
    """Offsets and lengths are bytes, multiples of the block size. What is returned raises OSError when awaited."""

    def __init__(self, controller: Controller, info: NamespaceInfo) -> None:
        self.controller = controller
        self.info = info
        self._io: IoChannel = controller.io
        self._nsid = info.nsid
        self._shift = info.block_size.bit_length() - 1

    def read(self, offset: int, length: int) -> Awaitable[bytes | bytearray]:
        io, shift = self._io, self._shift
        if length <= io.largest:
            return io.submit(READ, self._nsid, offset >> shift, (length >> shift) - 1, length)
        buffer = bytearray(length)
        view = memoryview(buffer)
        parts = []
        for at, size in _cut(length, io.largest):
            part = view[at : at + size]
            parts.append(io.submit(READ, self._nsid, offset + at >> shift, (size >> shift) - 1, size, None, part))
        return _gather(parts, buffer)

    def write(self, offset: int, data: Data, fua: bool = False) -> Awaitable[object]:
        """``data`` may be reused when this returns. With ``fua`` it survives a power cut once this is done."""
        io, shift = self._io, self._shift
        flags = FUA if fua and self.controller.info.write_cache else 0
        length = len(data)
        if length <= io.largest:
            return io.submit(WRITE, self._nsid, offset >> shift, (length >> shift) - 1 | flags, length, data)
        view = memoryview(data)
        parts = []
        for at, size in _cut(length, io.largest):
            blocks = (size >> shift) - 1 | flags
            parts.append(io.submit(WRITE, self._nsid, offset + at >> shift, blocks, size, view[at : at + size]))
        return _gather(parts, None)

    def flush(self) -> Awaitable[object] | None:
        """None when there is nothing to flush: no volatile write cache."""
        return self._io.submit(FLUSH, self._nsid, 0, 0) if self.controller.info.write_cache else None

    def write_zeroes(self, offset: int, length: int) -> Awaitable[object]:
        most = min(_MOST_ZEROED << self._shift, self._io.zeroes)
        shift = self._shift
        parts = [
            self._io.submit(WRITE_ZEROES, self._nsid, offset + at >> shift, (size >> shift) - 1)
            for at, size in _cut(length, most)
        ]
        return _gather(parts, None)

    def deallocate(self, offset: int, length: int) -> Awaitable[object]:
        """What the range holds afterwards is the device's choice."""
        shift = self._shift
        ranges = [(offset + at >> shift, size >> shift) for at, size in _cut(length, _MOST_DEALLOCATED << shift)]
        return self._io.deallocate(self._nsid, ranges)

    async def compare(self, offset: int, data: Data) -> bool:
        """Does the range hold ``data``?"""
        view, shift = memoryview(data), self._shift
        parts = [
            self._io.submit(COMPARE, self._nsid, offset + at >> shift, (size >> shift) - 1, size, view[at : at + size])
            for at, size in _cut(len(view), self._io.largest)
        ]
        try:
            await _gather(parts, None)
        except OSError as error:
            if error.errno == errno.EILSEQ:
                return False
            raise
        return True


def _cut(length: int, largest: int) -> list[tuple[int, int]]:
    """Where parts of at most ``largest`` bytes begin, and how long they are."""
    return [(at, min(largest, length - at)) for at in range(0, length, largest)]


async def _gather(parts: Sequence[asyncio.Future[Any]], result: bytearray | None) -> Any:
    """Wait for all parts, the failed ones too, and give ``result``; the first failure is everybody's."""
    for outcome in await asyncio.gather(*parts, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
    return result
