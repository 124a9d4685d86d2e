# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Direct reads and writes by Linux' kernel AIO (io_submit(2)), whose completions an eventfd tells the loop.

What is asked for in one turn of the loop goes to the kernel by one system call. The kernel is told not to wait
(RWF_NOWAIT); what it cannot do so is done otherwise, which is the caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import mmap
import os
import struct
import sys
import threading
from collections import deque
from typing import Any, Callable, Final, NamedTuple

from .base import Buffer, failed_at
from .direct import buffer

DEPTH: Final = 128
"""Requests that the kernel has at a time; others wait. fs.aio-max-nr bounds the sum over all devices."""
SLOT_BYTES: Final = 16384
"""Up to this size a request uses memory that is there: mapping some costs as much as the request."""
CLOSER: Final = "kernel-aio-close"
"""Name of the thread that gives a context back."""


class _Calls(NamedTuple):
    """Numbers of system calls."""

    setup: int
    destroy: int
    getevents: int
    submit: int


_CALLS: Final = {"x86_64": _Calls(206, 207, 208, 209), "aarch64": _Calls(0, 1, 4, 2)}

_IOCB: Final = struct.Struct("<QIIHhIQQqQII")
"""struct iocb of linux/aio_abi.h, little-endian: data, key, rw_flags, opcode, priority, fd, buffer, bytes, offset,
reserved, flags, eventfd."""
_IO_EVENT: Final = struct.Struct("<QQqq")
"""struct io_event: data of the iocb, its address, result, a second result."""
_POINTER: Final = struct.Struct("<Q")
_PREAD, _PWRITE = 0, 1
_FLAG_RESFD: Final = 1

_WOULD_WAIT: Final = errno.EAGAIN
_UNABLE: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM})
"""How a kernel, a file system or a device says that it has no RWF_NOWAIT."""


class Request:
    """A read, or with ``data`` a write, of ``length`` bytes."""

    __slots__ = ("buffer", "data", "future", "length", "offset")

    def __init__(self, future: asyncio.Future[Any], offset: int, length: int, data: Buffer | None) -> None:
        self.future = future
        self.offset = offset
        self.length = length
        self.data = data
        self.buffer: memoryview | None = None
        """Its own memory, if it does not fit a slot."""

    def follow(self, other: asyncio.Future[Any]) -> None:
        """Take over how ``other`` ended, which did what was asked for."""
        if self.future.done():
            return
        if other.cancelled():
            self.future.cancel()
            return
        error = other.exception()
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(other.result())


class Queue:
    """What one process has under way on the open file ``fd``. To be made and used in the loop's own thread.

    ``landed`` is called for each request that is finished. ``otherwise`` gets, before that, those to be done another
    way: the kernel would have to wait for them, or did a part only.

    Raises OSError where there is no kernel AIO: EAGAIN when the system has no requests left (fs.aio-max-nr).
    """

    def __init__(self, fd: int, landed: Callable[[], None], otherwise: Callable[[Request], None]) -> None:
        self.usable = True
        """RWF_NOWAIT is known here, as far as one knows."""
        self._fd = fd
        self._landed = landed
        self._otherwise = otherwise
        calls = _CALLS.get(os.uname().machine)
        if calls is None or sys.maxsize < 2**32:
            raise OSError(errno.ENOSYS, f"not known on {os.uname().machine}")
        self._calls = calls
        libc: Any = ctypes.CDLL(None, use_errno=True)
        self._call: Any = libc.syscall
        self._call.argtypes = [ctypes.c_long] * 6
        self._call.restype = ctypes.c_long
        self._loop = asyncio.get_running_loop()
        self._context = self._set_up()
        self._eventfd: int = libc.eventfd(0, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._eventfd < 0:
            number = ctypes.get_errno()
            self._destroy()
            raise OSError(number, os.strerror(number))
        self._memory = mmap.mmap(-1, DEPTH * SLOT_BYTES)
        self._memory_at = _address(self._memory)
        self._iocbs = bytearray(DEPTH * _IOCB.size)
        self._pointers = bytearray(DEPTH * _POINTER.size)
        self._events = memoryview(bytearray(DEPTH * _IO_EVENT.size))
        self._iocbs_at = _address(self._iocbs)
        self._pointers_at = _address(self._pointers)
        self._events_at = _address(self._events)
        self._free = list(range(DEPTH - 1, -1, -1))
        """Slots: each an iocb and some memory. What was used last is used first."""
        self._taken: list[Request | None] = [None] * DEPTH
        self._listed = 0
        """Requests that wait for the end of the turn."""
        self._scheduled = False
        self._waiting: deque[Request] = deque()
        self._loop.add_reader(self._eventfd, self._land)

    def _set_up(self) -> int:
        context = ctypes.c_ulong(0)
        if self._call(self._calls.setup, DEPTH, ctypes.addressof(context), 0, 0, 0):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return context.value

    def read(self, offset: int, length: int) -> asyncio.Future[Any]:
        """Gives a future of the bytes."""
        return self._begin(Request(self._loop.create_future(), offset, length, None))

    def write(self, offset: int, data: Buffer) -> asyncio.Future[Any]:
        """``data`` has to stay as it is until the future is done."""
        return self._begin(Request(self._loop.create_future(), offset, len(data), data))

    def _begin(self, request: Request) -> asyncio.Future[Any]:
        if not self._free:
            self._waiting.append(request)
            return request.future
        self._list(request)
        if len(self._free) == DEPTH - 1:
            self._submit()
        elif not self._scheduled:
            # Those that follow in this turn of the loop go together.
            self._scheduled = True
            self._loop.call_soon(self._submit)
        return request.future

    def _list(self, request: Request) -> None:
        """Put it among those that the kernel is told of next."""
        length, data = request.length, request.data
        if length > SLOT_BYTES:
            try:
                request.buffer = buffer(length)
            except OSError:  # there is no memory; if that lasts, the command fails elsewhere
                self._otherwise(request)
                self._landed()
                return
        slot = self._free.pop()
        self._taken[slot] = request
        if request.buffer is not None:
            address = _address(request.buffer)
            if data is not None:
                request.buffer[:] = data
        else:
            start = slot * SLOT_BYTES
            address = self._memory_at + start
            if data is not None:
                self._memory[start : start + length] = data
        opcode = _PREAD if data is None else _PWRITE
        at = slot * _IOCB.size
        flags = os.RWF_NOWAIT
        fields = slot, 0, flags, opcode, 0, self._fd, address, length, request.offset, 0, _FLAG_RESFD, self._eventfd
        _IOCB.pack_into(self._iocbs, at, *fields)
        _POINTER.pack_into(self._pointers, self._listed * _POINTER.size, self._iocbs_at + at)
        self._listed += 1

    def _submit(self) -> None:
        self._scheduled = False
        count, self._listed = self._listed, 0
        refused = []
        at = 0
        while at < count:
            pointers = self._pointers_at + at * _POINTER.size
            done = self._call(self._calls.submit, self._context, count - at, pointers, 0, 0)
            if done > 0:
                at += done
                continue
            # The first of them is what it does not take.
            if done < 0 and ctypes.get_errno() in _UNABLE:
                self.usable = False
            (address,) = _POINTER.unpack_from(self._pointers, at * _POINTER.size)
            refused.append(self._release((address - self._iocbs_at) // _IOCB.size))
            at += 1
        for request in refused:
            self._otherwise(request)
            self._landed()
        if refused and self._waiting:
            self._start_waiting()

    def _release(self, slot: int) -> Request:
        request = self._taken[slot]
        if request is None:
            raise LookupError(f"slot {slot} is not in use")
        self._taken[slot] = None
        self._free.append(slot)
        return request

    def _land(self) -> None:
        """Hand out what is finished."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._eventfd, 8)
        count = self._call(self._calls.getevents, self._context, 0, DEPTH, self._events_at, 0)
        if count < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"io_getevents: {os.strerror(number)}")
        for slot, _iocb, result, _more in _IO_EVENT.iter_unpack(self._events[: count * _IO_EVENT.size]):
            self._finish(slot, result)
        if self._waiting:
            self._start_waiting()

    def _finish(self, slot: int, result: int) -> None:
        request = self._release(slot)
        future, length = request.future, request.length
        if future.done():
            pass  # nobody waits for it any more
        elif result == length:
            data: Buffer | None = None
            if request.data is None:
                start = slot * SLOT_BYTES
                data = request.buffer if request.buffer is not None else self._memory[start : start + length]
            future.set_result(data)
        elif result >= 0 or -result == _WOULD_WAIT:
            self._otherwise(request)
        elif -result in _UNABLE:
            self.usable = False
            self._otherwise(request)
        else:
            future.set_exception(failed_at(OSError(-result, os.strerror(-result)), request.offset))
        self._landed()

    def _start_waiting(self) -> None:
        """There is room, which is used up by one system call."""
        while self._waiting and self._free:
            request = self._waiting.popleft()
            if request.future.cancelled():
                self._landed()
            elif not self.usable:
                self._otherwise(request)
                self._landed()
            else:
                self._list(request)
        if self._listed and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._submit)

    def close(self) -> None:
        """When nothing is under way any more."""
        if not self._loop.is_closed():
            self._loop.remove_reader(self._eventfd)
        os.close(self._eventfd)
        # It takes the kernel tens of milliseconds, even when the context is idle.
        threading.Thread(target=self._destroy, name=CLOSER, daemon=True).start()

    def _destroy(self) -> None:
        self._call(self._calls.destroy, self._context, 0, 0, 0, 0)


def _address(memory: Any) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
