# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Threads for what blocks, shared in such a way that one slow disk leaves some for the others.

Whoever uses the pool has a share of it, and may be at work on as many things as there are threads free: the first disk
that hangs gets half of them, the second a quarter, and so on. What is over waits for its turn, share by share.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from queue import SimpleQueue
from typing import Any, Callable, NamedTuple


class _Job(NamedTuple):
    share: Share
    future: asyncio.Future[Any]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class Share:
    """One user's part of a pool."""

    __slots__ = ("_pool", "running", "waiting")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.running = 0
        self.waiting: deque[_Job] = deque()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """Run something that blocks; gives a future of its result."""
        return self._pool.take(_Job(self, self._pool.loop.create_future(), function, arguments))


class Pool:
    """At most ``threads`` threads, started when they are needed. To be used from the loop's own thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: int) -> None:
        self.loop = loop
        self._free = threads
        self._threads: list[threading.Thread] = []
        self._running = 0
        self._todo: SimpleQueue[_Job | None] = SimpleQueue()
        self._done: deque[tuple[_Job, Any, BaseException | None]] = deque()
        self._waiting: deque[Share] = deque()
        """Shares with something that waits, in the order of their turns."""
        self._told = False
        """The loop is about to look at what is done."""
        self._tidings, self._teller = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        loop.add_reader(self._tidings, self._land)

    def share(self) -> Share:
        return Share(self)

    def take(self, job: _Job) -> asyncio.Future[Any]:
        """Do it, now or when it is its turn."""
        share = job.share
        if share.waiting:
            share.waiting.append(job)
        elif share.running < self._free:
            self._start(job)
        else:
            share.waiting.append(job)
            self._waiting.append(share)
        return job.future

    def _start(self, job: _Job) -> None:
        job.share.running += 1
        self._free -= 1
        self._running += 1
        if self._running > len(self._threads):
            thread = threading.Thread(target=self._work, name=f"pool-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._todo.put(job)

    def _work(self) -> None:
        """What a thread does."""
        while True:
            job = self._todo.get()
            if job is None:
                return
            result, failure = None, None
            try:
                result = job.function(*job.arguments)
            except BaseException as error:  # pylint: disable=broad-except
                failure = error
            self._done.append((job, result, failure))
            if not self._told:
                self._told = True
                os.write(self._teller, b"\0")
            del job, result, failure  # not to be kept until there is something else to do

    def _land(self) -> None:
        """Hand out the results, and start what waited for a thread."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._tidings, 4096)
        self._told = False  # whoever finishes from here on tells again
        while self._done:
            job, result, failure = self._done.popleft()
            job.share.running -= 1
            self._running -= 1
            self._free += 1
            if job.future.cancelled():
                continue
            if failure is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(failure)
        self._start_waiting()

    def _start_waiting(self) -> None:
        kept = 0
        while kept < len(self._waiting):
            share = self._waiting.popleft()
            if share.running >= self._free:
                self._waiting.append(share)
                kept += 1
                continue
            kept = 0
            job = share.waiting.popleft()
            if not job.future.cancelled():
                self._start(job)
            if share.waiting:
                self._waiting.append(share)

    def close(self) -> None:
        """Wait for what is being done; what waits is not done any more."""
        for share in self._waiting:
            for job in share.waiting:
                job.future.cancel()
        self._waiting.clear()
        for _thread in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join()
        self.loop.remove_reader(self._tidings)
        os.close(self._tidings)
        os.close(self._teller)
