# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A block device that fails when it is told to (SPDK's bdev_error): for finding out how initiators bear a bad disk."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable
from typing import Any, Final, NamedTuple

from .base import Bdev, Buffer, failed_at
from .virtual import VirtualBdev

IO_TYPES: Final = ("read", "write", "unmap", "flush", "reset", "all", "clear")
ERROR_TYPES: Final = ("failure", "pending", "corrupt_data", "nomem")
_ERRNOS: Final = {"failure": errno.EIO, "nomem": errno.ENOMEM, "nospace": errno.ENOSPC}
NO_SPACE: Final = "nospace"
"""Ours: the backing store is full."""


class Injection(NamedTuple):
    """How an operation goes wrong; ``corrupt_value`` turns bits of the byte at ``corrupt_offset`` over."""

    error: str
    corrupt_offset: int = 0
    corrupt_value: int = 0


class ErrorBdev(VirtualBdev):
    """``EE_disk0`` on top of ``disk0``."""

    product_name = "Error Injection Disk"

    def __init__(self, base: Bdev, uuid: str | None) -> None:
        super().__init__(f"EE_{base.name}", base, uuid)
        self._wrong: dict[str, list[Injection]] = {}
        self._stuck: set[asyncio.Future[None]] = set()

    def inject(self, io_type: str, injection: Injection, count: int) -> None:
        """Let the next ``count`` operations of a kind go wrong."""
        kinds = ("read", "write", "unmap", "flush") if io_type == "all" else (io_type,)
        for kind in kinds:
            self._wrong.setdefault(kind, []).extend([injection] * count)

    def clear(self) -> None:
        """Nothing goes wrong any more, and what was stuck fails."""
        self._wrong.clear()
        for future in self._stuck:
            if not future.done():
                future.set_exception(OSError(errno.EIO, f"bdev {self.name}: injected error"))
        self._stuck.clear()

    def read(self, offset: int, length: int) -> Buffer | Awaitable[Buffer]:
        injection = self._next("read", offset)
        if injection is None:
            return self.base.read(offset, length)
        if injection.error == "pending":
            return self._never()
        return self._corrupted(self.base.read(offset, length), injection)

    def write(self, offset: int, data: Buffer) -> Awaitable[Any] | None:
        injection = self._next("write", offset)
        if injection is None:
            return self.base.write(offset, data)
        if injection.error == "pending":
            return self._never()
        return self.base.write(offset, _changed(data, injection))

    def write_through(self, offset: int, data: Buffer) -> Awaitable[Any] | None:
        return Bdev.write_through(self, offset, data)

    def unmap(self, offset: int, length: int) -> Awaitable[Any] | None:
        if self._next("unmap", offset) is not None:
            return self._never()
        return self.base.unmap(offset, length)

    def write_zeroes(self, offset: int, length: int) -> Awaitable[Any] | None:
        if self._next("write", offset) is not None:
            return self._never()
        return self.base.write_zeroes(offset, length)

    def flush(self) -> Awaitable[Any] | None:
        if self._next("flush", None) is not None:
            return self._never()
        return self.base.flush()

    def close(self) -> None:
        self.clear()

    def _next(self, kind: str, offset: int | None) -> Injection | None:
        """What goes wrong with this operation, if it is not simply an error. Raises OSError."""
        waiting = self._wrong.get(kind)
        if not waiting:
            return None
        injection = waiting.pop()
        number = _ERRNOS.get(injection.error)
        if number is None:
            return injection
        error = OSError(number, f"bdev {self.name}: injected error")
        raise error if offset is None else failed_at(error, offset)

    async def _never(self) -> Any:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stuck.add(future)
        await future

    @staticmethod
    async def _corrupted(pending: Any, injection: Injection) -> Buffer:
        data = await pending if hasattr(pending, "__await__") else pending
        return _changed(data, injection)

    def config(self) -> tuple[str, dict[str, Any]]:
        return "bdev_error_create", {"base_name": self.base.name, "uuid": self.uuid}


def _changed(data: Buffer, injection: Injection) -> bytes:
    copy = bytearray(data)
    if injection.corrupt_offset < len(copy):
        copy[injection.corrupt_offset] ^= injection.corrupt_value
    return bytes(copy)
