# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages between two processes over a socket pair: words (JSON), bytes, and file descriptors (SCM_RIGHTS).

A message is a header with three lengths, the words, the bytes. Its descriptors travel with its first byte, so that they
are always there when the message is complete.
"""

from __future__ import annotations

import array
import asyncio
import json
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, Callable, Final, NamedTuple

_LOG = logging.getLogger(__name__)

_HEADER: Final = struct.Struct("=LLL")
_ROOM: Final = 256 * 1024
MAX_DESCRIPTORS: Final = 16
"""In one message."""


class Message(NamedTuple):
    words: dict[str, Any]
    data: bytes = b""
    descriptors: tuple[int, ...] = ()
    """They are the receiver's to close. None where there were some, and this process has too many open files."""


class Channel:
    """One end. ``on_message`` is called for each message, ``on_end`` once: nobody is there, or can be told."""

    def __init__(self, sock: socket.socket, on_message: Callable[[Message], None], on_end: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._descriptors: deque[tuple[int, ...]] = deque()
        """Of one message each."""
        self._unsent: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._closed = False
        self._failure: OSError | None = None
        """Why nothing can be sent though the other end is there."""
        self._sent: asyncio.Future[None] | None = None
        """Done when nothing is unsent; there when somebody waits for that."""
        self._loop.add_reader(sock, self._on_readable)

    @property
    def closed(self) -> bool:
        return self._closed

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, words: dict[str, Any], data: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        """The descriptors stay the caller's. What cannot be sent because the other end is gone is dropped."""
        if self._closed:
            return
        text = json.dumps(words, separators=(",", ":")).encode("ascii")
        message = b"".join((_HEADER.pack(len(text), len(data), len(descriptors)), text, data))
        self._unsent.append((memoryview(message), tuple(os.dup(each) for each in descriptors)))
        if len(self._unsent) == 1:
            self._send_queued()

    def sent(self) -> Awaitable[None] | None:
        """What to wait for until the other end can read everything, even when this process ends; None when it can.

        It raises OSError when that is never so.
        """
        if self._failure is not None:
            failed = self._loop.create_future()
            failed.set_exception(self._failure)
            return failed
        if not self._unsent:
            return None
        if self._sent is None:
            self._sent = self._loop.create_future()
        return asyncio.shield(self._sent)

    def _send_queued(self) -> None:
        """As much as the socket takes; the rest when it takes more."""
        while self._unsent:
            view, descriptors = self._unsent[0]
            try:
                sent = self._socket.sendmsg([view], _rights(descriptors))
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._socket, self._on_writable)
                return
            except (BrokenPipeError, ConnectionResetError):
                return  # the end is noticed by reading
            except OSError as error:
                self._fail(error)
                return
            _close_all(descriptors)
            if sent == len(view):
                self._unsent.popleft()
            else:
                self._unsent[0] = (view[sent:], ())
        self._tell_sent()

    def _tell_sent(self) -> None:
        waiting, self._sent = self._sent, None
        if waiting is None:
            return
        if self._failure is not None:
            waiting.set_exception(self._failure)
        else:
            waiting.set_result(None)

    def _fail(self, error: OSError) -> None:
        """The other end would miss what comes now: better it sees that there is nobody to listen to any more."""
        _LOG.error("the engine's processes cannot talk to each other: %s", error)
        self._failure = error
        self.close()
        self._loop.call_soon(self._on_end)

    def _on_writable(self) -> None:
        self._loop.remove_writer(self._socket)
        self._send_queued()

    # -- receiving ---------------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        try:
            data, ancillary, flags, _address = self._socket.recvmsg(
                _ROOM, socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize), socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, ancillary, flags = b"", [], 0
        numbers = array.array("i")  # the kernel gives those of one message at a time
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
        if flags & socket.MSG_CTRUNC:
            _LOG.error("a message between the engine's processes loses its descriptors: too many open files")
            _close_all(numbers)
            self._descriptors.append(())
        elif numbers:
            self._descriptors.append(tuple(numbers))
        if not data:
            self.close()
            self._on_end()
            return
        self._received += data
        self._cut()

    def _cut(self) -> None:
        at, received = 0, self._received
        while len(received) - at >= _HEADER.size and not self._closed:
            text, data, count = _HEADER.unpack_from(received, at)
            begin = at + _HEADER.size
            end = begin + text + data
            if end > len(received):
                break
            words = json.loads(bytes(received[begin : begin + text]))
            content = bytes(received[begin + text : end])
            descriptors = self._descriptors.popleft() if count else ()
            at = end
            try:
                self._on_message(Message(words, content, descriptors))
            except Exception:  # pylint: disable=broad-except
                _LOG.exception("a message between the engine's processes is lost because of a bug")
        del received[:at]

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for _view, descriptors in self._unsent:
            _close_all(descriptors)
        self._unsent.clear()
        self._tell_sent()
        for received in self._descriptors:
            _close_all(received)
        self._descriptors.clear()


def _rights(descriptors: Sequence[int]) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []


def _close_all(descriptors: Iterable[int]) -> None:
    for each in descriptors:
        os.close(each)
