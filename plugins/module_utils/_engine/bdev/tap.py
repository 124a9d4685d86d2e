# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is put in front of a device's own read and write while somebody wants it measured or slowed down.

A device that nobody watches is called directly: the tap shadows the methods on the one instance, and takes its shadow
away again.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Awaitable
from typing import Any, Callable, Final

from .base import Bdev, Buffer
from .histogram import Histogram
from .qos import RateLimits, Throttle

_SHADOWED: Final = ("read", "write", "write_through", "close")
_AT_ONCE: Final = 0.0005
"""Seconds that are not worth a timer."""
_PLAIN: Final = (bytes, bytearray, memoryview, type(None))


class Tap:
    """Stands in front of one device while it has limits or a histogram."""

    def __init__(self, bdev: Bdev) -> None:
        self._bdev = bdev
        self._throttle: Throttle | None = None
        self._histogram: Histogram | None = None
        self._measured: frozenset[str] = frozenset()
        self._waiting: set[asyncio.Future[None]] = set()
        self._read, self._write, self._close = bdev.read, bdev.write, bdev.close
        self._write_through = bdev.write_through

    @property
    def limits(self) -> RateLimits:
        return self._throttle.limits if self._throttle is not None else RateLimits()

    @property
    def histogram(self) -> Histogram | None:
        return self._histogram

    def set_limits(self, limits: RateLimits) -> None:
        """Of what comes from now on; what waits already keeps its place."""
        self._throttle = Throttle(limits) if any(limits) else None
        self._install()

    def set_histogram(
        self, histogram: Histogram | None, measured: frozenset[str] = frozenset(("read", "write"))
    ) -> None:
        """Count the latencies of the operations in ``measured``."""
        self._histogram, self._measured = histogram, measured
        self._install()

    def _install(self) -> None:
        place: dict[str, Any] = vars(self._bdev)
        self._bdev.tapped = self._throttle is not None or self._histogram is not None
        if not self._bdev.tapped:
            for name in _SHADOWED:
                place.pop(name, None)
        else:
            place.update(read=self._tapped_read, write=self._tapped_write, close=self._tapped_close)
            if type(self._bdev).write_through is not Bdev.write_through:  # which is made of write() and flush()
                place["write_through"] = self._tapped_write_through

    def _tapped_read(self, offset: int, length: int) -> Buffer | Awaitable[Buffer]:
        result: Buffer | Awaitable[Buffer] = self._run("read", False, length, self._read, offset, length)
        return result

    def _tapped_write(self, offset: int, data: Buffer) -> Awaitable[None] | None:
        result: Awaitable[None] | None = self._run("write", True, len(data), self._write, offset, data)
        return result

    def _tapped_write_through(self, offset: int, data: Buffer) -> Awaitable[Any] | None:
        result: Awaitable[Any] | None = self._run("write", True, len(data), self._write_through, offset, data)
        return result

    def _tapped_close(self) -> None:
        """What waits fails: the device is gone when its turn comes."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(OSError(errno.ENODEV, f"bdev {self._bdev.name} was deleted"))
        self._close()

    def _run(self, kind: str, is_write: bool, length: int, operation: Callable[..., Any], at: int, what: Any) -> Any:
        begun = time.monotonic_ns()
        wait = self._throttle.book(is_write, length) if self._throttle is not None else 0.0
        histogram = self._histogram if kind in self._measured else None
        if wait > _AT_ONCE:
            # The caller may use its buffer again when we return.
            kept = bytes(what) if is_write and self._bdev.consumes_inline else what
            return self._later(wait, histogram, begun, operation, at, kept)
        result = operation(at, what)
        if histogram is None:
            return result
        if isinstance(result, _PLAIN):
            histogram.tally(time.monotonic_ns() - begun)
            return result
        return _measured(histogram, begun, result)

    async def _later(
        self, wait: float, histogram: Histogram | None, begun: int, operation: Callable[..., Any], at: int, what: Any
    ) -> Any:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(wait, _come, turn)
        self._waiting.add(turn)
        try:
            await turn
        finally:
            timer.cancel()
            self._waiting.discard(turn)
        result = operation(at, what)
        if not isinstance(result, _PLAIN):
            result = await result
        if histogram is not None:
            histogram.tally(time.monotonic_ns() - begun)
        return result


async def _measured(histogram: Histogram, begun: int, pending: Awaitable[Any]) -> Any:
    result = await pending
    histogram.tally(time.monotonic_ns() - begun)
    return result


def _come(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


def tap_of(bdev: Bdev) -> Tap:
    """The device's tap, made when it has none."""
    if bdev.tap is None:
        bdev.tap = Tap(bdev)
    return bdev.tap
