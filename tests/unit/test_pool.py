# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pool of threads: what it gives back, and who gets how much of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.loop import Loop
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.pool import Pool, Share

SECONDS = 20


class Blocked:
    """Work that is not done before it is told to be; counts how much of it is being done."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self._begun = threading.Semaphore(0)

    def work(self) -> str:
        self._begun.release()
        assert self._end.wait(SECONDS)
        return "done"

    def wait_for(self, count: int) -> None:
        for _each in range(count):
            assert self._begun.acquire(timeout=SECONDS)

    def is_begun_again(self) -> bool:
        return self._begun.acquire(blocking=False)

    def release(self) -> None:
        self._end.set()


def with_pool(threads: int, test: Callable[[Pool], Awaitable[Any]]) -> Any:
    loop = Loop()
    try:
        pool = Pool(loop, threads)

        async def run() -> Any:
            return await asyncio.wait_for(test(pool), SECONDS)

        try:
            return loop.run_until_complete(run())
        finally:
            pool.close()
    finally:
        loop.close()


def test_results_and_errors_come_back() -> None:
    async def test(pool: Pool) -> None:
        share = pool.share()
        assert await share.submit(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await share.submit(divmod, 7, 0)
        assert await asyncio.gather(*(share.submit(pow, 2, each) for each in range(100))) == [2**n for n in range(100)]

    with_pool(4, test)


def test_who_blocks_leaves_as_many_threads_as_it_takes() -> None:
    slow = Blocked()

    async def test(pool: Pool) -> None:
        share = pool.share()
        stuck = [share.submit(slow.work) for _each in range(20)]
        try:
            slow.wait_for(4)
            assert share.running == 4, "half of eight"
            others: list[Share] = [pool.share() for _each in range(3)]
            for other in others:
                assert await other.submit(len, "abc") == 3, "nobody else waits"
            assert not slow.is_begun_again()
        finally:
            slow.release()
        assert await asyncio.gather(*stuck) == ["done"] * 20, "what was over has its turn in the end"

    with_pool(8, test)


def test_several_who_block_leave_a_thread() -> None:
    disks = [Blocked() for _each in range(3)]

    async def test(pool: Pool) -> None:
        shares = [pool.share() for _disk in disks]
        stuck = [share.submit(disk.work) for share, disk in zip(shares, disks) for _each in range(8)]
        try:
            for disk, count in zip(disks, (4, 2, 1)):
                disk.wait_for(count)
            assert [share.running for share in shares] == [4, 2, 1]
            assert await pool.share().submit(len, "abc") == 3
        finally:
            for disk in disks:
                disk.release()
        await asyncio.gather(*stuck)

    with_pool(8, test)


def test_what_is_cancelled_before_its_turn_harms_nobody() -> None:
    slow = Blocked()

    async def test(pool: Pool) -> None:
        share = pool.share()
        first, second, third = (share.submit(slow.work) for _each in range(3))
        second.cancel()
        slow.release()
        assert [await first, await third] == ["done", "done"]

    with_pool(2, test)
