# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Direct I/O that the kernel does beside the loop, and what becomes of it where that is not possible."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev import kernel_aio
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.aio import AioBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import Invalid
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.loop import Loop
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.pool import Pool, Share
from hypothesis import given, settings
from hypothesis import strategies as st

BLOCK = 4096
"""As much as any disk needs at once."""
BLOCKS = 256
SECONDS = 20


class CountingShare:
    """Counts what is left to the pool."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self.count = 0

    def submit(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        self.count += 1
        return self._share.submit(function, *arguments)


class Disk:
    """A direct bdev of a file with pseudo-random data, on the engine's loop and pool."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.loop = Loop()
        self.pool = Pool(self.loop, 4)
        self.share = CountingShare(self.pool.share())
        self.content = bytearray(os.urandom(BLOCK * BLOCKS))
        path.write_bytes(self.content)
        self.bdev = AioBdev.open("disk", str(path), self.share.submit, BLOCK, direct=True, **options)

    def run(self, test: Callable[[], Awaitable[Any]]) -> Any:
        async def limited() -> Any:
            return await asyncio.wait_for(test(), SECONDS)

        return self.loop.run_until_complete(limited())

    def close(self) -> None:
        self.bdev.close()
        self.pool.close()
        self.loop.close()

    async def read(self, first: int, count: int = 1) -> bytes:
        result = self.bdev.read(first * BLOCK, count * BLOCK)
        return bytes(await result if isinstance(result, Awaitable) else result)

    async def write(self, first: int, data: bytes) -> None:
        await (self.bdev.write(first * BLOCK, data) or asyncio.sleep(0))

    def expected(self, first: int, count: int = 1) -> bytes:
        return bytes(self.content[first * BLOCK : (first + count) * BLOCK])


def contexts() -> int:
    """Of kernel AIO, that this process has."""
    for thread in threading.enumerate():
        if thread.name == kernel_aio.CLOSER:
            thread.join(SECONDS)
    return Path("/proc/self/maps").read_text().count("[aio]")


def open_descriptors(path: Path) -> int:
    return sum(os.path.realpath(each) == str(path) for each in Path("/proc/self/fd").iterdir())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        disk = Disk(tmp_path / "disk")
    except Invalid as error:
        pytest.skip(str(error))
    yield disk
    disk.close()


@pytest.fixture
def kernel_disk(disk: Disk) -> Disk:
    """Where there is kernel AIO."""

    async def make() -> None:
        with Path(disk.bdev.filename).open("rb") as file:
            kernel_aio.Queue(file.fileno(), lambda: None, lambda _request: None).close()

    try:
        disk.run(make)
    except OSError as error:
        pytest.skip(f"no kernel AIO here: {error}")
    assert contexts() == 0
    return disk


def test_more_reads_than_the_kernel_takes_at_once_are_all_answered(kernel_disk: Disk) -> None:
    disk = kernel_disk

    async def test() -> None:
        for _round in range(2):
            numbers = [*range(BLOCKS), *range(BLOCKS)]
            assert len(numbers) > 3 * kernel_aio.DEPTH
            found = await asyncio.gather(*map(disk.read, numbers))
            assert [disk.expected(number) for number in numbers] == found

    disk.run(test)
    assert contexts() == 1


def test_the_kernel_does_what_needs_no_waiting(kernel_disk: Disk) -> None:
    """For some file systems that is no WRITE, and for most none that the page cache has a part of."""
    disk = kernel_disk

    async def test() -> bool:
        for _round in range(2):
            before = disk.share.count
            await asyncio.gather(*map(disk.read, range(64)))
            await asyncio.gather(*(disk.write(number, disk.expected(number + 1)) for number in range(64)))
        kernel = disk.bdev._kernel
        assert kernel is None or not kernel.usable or disk.share.count - before < 128
        return kernel is not None and kernel.usable

    if not disk.run(test):
        pytest.skip("the file system of the temporary directory has no RWF_NOWAIT")


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(
        st.lists(st.tuples(st.booleans(), st.integers(1, 12)), min_size=1, max_size=12), min_size=1, max_size=4
    )
)
def test_it_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[tuple[bool, int]]]
) -> None:
    """Requests of a step are under way together, beside each other on the disk; some are larger than a slot."""
    try:
        disk = Disk(tmp_path_factory.mktemp("files") / "disk")
    except Invalid as error:
        pytest.skip(str(error))

    async def test() -> None:
        for step in steps:
            first, writes, reads, expected = 0, [], [], []
            for write, count in step:
                if write:
                    data = os.urandom(count * BLOCK)
                    disk.content[first * BLOCK : (first + count) * BLOCK] = data
                    writes.append(disk.write(first, data))
                else:
                    reads.append(disk.read(first, count))
                    expected.append(disk.expected(first, count))
                first += count
            assert (await asyncio.gather(*reads, *writes))[: len(reads)] == expected
        assert await disk.read(0, BLOCKS) == disk.content

    try:
        disk.run(test)
    finally:
        disk.close()


def test_an_idle_disk_takes_no_requests_from_the_system_and_a_closed_one_gives_them_back(kernel_disk: Disk) -> None:
    kernel_disk.run(lambda: kernel_disk.read(0))
    assert contexts() == 1
    kernel_disk.bdev.close()
    assert contexts() == 0


def test_a_disk_that_is_closed_stays_open_for_what_is_under_way(kernel_disk: Disk) -> None:
    disk = kernel_disk
    path = Path(disk.bdev.filename)

    async def test() -> None:
        numbers = range(2 * kernel_aio.DEPTH)
        under_way: list[asyncio.Future[Any]] = [asyncio.ensure_future(disk.read(number % BLOCKS)) for number in numbers]
        new = os.urandom(BLOCK)
        under_way.append(asyncio.ensure_future(disk.write(BLOCKS - 1, new)))
        await asyncio.sleep(0)
        disk.bdev.close()
        assert open_descriptors(path) == 1
        *found, _written = await asyncio.gather(*under_way)
        assert found[: BLOCKS - 1] == [disk.expected(number) for number in range(BLOCKS - 1)]
        assert path.read_bytes()[-BLOCK:] == new
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            await disk.read(0)

    disk.run(test)
    assert open_descriptors(path) == contexts() == 0


def test_a_read_that_nobody_waits_for_any_more_takes_no_turn(kernel_disk: Disk) -> None:
    disk = kernel_disk

    async def test() -> None:
        reads: list[Any] = [disk.bdev.read(0, BLOCK) for _each in range(2 * kernel_aio.DEPTH)]
        for read in reads[1::2]:
            read.cancel()
        assert [bytes(await read) for read in reads[::2]] == [disk.expected(0)] * kernel_aio.DEPTH
        disk.bdev.close()
        while open_descriptors(Path(disk.bdev.filename)):  # the kernel may still be at some of those
            await asyncio.sleep(0)

    disk.run(test)


def test_without_memory_for_a_large_read_the_disk_goes_on(kernel_disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = kernel_disk
    large = kernel_aio.SLOT_BYTES // BLOCK + 1

    def full(_length: int) -> memoryview:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    async def test() -> None:
        many = 2 * kernel_aio.DEPTH
        found = await asyncio.gather(*(disk.read(0, large) for _each in range(many)), *map(disk.read, range(BLOCKS)))
        assert found == [disk.expected(0, large)] * many + [disk.expected(number) for number in range(BLOCKS)]
        disk.bdev.close()

    monkeypatch.setattr(kernel_aio, "buffer", full)
    disk.run(test)
    assert open_descriptors(Path(disk.bdev.filename)) == 0


def test_a_disk_grows_while_it_is_read(disk: Disk) -> None:
    async def test() -> None:
        reads = [asyncio.ensure_future(disk.read(number)) for number in range(BLOCKS)]
        await asyncio.sleep(0)
        await disk.share.submit(disk.bdev.resize, 2 * BLOCKS * BLOCK)
        assert await asyncio.gather(*reads) == [disk.expected(number) for number in range(BLOCKS)]
        data = os.urandom(BLOCK)
        await disk.write(2 * BLOCKS - 1, data)
        assert await disk.read(2 * BLOCKS - 2, 2) == bytes(BLOCK) + data

    disk.run(test)


def test_a_file_that_was_truncated_tells_where_it_ends(disk: Disk) -> None:
    os.truncate(disk.bdev.filename, 4 * BLOCK)
    with pytest.raises(OSError, match=f"ends at {4 * BLOCK}: it was truncated") as caught:
        disk.run(lambda: disk.read(2, 8))
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize(("first", "failing"), [(2, 4), (6, 6)], ids=["in part", "at all"])
def test_a_write_that_fails_tells_where(disk: Disk, first: int, failing: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * BLOCK, hard))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught:
            disk.run(lambda: disk.write(first, bytes(8 * BLOCK)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert getattr(caught.value, "offset", None) == failing * BLOCK
    assert disk.run(lambda: disk.read(20)) == disk.expected(20)


def no_requests_left(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(kernel_aio, "DEPTH", int(Path("/proc/sys/fs/aio-max-nr").read_text()) + 1)
    return "Raise the sysctl fs.aio-max-nr and make the bdev again"


def unknown_machine(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(kernel_aio, "_CALLS", {})
    return f"without kernel AIO: not known on {os.uname().machine}"


def no_such_flag(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(os, "RWF_NOWAIT", 1 << 31)
    return "bdev disk: threads do its I/O"


@pytest.mark.parametrize("reason", [no_requests_left, unknown_machine, no_such_flag])
def test_where_the_kernel_cannot_threads_do_it(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, reason: Callable[[Any], str]
) -> None:
    words = reason(monkeypatch)
    before = contexts()

    async def test() -> None:
        for _round in range(2):
            disk.content[:BLOCK] = os.urandom(BLOCK)
            await disk.write(0, disk.expected(0))
            numbers = [*range(BLOCKS), *range(BLOCKS)]
            assert await asyncio.gather(*map(disk.read, numbers)) == [disk.expected(number) for number in numbers]

    with caplog.at_level(logging.INFO, logger=AioBdev.__module__):
        disk.run(test)
    assert disk.share.count == 2 * (1 + 2 * BLOCKS)
    assert [record.message for record in caplog.records if words in record.message] == [caplog.messages[-1]]
    disk.bdev.close()
    assert contexts() == before
