# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A block device that fails when it is told to (SPDK's bdev_error): for finding out how initiators bear a bad disk."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable
from typing import Any, Callable, Final, NamedTuple

from . import beneath
from .base import Bdev, Buffer, failed_at
from .virtual import VirtualBdev

_KINDS: Final = ("read", "write", "unmap", "flush")
IO_TYPES: Final = (*_KINDS, "reset", "all", "clear")
PENDING, CORRUPT, NVME = "pending", "corrupt_data", "nvme_failure"
ERROR_TYPES: Final = ("failure", PENDING, CORRUPT, "nomem", NVME)
_ERRNOS: Final = {"failure": errno.EIO, "nomem": errno.ENOMEM, "nospace": errno.ENOSPC}
NO_SPACE: Final = "nospace"
"""Ours: the backing store is full."""

_Do = Callable[[], Any]
"""Does an operation, or begins it and gives an awaitable."""


class Injection(NamedTuple):
    """How an operation goes wrong.

    ``corrupt_value`` turns bits of the byte at ``corrupt_offset`` over. ``nvme_sct`` and ``nvme_sc`` are type and code
    of an NVMe status.
    """

    error: str
    corrupt_offset: int = 0
    corrupt_value: int = 0
    nvme_sct: int = 0
    nvme_sc: int = 0

    def failure(self, what: str) -> OSError | None:
        """How an operation fails at once, if it does; ``what`` names it."""
        if self.error == NVME:
            from ..nvme import status  # a part of the driver, which is loaded when somebody wants it

            return status.error((self.nvme_sct & 7) << 8 | self.nvme_sc & 0xFF, what)
        number = _ERRNOS.get(self.error)
        return None if number is None else OSError(number, what)


class ErrorBdev(VirtualBdev):
    """``EE_disk0`` on top of ``disk0``."""

    product_name = "Error Injection Disk"

    def __init__(self, base: Bdev, uuid: str | None) -> None:
        super().__init__(f"EE_{base.name}", base, uuid)
        self._wrong: dict[str, Injection] = {}
        self._left: dict[str, int] = {}
        self._stuck: set[asyncio.Future[None]] = set()

    def inject(self, io_type: str, injection: Injection, count: int) -> None:
        """Let the next ``count`` operations of a kind go wrong, instead of what was to go wrong with them."""
        for kind in _KINDS if io_type == "all" else (io_type,):
            self._wrong[kind], self._left[kind] = injection, count

    def clear(self) -> None:
        """Nothing goes wrong any more, and what was stuck fails."""
        self._left.clear()
        for future in self._stuck:
            if not future.done():
                future.set_exception(OSError(errno.EIO, f"bdev {self.name}: injected error"))
        self._stuck.clear()

    def resume(self) -> None:
        """Do what was stuck."""
        for future in self._stuck:
            if not future.done():
                future.set_result(None)
        self._stuck.clear()

    def read(self, offset: int, length: int) -> Buffer | Awaitable[Buffer]:
        injection = self._next("read", offset)
        if injection is None:
            return beneath.read(self.base, offset, length)
        if injection.error == PENDING:
            return self._stuck_until_resumed(lambda: beneath.read(self.base, offset, length))
        return self._corrupted(beneath.read(self.base, offset, length), injection)

    def write(self, offset: int, data: Buffer) -> Awaitable[Any] | None:
        injection = self._next("write", offset)
        if injection is None:
            return beneath.write(self.base, offset, data)
        if injection.error == PENDING:
            copy = bytes(data)  # the caller may use its buffer for something else meanwhile
            return self._stuck_until_resumed(lambda: beneath.write(self.base, offset, copy))
        return beneath.write(self.base, offset, _changed(data, injection))

    def write_through(self, offset: int, data: Buffer) -> Awaitable[Any] | None:
        return Bdev.write_through(self, offset, data)

    def unmap(self, offset: int, length: int) -> Awaitable[Any] | None:
        return self._without_data("unmap", offset, lambda: beneath.unmap(self.base, offset, length))

    def write_zeroes(self, offset: int, length: int) -> Awaitable[Any] | None:
        return self._without_data("write", offset, lambda: beneath.write_zeroes(self.base, offset, length))

    def flush(self) -> Awaitable[Any] | None:
        return self._without_data("flush", None, lambda: beneath.flush(self.base))

    def close(self) -> None:
        self.clear()

    def _next(self, kind: str, offset: int | None) -> Injection | None:
        """What goes wrong with this operation, if it is not simply an error. Raises OSError."""
        if not self._left.get(kind):
            return None
        self._left[kind] -= 1
        injection = self._wrong[kind]
        error = injection.failure(f"bdev {self.name}: injected error")
        if error is None:
            return injection
        raise error if offset is None else failed_at(error, offset)

    def _without_data(self, kind: str, offset: int | None, do: _Do) -> Awaitable[Any] | None:
        injection = self._next(kind, offset)
        if injection is not None and injection.error == PENDING:
            return self._stuck_until_resumed(do)
        pending: Awaitable[Any] | None = do()
        return pending

    async def _stuck_until_resumed(self, do: _Do) -> Any:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stuck.add(future)
        await future
        pending = do()
        return await pending if hasattr(pending, "__await__") else pending

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
