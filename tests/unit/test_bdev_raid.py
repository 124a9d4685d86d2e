# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block devices made of several, against a model that is one piece of memory."""

from __future__ import annotations

import asyncio
import errno
import inspect
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.base import Bdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.raid import MirrorBdev, RaidBdev, make
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import Invalid
from hypothesis import given
from hypothesis import strategies as st

BLOCK = 512


class Slow(MallocBdev):
    """Answers later, and fails when it is told to."""

    broken = False
    consumes_inline = False

    def read(self, offset: int, length: int) -> Any:
        return self._later(super().read, offset, length)

    def write(self, offset: int, data: Any) -> Any:
        return self._later(super().write, offset, data)

    async def _later(self, function: Any, *arguments: Any) -> Any:
        await asyncio.sleep(0)
        if self.broken:
            raise OSError(errno.EIO, "broken")
        return function(*arguments)


class Broken(MallocBdev):
    def read(self, offset: int, length: int) -> Any:
        raise OSError(errno.EIO, f"no {length} bytes at {offset}")

    def write(self, offset: int, data: Any) -> Any:
        raise OSError(errno.EIO, f"no {len(data)} bytes at {offset}")


def nothing() -> None:
    """For levels that are never degraded."""


async def done(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


def raid(level: str, *bases: Bdev, strip: int | None = 1) -> RaidBdev:
    return make("R", level, bases, strip, None, nothing)


@given(
    st.sampled_from(["raid0", "concat", "raid1"]),
    st.lists(st.tuples(st.integers(9, 40), st.booleans()), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12), st.binary(min_size=1, max_size=3)), max_size=12),
)
def test_it_reads_what_was_written_last(
    level: str, disks: list[tuple[int, bool]], writes: list[tuple[int, int, bytes]]
) -> None:
    async def scenario() -> None:
        bases = [(Slow if slow else MallocBdev)(f"M{n}", size, BLOCK) for n, (size, slow) in enumerate(disks)]
        bdev = raid(level, *bases, strip=None if level == "raid1" else 2)
        model = bytearray(bdev.size)
        for first, count, pattern in writes:
            offset, length = first * BLOCK, count * BLOCK
            if offset + length <= bdev.size:
                data = (pattern * length)[:length]
                await done(bdev.write(offset, data))
                model[offset : offset + length] = data
                assert bytes(await done(bdev.read(offset, length))) == data
        assert bytes(await done(bdev.read(0, bdev.size))) == model
        await done(bdev.flush())

    asyncio.run(scenario())


def test_sizes_are_whole_strips() -> None:
    bases = [MallocBdev("A", 9, BLOCK), MallocBdev("B", 14, BLOCK)]
    assert raid("raid0", *bases, strip=2).num_blocks == 16
    assert raid("concat", *bases, strip=2).num_blocks == 8 + 12
    assert raid("raid1", *bases, strip=None).num_blocks == 9


def test_strips_take_turns() -> None:
    bases = [MallocBdev(name, 8, BLOCK) for name in "AB"]
    bdev = raid("raid0", *bases, strip=1)
    asyncio.run(done(bdev.write(0, bytes(1024) + b"1" * 1024 + b"2" * 1024)))
    assert [bytes(base.read(0, 2048))[::1024] for base in bases] == [b"\x002", b"1\0"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("kind", [Slow, Broken])
def test_a_mirror_goes_on_with_what_is_left(order: tuple[int, int], kind: type[MallocBdev]) -> None:
    async def scenario() -> None:
        told: list[str] = []
        both = [MallocBdev("good", 8, BLOCK), kind("bad", 8, BLOCK)]
        bad: Any = both[1]
        bdev = MirrorBdev("R", [both[place] for place in order], None, lambda: told.append("degraded"))
        bad.broken = True
        await done(bdev.write(0, b"x" * BLOCK))
        assert bytes(await done(bdev.read(0, BLOCK))) == b"x" * BLOCK
        assert told == ["degraded"]
        assert bdev.config()[1]["base_bdevs"] == ["good"]
        assert [base["name"] for base in bdev.details()["base_bdevs_list"]] == ["good", None]
        assert not bdev.lose(both[0])

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", [Slow, Broken])
def test_a_mirror_reads_from_the_next_one(kind: type[MallocBdev]) -> None:
    async def scenario() -> None:
        bad: Any = kind("bad", 8, BLOCK)
        bad.broken = True
        good = MallocBdev("good", 8, BLOCK)
        good.write(0, b"x" * BLOCK)
        bdev = MirrorBdev("R", [bad, good], None, nothing)
        assert bytes(await done(bdev.read(0, BLOCK))) == b"x" * BLOCK
        last = MirrorBdev("R", [bad], None, nothing)
        for again in (lambda: last.read(0, BLOCK), lambda: last.write(0, bytes(BLOCK))):
            with pytest.raises(OSError, match=r"bytes at|broken"):
                await done(again())

    asyncio.run(scenario())


def test_reads_that_meet_the_same_error_are_all_answered_by_the_next_one() -> None:
    async def work() -> None:
        first, second = Slow("A", 16, BLOCK), Slow("B", 16, BLOCK)
        mirror = raid("raid1", first, second, strip=None)
        await done(mirror.write(0, b"x" * BLOCK))
        first.broken = True
        answers = await asyncio.gather(*(done(mirror.read(0, BLOCK)) for _each in range(3)))
        assert [bytes(each) for each in answers] == [b"x" * BLOCK] * 3
        assert mirror.bases == [second]

    asyncio.run(work())


@pytest.mark.parametrize(
    ("level", "sizes", "strip", "words"),
    [
        ("raid0", [(8, 512), (8, 4096)], 4, "different block sizes: M0 512, M1 4096"),
        ("raid0", [(8, 512)], None, "power of two"),
        ("concat", [(8, 512)], 3, "power of two"),
        ("raid0", [(8, 512), (3, 512)], 2, "M1 is smaller than a strip"),
        ("raid1", [(8, 512)], 4, "no strips"),
    ],
)
def test_what_does_not_fit_is_named(level: str, sizes: list[tuple[int, int]], strip: int | None, words: str) -> None:
    bases = [MallocBdev(f"M{number}", blocks, size) for number, (blocks, size) in enumerate(sizes)]
    with pytest.raises(Invalid, match=words):
        raid(level, *bases, strip=strip)
