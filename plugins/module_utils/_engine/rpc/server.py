# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The RPC server on a unix socket: one asyncio protocol a client, answers after the change they report is saved.

Requests that one wake-up delivered are executed in order, then the configuration is saved once, then the answers go
out.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import select
import socket
from collections.abc import Awaitable, Collection
from pathlib import Path
from typing import Any, Callable, Final, cast

from ..errors import Busy, EngineError, Exists
from .dispatch import Dispatcher, Reply, error_answer
from .framing import NotJson, Splitter, decode
from .method import INVALID_REQUEST, PARSE_ERROR, Order

_LOG = logging.getLogger(__name__)

Commit = Callable[[Collection[int]], Awaitable[None]]
"""Returns when everything that was changed so far is saved, and the changes of these numbers, or with none or 0 all of
them, are made everywhere. Raises EngineError."""

MAX_CLIENTS: Final = 1024
_BACKLOG: Final = 512
_FLUSH_BYTES: Final = 1024 * 1024
"""Answers of one wake-up are held back up to this size."""
_DRAIN_SECONDS: Final = 5.0
_REQUESTS_PER_TURN: Final = 32
_SERVED: Final = "RPC socket {0} is served by another process. Stop it or choose another socket."


class RpcServer:
    """Listens on ``path``, which it owns from :meth:`lock` to :meth:`close`."""

    def __init__(self, path: str, dispatcher: Dispatcher, commit: Commit) -> None:
        self.path = path
        self.dispatcher = dispatcher
        self.commit = commit
        self._lock_fd = -1
        self._server: asyncio.AbstractServer | None = None
        self._clients: set[_Client] = set()

    def lock(self) -> None:
        """Make sure that no other process serves the socket. Raises Busy or another EngineError."""
        lock_path = self.path + ".lock"
        try:
            # A process that ends removes its lock file: what was locked may be gone from the directory by then.
            while self._lock_fd < 0 or not _is_still_at(self._lock_fd, lock_path):
                self._unlock()
                self._lock_fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._unlock()
            raise Busy(_SERVED.format(self.path)) from None
        except OSError as error:
            self._unlock()
            raise EngineError.from_os(error, f"RPC socket {self.path}: lock file {lock_path}") from error
        self._remove_stale()

    async def start(self) -> None:
        """Bind, with mode 0600, and answer requests."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old_mask = os.umask(0o177)
        try:
            listener.bind(self.path)
        except OSError as error:
            listener.close()
            raise EngineError.from_os(error, f"RPC socket {self.path}") from error
        finally:
            os.umask(old_mask)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Client(self), sock=listener, backlog=_BACKLOG)

    async def close(self) -> None:
        """Stop listening, let the requests under way end, disconnect the clients, remove socket and lock file."""
        if self._server is not None:
            self._server.close()
        busy = [client.task for client in self._clients if client.task is not None]
        if busy:
            await asyncio.wait(busy, timeout=_DRAIN_SECONDS)
        for client in list(self._clients):
            client.close()
        if self._server is not None:
            with contextlib.suppress(OSError):
                Path(self.path).unlink()
        self._unlock(remove=True)

    def joined(self, client: _Client) -> bool:
        if len(self._clients) >= MAX_CLIENTS:
            return False
        self._clients.add(client)
        return True

    def left(self, client: _Client) -> None:
        self._clients.discard(client)

    def _remove_stale(self) -> None:
        path = Path(self.path)
        try:
            if path.exists() and not path.is_socket():
                raise Exists(f"RPC socket {self.path}: there is a file of that name. Choose another socket.")
            if _somebody_listens(self.path):
                raise Busy(_SERVED.format(self.path))
            path.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            self._unlock(remove=True)
            raise EngineError.from_os(error, f"RPC socket {self.path}") from error
        except EngineError:
            self._unlock(remove=True)
            raise

    def _unlock(self, remove: bool = False) -> None:
        if self._lock_fd < 0:
            return
        if remove:
            with contextlib.suppress(OSError):
                Path(self.path + ".lock").unlink()
        os.close(self._lock_fd)
        self._lock_fd = -1


class _Client(asyncio.Protocol):
    """One connection: bytes in, waves of requests through the dispatcher, bytes out."""

    def __init__(self, server: RpcServer) -> None:
        self.task: asyncio.Task[None] | None = None
        self._server = server
        self._splitter = Splitter()
        self._transport: asyncio.Transport | None = None
        self._inbox: list[Any] = []
        self._last = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._detached: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._server.joined(self):
            self._send(error_answer(INVALID_REQUEST, f"Invalid request: there are {MAX_CLIENTS} clients already"))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._writable.set()
        self._cancel_detached()
        self._server.left(self)

    def close(self) -> None:
        self._cancel_detached()
        if self._transport is not None:
            self._transport.close()

    def _cancel_detached(self) -> None:
        for task in self._detached:
            task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        for text in self._splitter.feed(data):
            try:
                self._inbox.append(decode(text))
            except NotJson as error:
                self._refuse_rest(str(error))
                break
        if self._splitter.error is not None and not self._last:
            self._refuse_rest(self._splitter.error)
        self._work()

    def eof_received(self) -> bool:
        if self._splitter.unfinished and not self._last:
            for text in self._splitter.feed(b" "):  # ends a number or a word that nothing followed
                with contextlib.suppress(NotJson):
                    self._inbox.append(decode(text))
            if self._splitter.unfinished:
                self._refuse_rest("the stream ended in the middle of a request")
        self._last = True
        if self._transport is not None and _peer_is_gone(self._transport):
            self.close()
        self._work()
        return True  # keep it open for the answers; it is closed after them

    def _refuse_rest(self, reason: str) -> None:
        self._inbox.append(_Malformed(reason))
        self._last = True

    def _work(self) -> None:
        if self.task is None and self._transport is not None:
            if self._inbox:
                # Nothing more is read until these are answered: a client cannot pile up work.
                self._transport.pause_reading()
                self.task = asyncio.get_running_loop().create_task(self._serve())
            elif self._last and not self._detached:
                self.close()

    async def _serve(self) -> None:
        try:
            while self._inbox:
                wave, self._inbox = self._inbox, []
                await _Wave(self._server.dispatcher, self._server.commit, self._write, self._detach).run(wave)
        except Exception:
            _LOG.exception("a client is disconnected because of a bug")
            self.close()
        finally:
            self.task = None
            if self._transport is not None and not self._transport.is_closing():
                if self._last and not self._detached:
                    self.close()
                elif not self._last:
                    self._transport.resume_reading()

    async def _write(self, lines: list[bytes]) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(lines))
            await self._writable.wait()

    def _detach(self, rest: Awaitable[None]) -> None:
        task = asyncio.ensure_future(rest)
        self._detached.add(task)
        task.add_done_callback(self._detached_done)

    def _detached_done(self, task: asyncio.Task[None]) -> None:
        self._detached.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _LOG.error("an RPC answer was lost because of a bug", exc_info=task.exception())
        self._work()

    def _send(self, answer: dict[str, Any]) -> None:
        if self._transport is not None:
            self._transport.write(_encode(answer))


async def answer_text(dispatcher: Dispatcher, commit: Commit, text: bytes) -> bytes:
    """The answer to one request or batch that came another way than over the socket; nothing to notifications."""
    lines: list[bytes] = []
    later: list[Awaitable[None]] = []

    async def write(some: list[bytes]) -> None:
        lines.extend(some)

    try:
        value = decode(text)
    except NotJson as error:
        value = _Malformed(str(error))
    await _Wave(dispatcher, commit, write, later.append).run([value])
    for rest in later:
        await rest
    return b"".join(lines)


class _Malformed:
    def __init__(self, reason: str) -> None:
        self.reason = reason


class _Wave:
    """Requests that arrived together: executed in order, saved once, answered."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        commit: Commit,
        write: Callable[[list[bytes]], Awaitable[None]],
        detach: Callable[[Awaitable[None]], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._commit = commit
        self._write = write
        self._detach = detach
        self._beside: list[asyncio.Future[Reply]] = []
        self._open: list[_Envelope] = []
        self._executed = 0

    async def run(self, values: list[Any]) -> None:
        pending = 0
        for value in values:
            envelope = await self._execute(value)
            self._open.append(envelope)
            pending += envelope.size()
            if pending > _FLUSH_BYTES:
                await self._flush()
                pending = 0
        await self._flush()

    async def _execute(self, value: Any) -> _Envelope:
        if isinstance(value, _Malformed):
            return _Envelope([Reply(error_answer(PARSE_ERROR, f"Parse error: {value.reason}"))], batch=False)
        if not isinstance(value, list):
            return _Envelope([await self._one(value)], batch=False)
        if not value:
            message = "Invalid request: a batch holds at least one request"
            return _Envelope([Reply(error_answer(INVALID_REQUEST, message))], batch=False)
        return _Envelope([await self._one(request) for request in value], batch=True)

    async def _one(self, request: Any) -> Reply | asyncio.Future[Reply]:
        self._executed += 1
        if self._executed % _REQUESTS_PER_TURN == 0:
            await asyncio.sleep(0)  # thousands of requests must not hold up the disks
        order = self._dispatcher.order_of(request)
        if order is Order.SEQUENTIAL and self._beside:
            await asyncio.wait(self._beside)
            self._beside.clear()
        reply = self._dispatcher.begin(request)
        if isinstance(reply, Reply):
            return reply
        if order is Order.SEQUENTIAL:
            return await reply
        running = asyncio.ensure_future(reply)
        if order is Order.CONCURRENT:
            self._beside.append(running)
        return running

    async def _flush(self) -> None:
        if self._beside:
            await asyncio.wait(self._beside)
            self._beside.clear()
        ready = [envelope for envelope in self._open if envelope.is_done()]
        for envelope in self._open:
            if not envelope.is_done():
                self._detach(self._later(envelope))
        self._open.clear()
        await self._answer(ready)

    async def _later(self, envelope: _Envelope) -> None:
        try:
            await envelope.wait()
        except asyncio.CancelledError:  # the client is gone
            envelope.cancel()
            raise
        await self._answer([envelope])

    async def _answer(self, envelopes: list[_Envelope]) -> None:
        failure: EngineError | None = None
        changed = [reply for envelope in envelopes for reply in envelope.replies() if reply.changed]
        if changed:
            numbers = {reply.number for reply in changed}
            try:
                await self._commit(numbers)
            except EngineError as error:
                failure = error
        lines = [line for envelope in envelopes for line in envelope.lines(failure)]
        if lines:
            await self._write(lines)


class _Envelope:
    """One request or batch and its replies, some of which may still be on their way."""

    def __init__(self, replies: list[Reply | asyncio.Future[Reply]], batch: bool) -> None:
        self._replies = replies
        self._batch = batch

    def is_done(self) -> bool:
        return all(isinstance(reply, Reply) or reply.done() for reply in self._replies)

    async def wait(self) -> None:
        await asyncio.wait([reply for reply in self._replies if not isinstance(reply, Reply)])

    def cancel(self) -> None:
        for reply in self._replies:
            if not isinstance(reply, Reply):
                reply.cancel()

    def replies(self) -> list[Reply]:
        return [reply if isinstance(reply, Reply) else reply.result() for reply in self._replies]

    def size(self) -> int:
        """A rough idea of the answer's bytes."""
        return sum(_weight(reply.answer) for reply in self._replies if isinstance(reply, Reply))

    def lines(self, failure: EngineError | None) -> list[bytes]:
        answers = [_unsaved(reply, failure) if failure and reply.changed else reply.answer for reply in self.replies()]
        given = [answer for answer in answers if answer is not None]
        if not given:
            return []
        return [_encode(given if self._batch else given[0])]


def _unsaved(reply: Reply, failure: EngineError) -> dict[str, Any]:
    identity = reply.answer.get("id") if reply.answer else None
    return error_answer(-failure.errno, f"{failure.strerror}: {failure}", identity)


def _weight(answer: dict[str, Any] | None) -> int:
    result = answer.get("result") if answer else None
    return 256 + (1024 * len(result) if isinstance(result, (list, dict)) else 0)


def _encode(answer: Any) -> bytes:
    # ASCII only: clients that decode piece by piece never meet half a character.
    return json.dumps(answer, separators=(",", ":")).encode("ascii") + b"\n"


def _somebody_listens(path: str) -> bool:
    """Whether a process that does not know our lock file, such as SPDK's, answers at ``path``. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except (BlockingIOError, socket.timeout):
            return True
    return True


def _peer_is_gone(transport: asyncio.Transport) -> bool:
    """Whether the other end closed the socket, and not only its half of the conversation."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _fd, events in poll.poll(0))


def _is_still_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
