# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operations on a bdev that may take several steps; what it cannot do itself is done here."""

from __future__ import annotations

from time import monotonic_ns
from typing import Any, Callable, Final

from ..bdev.base import Bdev, Buffer, failed_at

CHUNK: Final = 1024 * 1024
"""Bytes a step: what bounds the memory of operations over ranges of any length."""


async def _settled(offset: int, operation: Callable[..., Any], *arguments: Any) -> Any:
    """The outcome of a bdev's operation; an error knows where it happened."""
    try:
        pending = operation(*arguments)
        return await pending if hasattr(pending, "__await__") else pending
    except OSError as error:
        raise failed_at(error, offset) from None


async def read(bdev: Bdev, offset: int, length: int) -> Buffer:
    if not length:
        return b""
    begun = monotonic_ns()
    data: Buffer = await _settled(offset, bdev.read_private, offset, length)
    bdev.stats.read.add(monotonic_ns() - begun, 1, length)
    return data


async def write(bdev: Bdev, offset: int, data: Buffer) -> None:
    """``data`` belongs to the device from now on."""
    if data:
        begun = monotonic_ns()
        await _settled(offset, bdev.write, offset, data)
        bdev.stats.write.add(monotonic_ns() - begun, 1, len(data))


async def flush(bdev: Bdev) -> None:
    await _settled(0, bdev.flush)


async def unmap(bdev: Bdev, offset: int, length: int) -> None:
    if length:
        begun = monotonic_ns()
        await _settled(offset, bdev.unmap, offset, length)
        bdev.stats.unmap.add(monotonic_ns() - begun, 1, length)


async def zero(bdev: Bdev, offset: int, length: int) -> None:
    if length:
        await _settled(offset, bdev.write_zeroes, offset, length)


async def fill(bdev: Bdev, offset: int, length: int, block: bytes) -> None:
    """Write the same block over a range."""
    if not any(block):
        await zero(bdev, offset, length)
        return
    pattern = memoryview(block * min(length // len(block), CHUNK // len(block)))
    while length:
        part = min(length, len(pattern))
        await write(bdev, offset, pattern[:part])
        offset += part
        length -= part


async def differs(bdev: Bdev, offset: int, data: Buffer) -> int | None:
    """Index of the first byte of ``data`` that the device does not have at ``offset``; None when it has them all."""
    view = memoryview(data)
    for at in range(0, len(view), CHUNK):
        wanted = view[at : at + CHUNK]
        found = await read(bdev, offset + at, len(wanted))
        if found != wanted:
            return at + _first_difference(memoryview(found), wanted)
    return None


def _first_difference(one: memoryview, other: memoryview) -> int:
    """Halving is fast enough, and needs no loop over bytes."""
    low, high = 0, len(one)
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


async def allocation(bdev: Bdev, offset: int, length: int) -> tuple[bool, int]:
    found: tuple[bool, int] = await _settled(offset, bdev.allocation, offset, length)
    return found
