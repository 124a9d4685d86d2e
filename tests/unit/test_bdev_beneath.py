# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bdev has to do for those that are made of it is counted, however long it takes and however it ends."""

from __future__ import annotations

import asyncio
import errno
import inspect
from typing import Any, Callable

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.base import Bdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.delay import LATENCIES, DelayBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.error import ErrorBdev, Injection
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.histogram import Histogram
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.raid import make
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.tap import tap_of
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.virtual import PassthruBdev, SplitBdev

BLOCK = 512
BLOCKS = 64
WAIT = 0.002


class Future(MallocBdev):
    """Gives futures, as disks do; what it is told to fails."""

    consumes_inline = lends_memory = False
    broken = False

    def read(self, offset: int, length: int) -> Any:
        return self._begin(super().read, offset, length)

    def write(self, offset: int, data: Any) -> Any:
        return self._begin(super().write, offset, data)

    def unmap(self, offset: int, length: int) -> Any:
        return self._begin(super().unmap, offset, length)

    def flush(self) -> Any:
        return self._begin(super().flush)

    def _begin(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def end() -> None:
            if self.broken:
                future.set_exception(OSError(errno.EIO, "broken"))
            else:
                future.set_result(function(*arguments))

        loop.call_later(WAIT, end)
        return future


class Coroutine(Future):
    def _begin(self, function: Callable[..., Any], *arguments: Any) -> Any:
        async def run() -> Any:
            return await Future._begin(self, function, *arguments)

        return run()


KINDS = pytest.mark.parametrize("kind", [MallocBdev, Future, Coroutine], ids=["at once", "future", "coroutine"])
ABOVE = {
    "passthru": lambda base: PassthruBdev("P", base),
    "split": lambda base: SplitBdev(base, 1, BLOCKS // 2, 2, 0),
    "delay": lambda base: DelayBdev("D", base, None, dict.fromkeys(LATENCIES, 0)),
    "error": lambda base: ErrorBdev(base, None),
    "two": lambda base: PassthruBdev("P2", PassthruBdev("P1", base)),
}


async def done(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


def counts(bdev: Bdev) -> dict[str, tuple[int, int]]:
    tallies = {kind: getattr(bdev.stats, kind) for kind in ("read", "write", "unmap")}
    return {kind: (tally.operations, tally.bytes) for kind, tally in tallies.items()}


@KINDS
@pytest.mark.parametrize("above", ABOVE.values(), ids=ABOVE)
def test_a_bdev_counts_what_the_one_on_top_has_it_do(kind: type[MallocBdev], above: Callable[[Bdev], Bdev]) -> None:
    async def run() -> None:
        base = kind("B", BLOCKS, BLOCK)
        bdev = above(base)
        await done(bdev.write(0, b"x" * 3 * BLOCK))
        await done(bdev.write_through(3 * BLOCK, b"x" * BLOCK))
        assert bytes(await done(bdev.read(BLOCK, 2 * BLOCK))) == b"x" * 2 * BLOCK
        await done(bdev.unmap(0, 4 * BLOCK))
        await done(bdev.write_zeroes(0, BLOCK))  # no write, as with SPDK
        await done(bdev.flush())
        assert counts(base) == {"read": (1, 2 * BLOCK), "write": (2, 4 * BLOCK), "unmap": (1, 4 * BLOCK)}
        assert base.stats.errors == 0
        if kind is not MallocBdev:
            assert base.stats.read.least >= WAIT * 0.9e9
        assert counts(bdev) == dict.fromkeys(("read", "write", "unmap"), (0, 0))  # who uses it counts there

    asyncio.run(run())


@KINDS
@pytest.mark.parametrize(
    ("level", "read", "written"),
    [("raid0", [2, 2], [2, 2]), ("concat", [4, 0], [4, 0]), ("raid1", [4, 0], [4, 4])],
)
def test_each_base_of_a_raid_counts_its_part(
    kind: type[MallocBdev], level: str, read: list[int], written: list[int]
) -> None:
    async def run() -> None:
        bases = [kind(name, BLOCKS, BLOCK) for name in ("A", "B")]
        bdev = make("R", level, bases, None if level == "raid1" else 1, None, lambda: None)
        await done(bdev.write(0, bytes(4 * BLOCK)))
        await done(bdev.read(0, 4 * BLOCK))
        assert [base.stats.read.bytes for base in bases] == [blocks * BLOCK for blocks in read]
        assert [base.stats.write.bytes for base in bases] == [blocks * BLOCK for blocks in written]

    asyncio.run(run())


@pytest.mark.parametrize("kind", [Future, Coroutine])
def test_what_fails_beneath_is_an_error_there(kind: type[Future]) -> None:
    async def run() -> None:
        base = kind("B", BLOCKS, BLOCK)
        bdev = PassthruBdev("P", base)
        base.broken = True
        for pending in (bdev.read(0, BLOCK), bdev.write(0, bytes(BLOCK)), bdev.flush()):
            with pytest.raises(OSError, match="broken"):
                await done(pending)
        await asyncio.sleep(0)
        assert base.stats.errors == 3
        assert counts(base)["read"] == (0, 0)

    asyncio.run(run())


def test_what_fails_on_top_is_none_beneath() -> None:
    base = MallocBdev("B", BLOCKS, BLOCK)
    bdev = ErrorBdev(base, None)
    bdev.inject("read", Injection("failure"), 1)
    with pytest.raises(OSError, match="injected"):
        bdev.read(0, BLOCK)
    assert (base.stats.errors, counts(base)["read"]) == (0, (0, 0))


def test_a_histogram_of_what_is_beneath_counts_it_too() -> None:
    base, histogram = MallocBdev("B", BLOCKS, BLOCK), Histogram()
    bdev = PassthruBdev("P", base)
    tap_of(base).set_histogram(histogram)
    bdev.read(0, BLOCK)
    assert sum(histogram.buckets) == base.stats.read.operations == 1


def test_what_ends_after_a_reset_counts_anew() -> None:
    async def run() -> None:
        base = Future("B", BLOCKS, BLOCK)
        pending = PassthruBdev("P", base).read(0, BLOCK)
        base.stats.reset("all")
        await done(pending)
        assert counts(base)["read"] == (1, BLOCK)

    asyncio.run(run())
