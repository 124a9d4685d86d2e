# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A block device on a file or a kernel block device (SPDK's bdev_aio).

What the page cache can serve is done at once, with RWF_NOWAIT. When the page cache is not used (``direct``), the kernel
does what it can without waiting (kernel_aio). Everything else that may wait for a disk goes to the pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Callable

from ..errors import Invalid
from ..facts import BLOCK_SIZES
from . import direct as direct_io
from . import holes, kernel_aio
from .backing import Backing, grow, open_backing, remove_file
from .base import Bdev, Buffer, Submit, failed_at
from .mapping import Mapping, map_file

if TYPE_CHECKING:
    from ..sigbus import BusGuard

_LOG = logging.getLogger(__name__)

_DETOUR = 16
"""Writes that go to the pool at once after one for which the kernel would have had to wait: a hole is seldom alone."""

_NO_NOWAIT = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


class AioBdev(Bdev):
    """Made by :meth:`open`, which may block and is meant for the pool."""

    product_name = "AIO disk"

    def __init__(
        self,
        name: str,
        filename: str,
        backing: Backing,
        block_size: int,
        submit: Submit,
        readonly: bool,
        fallocate: bool,
        uuid: str | None,
        sparse: bool,
        direct: bool,
        guard: BusGuard | None,
    ) -> None:
        super().__init__(
            name, block_size or backing.block_size, backing.size // (block_size or backing.block_size), uuid
        )
        self.filename = filename
        self.readonly = readonly
        self.block_size_override = block_size != 0
        self.fallocate = fallocate
        self.unmaps = fallocate and not readonly
        self.sparse = sparse
        self.direct = direct
        self._in_memory = backing.in_memory and not direct
        self.consumes_inline = self._in_memory
        self._fd = backing.fd
        self._submit = submit
        self._in_flight = 0
        self._closed = False
        self._kernel: kernel_aio.Queue | None = None
        self._kernel_wanted = direct
        self._detour = 0
        self._guard = guard
        self._mappings: list[Mapping] = []
        """Of the file: the last one is in use, one before it may still be in the hands of the loop's thread."""
        self._map(self.size)
        self._read_nowait = self._write_nowait = not (direct or self._in_memory)

    @classmethod
    def open(
        cls,
        name: str,
        filename: str,
        submit: Submit,
        block_size: int = 0,
        readonly: bool = False,
        fallocate: bool = False,
        uuid: str | None = None,
        size: int | None = None,
        sparse: bool = False,
        direct: bool = False,
        guard: BusGuard | None = None,
        opened: int | None = None,
    ) -> AioBdev:
        """Open ``filename``; ``size`` in bytes makes or grows the file. ``block_size`` 0 is the store's own.

        ``direct`` leaves the page cache out. With a ``guard`` a file on tmpfs is written as memory is. ``opened`` as
        :func:`backing.open_backing` takes it.

        Raises Invalid or, for what the operating system refuses, EngineError.
        """
        if block_size and block_size not in BLOCK_SIZES:
            raise Invalid(f"bdev {name}: block size {block_size}: 512 and 4096 are possible")
        if size is not None and (size <= 0 or size % (block_size or BLOCK_SIZES[0])):
            raise Invalid(
                f"bdev {name}: size {size} is not a multiple of its block size {block_size or BLOCK_SIZES[0]}"
            )

        def suit(backing: Backing) -> None:
            _check_geometry(name, filename, backing, block_size)
            if direct:
                what = f"bdev {name}: {filename}"
                direct_io.switch_on(backing.fd, what)
                direct_io.check_block(backing.fd, what, block_size or backing.block_size, backing.size)

        backing = open_backing(name, filename, readonly, size, sparse, suit, opened)
        try:
            return cls(name, filename, backing, block_size, submit, readonly, fallocate, uuid, sparse, direct, guard)
        except BaseException:
            os.close(backing.fd)
            raise

    def read(self, offset: int, length: int) -> Buffer | Awaitable[Buffer]:
        memory = self.memory  # bdev_aio_rescan changes it in another thread
        if memory is not None:
            if not memory.lost:
                return memory.view[offset : offset + length]
            self.distrust()
        if self._in_memory:
            data = os.pread(self._fd, length, offset)
            if len(data) == length:
                return data
        elif self._read_nowait:
            buffer = bytearray(length)
            try:
                if os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT) == length:
                    return buffer
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno not in _NO_NOWAIT:
                    raise
                self._read_nowait = False
        elif self._kernel_wanted:
            kernel = self._kernel_queue()
            if kernel is not None:
                self._in_flight += 1
                return kernel.read(offset, length)
        return self._hand_off(self._read_blocking, offset, length)

    def read_private(self, offset: int, length: int) -> Buffer | Awaitable[Buffer]:
        if self._in_memory and not self.tapped:
            data = os.pread(self._fd, length, offset)
            return data if len(data) == length else self._hand_off(self._read_blocking, offset, length)
        return super().read_private(offset, length)

    def write(self, offset: int, data: Buffer) -> Awaitable[None] | None:
        done = 0
        if self.borrowers:
            self.recall()
        if self._in_memory:
            done = os.pwrite(self._fd, data, offset)
            if done != len(data):  # it is full, which the rest of the data will tell
                self._write_blocking(offset + done, memoryview(data)[done:])
            return None
        if self._write_nowait:
            try:
                done = os.pwritev(self._fd, [data], offset, os.RWF_NOWAIT)
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno not in _NO_NOWAIT:
                    raise
                self._write_nowait = False
        elif self._detour:
            self._detour -= 1
        elif self._kernel_wanted:
            kernel = self._kernel_queue()
            if kernel is not None:
                self._in_flight += 1
                return kernel.write(offset, data)
        if done == len(data):
            return None
        return self._hand_off(self._write_blocking, offset + done, memoryview(data)[done:])

    def flush(self) -> Awaitable[None]:
        return self._hand_off(self._flush_blocking)

    def _flush_blocking(self) -> None:
        self._tell_time()
        os.fdatasync(self._fd)

    def _tell_time(self) -> None:
        """What is written as memory does not always change the file's time of modification."""
        if self.touched:
            self.touched = False
            with contextlib.suppress(OSError):
                os.utime(self._fd)

    def unmap(self, offset: int, length: int) -> Awaitable[None]:
        self._forget_mapping()
        return self._hand_off(holes.punch, self._fd, offset, length)

    def write_zeroes(self, offset: int, length: int) -> Awaitable[None]:
        if self.borrowers:
            self.recall()
        return self._write_zeroes_somehow(offset, length)

    async def _write_zeroes_somehow(self, offset: int, length: int) -> None:
        # In memory it is to be done before anybody else has a turn: what was lent was called back just now.
        if self._in_memory or not await self._hand_off(holes.zero, self._fd, offset, length):
            await self._write_all_zeroes(offset, length)

    def allocation(self, offset: int, length: int) -> Awaitable[tuple[bool, int]]:
        return self._hand_off(holes.allocation, self._fd, offset, length)

    def _forget_mapping(self) -> None:
        """A file with holes is not mapped: reading a hole would fill it with memory."""
        self.recall()
        self.memory = None
        self._unmap_but(0)
        self.lends_memory = False

    @property
    def descriptor(self) -> int:
        """Of the store; it is the device's."""
        return self._fd

    def _map(self, size: int) -> None:
        """On tmpfs: lend the page cache itself to READs."""
        mapping = map_file(self._fd, size, not self.readonly, self._guard) if self._in_memory else None
        if mapping is not None and self._closed:  # while another thread did this
            mapping.close()
            return
        self.memory = None if mapping is None else mapping.memory
        self.lends_memory = mapping is not None
        self._unmap_but(1)
        if mapping is not None:
            self._mappings.append(mapping)

    def _unmap_but(self, last: int) -> None:
        while len(self._mappings) > last:
            self._mappings.pop(0).close()

    def has_lost(self) -> bool:
        memory = self.memory
        if memory is None:
            return bool(self._mappings)  # which somebody found out before
        return bool(memory.lost) or os.fstat(self._fd).st_size < len(memory.view)

    def distrust(self) -> None:
        if self.memory is None:
            return
        _LOG.error("bdev %s: %s was truncated while it was served", self.name, self.filename)
        self.memory = None
        for mapping in self._mappings:
            mapping.empty()
        self.lends_memory = False

    def _hand_off(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """Let the pool do it; the file stays open until it is done, even when the device is deleted meanwhile."""
        self._in_flight += 1
        future = self._submit(function, *arguments)
        future.add_done_callback(self._landed)
        return future

    def _kernel_queue(self) -> kernel_aio.Queue | None:
        """Made for the first read or write, as a process that serves nobody must not take others' share of requests."""
        if self._kernel is None:
            try:
                self._kernel = kernel_aio.Queue(self._fd, self._landed, self._do_otherwise)
            except OSError as error:
                self._without_kernel(error)
        elif not self._kernel.usable:
            self._without_kernel(OSError(errno.EOPNOTSUPP, "it has to wait for this disk"))
        return self._kernel if self._kernel_wanted else None

    def _without_kernel(self, why: OSError) -> None:
        self._kernel_wanted = False
        level, reason = logging.INFO, why.strerror
        if why.errno == errno.EAGAIN:
            level = logging.WARNING
            reason = "the system's requests are taken. Raise the sysctl fs.aio-max-nr and make the bdev again"
        _LOG.log(level, "bdev %s: threads do its I/O, which is slower, without kernel AIO: %s", self.name, reason)

    def _do_otherwise(self, request: kernel_aio.Request) -> None:
        """The pool waits for it, and does all of it again if a part was done: so it finds out what is wrong there."""
        if request.data is None:
            future = self._hand_off(self._read_blocking, request.offset, request.length)
        else:
            self._detour = _DETOUR
            future = self._hand_off(self._write_blocking, request.offset, memoryview(request.data))
        future.add_done_callback(request.follow)

    def _landed(self, _future: asyncio.Future[Any] | None = None) -> None:
        self._in_flight -= 1
        if self._closed and not self._in_flight:
            self._close_file()

    def _close_file(self) -> None:
        """What comes too late must not find another file under the same number."""
        self._tell_time()
        fd, self._fd = self._fd, -1
        os.close(fd)
        self._kernel_wanted = False
        kernel, self._kernel = self._kernel, None
        if kernel is not None:
            kernel.close()

    def _read_blocking(self, offset: int, length: int) -> Buffer:
        buffer = direct_io.buffer(length) if self.direct else bytearray(length)
        view = memoryview(buffer)
        while view:
            try:
                got = os.preadv(self._fd, [view], offset)
            except OSError as error:
                raise failed_at(error, offset) from None
            if not got:
                raise OSError(errno.EIO, f"bdev {self.name}: {self.filename} ends at {offset}: it was truncated")
            view = view[got:]
            offset += got
        return buffer

    def _write_blocking(self, offset: int, data: memoryview) -> None:
        view = direct_io.aligned(data) if self.direct else memoryview(data)
        while view:
            try:
                done = os.pwrite(self._fd, view, offset)
            except OSError as error:
                raise failed_at(error, offset) from None
            view = view[done:]
            offset += done

    def rescan(self) -> None:
        """Take over the store's present size (bdev_aio_rescan). Raises Invalid when it is no whole number of blocks."""
        size = os.lseek(self._fd, 0, os.SEEK_END)
        if size % self.block_size or not size:
            raise Invalid(
                f"bdev {self.name}: {self.filename} now has {size} bytes, not a multiple of {self.block_size}"
            )
        # Meanwhile the loop's thread reads: there are never more blocks than there is memory for.
        self.num_blocks = min(self.num_blocks, size // self.block_size)
        self._map(size)
        self.num_blocks = size // self.block_size

    def resize(self, size: int) -> None:
        """Grow the file to ``size`` bytes; it is never shrunk. Blocks: meant for the pool. Raises EngineError."""
        if size % self.block_size:
            raise Invalid(f"bdev {self.name}: size {size} is not a multiple of its block size {self.block_size}")
        current = os.lseek(self._fd, 0, os.SEEK_END)
        if size < current:
            raise Invalid(f"bdev {self.name}: {self.filename} has {current} bytes and is never shrunk to {size}")
        if size > current:
            grow(self._fd, f"bdev {self.name}: {self.filename}", current, size, self.sparse)
        self.rescan()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.recall()
        self.memory = None
        self._unmap_but(0)
        if not self._in_flight:
            self._close_file()

    def remove_file(self) -> None:
        """Delete the file, after :meth:`close`. Raises EngineError."""
        remove_file(self.name, self.filename)

    def driver_specific(self) -> dict[str, Any]:
        return {
            "aio": {
                "filename": self.filename,
                "block_size_override": self.block_size_override,
                "readonly": self.readonly,
                "fallocate": self.fallocate,
                "nowait": False,
                **self._directness(),
            }
        }

    def config(self) -> tuple[str, dict[str, Any]]:
        return "bdev_aio_create", {
            "name": self.name,
            **({"block_size": self.block_size} if self.block_size_override else {}),
            "filename": self.filename,
            "readonly": self.readonly,
            "fallocate": self.fallocate,
            "uuid": self.uuid,
            "nowait": False,
            **self._directness(),
        }

    def _directness(self) -> dict[str, bool]:
        """Only when it is, because SPDK does not know it."""
        return {"direct": True} if self.direct else {}


def _check_geometry(name: str, filename: str, backing: Backing, block_size: int) -> None:
    effective = block_size or backing.block_size
    if effective < backing.block_size:
        raise Invalid(f"bdev {name}: block size {effective} is smaller than the {backing.block_size} of {filename}")
    if not backing.size:
        hint = "give a size to have it sized" if backing.block_size == BLOCK_SIZES[0] else "it has no medium"
        raise Invalid(f"bdev {name}: {filename} is empty: {hint}")
    if backing.size % effective:
        raise Invalid(f"bdev {name}: {filename} has {backing.size} bytes, not a multiple of {effective}")
