# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What bdevs do with those that they are made of. It is counted there, as what initiators do is counted at the bdev of
their LUN: bdev_get_iostat tells of every bdev what it had to do, as SPDK's does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from time import monotonic_ns
from typing import Any, Callable, Final

from .base import Bdev, Buffer
from .statistics import Tally

_DONE: Final = frozenset({bytes, bytearray, memoryview, type(None)})
_READ, _WRITE, _UNMAP = "read", "write", "unmap"
_OTHER: Final = ""
"""Of these only errors are counted, as SPDK does."""


def read(base: Bdev, offset: int, length: int) -> Buffer | Awaitable[Buffer]:
    result: Buffer | Awaitable[Buffer] = _counted(base, _READ, length, base.read, offset, length)
    return result


def write(base: Bdev, offset: int, data: Buffer) -> Awaitable[Any] | None:
    result: Awaitable[Any] | None = _counted(base, _WRITE, len(data), base.write, offset, data)
    return result


def write_through(base: Bdev, offset: int, data: Buffer) -> Awaitable[Any] | None:
    result: Awaitable[Any] | None = _counted(base, _WRITE, len(data), base.write_through, offset, data)
    return result


def unmap(base: Bdev, offset: int, length: int) -> Awaitable[Any] | None:
    result: Awaitable[Any] | None = _counted(base, _UNMAP, length, base.unmap, offset, length)
    return result


def write_zeroes(base: Bdev, offset: int, length: int) -> Awaitable[Any] | None:
    result: Awaitable[Any] | None = _counted(base, _OTHER, 0, base.write_zeroes, offset, length)
    return result


def flush(base: Bdev) -> Awaitable[Any] | None:
    result: Awaitable[Any] | None = _counted(base, _OTHER, 0, base.flush)
    return result


def _counted(base: Bdev, kind: str, length: int, operation: Callable[..., Any], *arguments: Any) -> Any:
    begun = monotonic_ns()
    try:
        result = operation(*arguments)
    except OSError:
        base.stats.errors += 1
        raise
    if type(result) in _DONE:
        _count(base, kind, length, begun)
        return result
    if isinstance(result, asyncio.Future):  # which it stays: a coroutine around it would need a task of its own
        result.add_done_callback(partial(_note, base, kind, length, begun))
        return result
    return _awaited(base, kind, length, begun, result)


def _count(base: Bdev, kind: str, length: int, begun: int) -> None:
    if kind:
        tally: Tally = getattr(base.stats, kind)
        tally.add(monotonic_ns() - begun, 1, length)


def _note(base: Bdev, kind: str, length: int, begun: int, future: asyncio.Future[Any]) -> None:
    if future.cancelled():
        return
    error = future.exception()
    if error is None:
        _count(base, kind, length, begun)
    elif isinstance(error, OSError):
        base.stats.errors += 1


async def _awaited(base: Bdev, kind: str, length: int, begun: int, pending: Awaitable[Any]) -> Any:
    try:
        result = await pending
    except OSError:
        base.stats.errors += 1
        raise
    _count(base, kind, length, begun)
    return result
