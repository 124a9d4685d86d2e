# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new base of a mirror gets all that the others have, whatever is written meanwhile and whatever fails."""

from __future__ import annotations

import asyncio
import errno
import inspect
import random
from collections.abc import Coroutine
from typing import Any, Callable

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev import rebuild
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.base import Bdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.mirror import MirrorBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import Busy, EngineError, Invalid
from hypothesis import given, settings
from hypothesis import strategies as st

BLOCK = 512
BLOCKS = 48
WRITERS = 4
OPTIONS = {rebuild.WINDOW: 2, rebuild.RATE: 0}
"""Four blocks at a time."""


class Disk(MallocBdev):
    """What it is asked for is done some turns of the loop later, in no order, and fails when it is told to."""

    consumes_inline = lends_memory = False

    def __init__(self, name: str, seed: int = 0, turns: int = 3, blocks: int = BLOCKS) -> None:
        super().__init__(name, blocks, BLOCK)
        self.memory = None
        self.fails: set[str] = set()
        self.lags: list[int] = []
        """Turns that the next operations take."""
        self._random = random.Random(seed)
        self._turns = turns

    def read(self, offset: int, length: int) -> Any:
        return self._later("read", lambda: bytes(MallocBdev.read(self, offset, length)))

    def write(self, offset: int, data: Any) -> Any:
        return self._later("write", lambda: MallocBdev.write(self, offset, data))

    def flush(self) -> Any:
        return self._later("flush", lambda: None)

    def _later(self, kind: str, work: Callable[[], Any]) -> asyncio.Task[Any]:
        async def run(turns: int) -> Any:
            for _turn in range(turns):
                await asyncio.sleep(0)
            if kind in self.fails:
                raise OSError(errno.EIO, f"{kind} of {self.name} fails")
            return work()

        return asyncio.ensure_future(run(self.lags.pop(0) if self.lags else self._random.randint(0, self._turns)))

    @property
    def content(self) -> bytes:
        return bytes(self._view)


class Place:
    """A mirror that lost one of two bases."""

    def __init__(self, base: MallocBdev) -> None:
        self.base = base
        self.saved: list[list[str]] = []
        self.mirror = MirrorBdev("R", [base], None, self._save, 2)

    def _save(self) -> None:
        self.saved.append([base.name for base in self.mirror.bases])

    def fill(self) -> None:
        MallocBdev.write(self.base, 0, random.Random(1).randbytes(self.base.size))

    async def end_of_rebuild(self) -> None:
        while self.mirror.rebuild is not None:
            await asyncio.sleep(0)


async def done(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(0, 6),
    st.lists(st.tuples(st.integers(0, BLOCKS - 1), st.integers(1, 12), st.integers(0, 5)), max_size=40),
    st.booleans(),
)
def test_the_new_base_has_everything(seed: int, turns: int, writes: list[tuple[int, int, int]], at_once: bool) -> None:
    async def work() -> None:
        base = MallocBdev("A", BLOCKS, BLOCK) if at_once else Disk("A", seed, turns)
        place, target = Place(base), Disk("B", seed + 1, turns)
        place.fill()
        model = bytearray(MallocBdev.read(base, 0, base.size))

        async def write(number: int) -> None:
            """Those that begin in one quarter of the disk, and end in it, so that none is beside another."""
            quarter = BLOCKS // WRITERS
            for count, (first, length, pause) in enumerate(writes):
                if first // quarter != number:
                    continue
                await turns_of_the_loop(pause)
                end = min(first + length, (number + 1) * quarter)
                data = bytes([count + 1]) * (end - first) * BLOCK
                model[first * BLOCK : end * BLOCK] = data
                await done(place.mirror.write(first * BLOCK, data))

        writers = [asyncio.ensure_future(write(number)) for number in range(WRITERS)]
        await turns_of_the_loop(seed % 5)
        place.mirror.add(target, OPTIONS)
        await asyncio.gather(*writers)
        await place.end_of_rebuild()
        assert target.content == bytes(base._view) == bytes(model)
        assert place.mirror.bases == [base, target]
        assert place.saved == [["A", "B"]]

    run(work())


def test_what_is_being_copied_is_shown_and_saved_as_such() -> None:
    async def work() -> None:
        place = Place(MallocBdev("A", BLOCKS, BLOCK))
        assert place.mirror.config()[1]["num_base_bdevs"] == 2
        assert list(place.mirror.further_config()) == []
        target = MallocBdev("B", BLOCKS, BLOCK)
        place.mirror.add(target, OPTIONS)
        seen = []
        while place.mirror.rebuild is not None:
            details = place.mirror.details()
            assert (details["num_base_bdevs"], details["num_base_bdevs_discovered"]) == (2, 2)
            assert [base["name"] for base in details["base_bdevs_list"]] == ["A", "B"]
            assert (details["process"]["type"], details["process"]["target"]) == ("rebuild", "B")
            seen.append(details["process"]["progress"])
            assert place.mirror.config()[1]["base_bdevs"] == ["A"]
            added = {"base_bdev": "B", "raid_bdev": "R"}
            assert list(place.mirror.further_config()) == [("bdev_raid_add_base_bdev", added)]
            await asyncio.sleep(0)
        assert seen[0] == {"blocks": 0, "percent": 0}
        assert {"blocks": 24, "percent": 50} in seen
        assert "process" not in place.mirror.details()
        assert "num_base_bdevs" not in place.mirror.config()[1]

    run(work())


@pytest.mark.parametrize("kind", ["write", "flush"])
def test_a_new_base_that_fails_is_given_up_and_the_mirror_goes_on(kind: str) -> None:
    async def work() -> None:
        place, target = Place(Disk("A")), Disk("B")
        target.fails.add(kind)
        place.mirror.add(target, OPTIONS)
        await place.end_of_rebuild()
        assert place.saved == [["A"]]
        await done(place.mirror.write(0, b"x" * BLOCK))
        assert bytes(await done(place.mirror.read(0, BLOCK))) == b"x" * BLOCK
        target.fails.clear()
        place.mirror.add(target, OPTIONS)
        await place.end_of_rebuild()
        assert target.content == place.base._view

    run(work())


def test_a_write_that_only_the_new_base_fails_succeeds() -> None:
    async def work() -> None:
        place, target = Place(Disk("A")), Disk("B")
        place.mirror.add(target, OPTIONS)
        while place.mirror.rebuild is not None and not place.mirror.rebuild.copied:
            await asyncio.sleep(0)
        target.fails.add("write")
        await done(place.mirror.write(0, b"x" * BLOCK))
        assert place.mirror.rebuild is None
        assert place.base._view[:BLOCK] == b"x" * BLOCK

    run(work())


def test_what_cannot_be_read_is_not_taken_for_rebuilt() -> None:
    async def work() -> None:
        base = Disk("A")
        place = Place(base)
        base.fails.add("read")
        place.mirror.add(MallocBdev("B", BLOCKS, BLOCK), OPTIONS)
        await place.end_of_rebuild()
        assert place.saved == [["A"]]

    run(work())


@pytest.mark.parametrize("turns", range(12))
def test_a_base_that_is_removed_meanwhile_may_come_back_at_once(turns: int) -> None:
    async def work() -> None:
        place, target = Place(Disk("A", turns)), Disk("B", turns, turns=9)
        place.fill()
        place.mirror.add(target, OPTIONS)
        await turns_of_the_loop(turns)
        assert place.mirror.lose(target)
        assert place.mirror.below() == [place.base]
        pending = [done(place.mirror.write(block * BLOCK, bytes([block]) * BLOCK)) for block in range(BLOCKS)]
        place.mirror.add(target, OPTIONS)
        await asyncio.gather(*pending)
        await place.end_of_rebuild()
        await turns_of_the_loop(20)  # whatever is late
        assert target.content == place.base._view

    run(work())


async def turns_of_the_loop(count: int) -> None:
    for _turn in range(count):
        await asyncio.sleep(0)


def test_what_was_copied_before_a_base_came_back_does_not_arrive_after_it() -> None:
    async def work() -> None:
        place, target = Place(MallocBdev("A", BLOCKS, BLOCK)), Disk("B")
        target.lags = [60]
        place.mirror.add(target, OPTIONS)
        await turns_of_the_loop(5)
        assert not target.lags
        place.mirror.lose(target)
        place.fill()
        place.mirror.add(target, OPTIONS)
        await place.end_of_rebuild()
        await turns_of_the_loop(100)
        assert target.content == place.base._view

    run(work())


@pytest.mark.parametrize("turns", [2, 10, 30])
def test_a_base_that_was_removed_is_let_alone(turns: int) -> None:
    async def work() -> None:
        place, target = Place(Disk("A", turns=8)), Disk("B", turns=8)
        place.mirror.add(target, OPTIONS)
        await turns_of_the_loop(turns)
        assert place.mirror.remove(target, "of this test")
        await place.mirror.at_rest(0, place.mirror.size)
        MallocBdev.write(target, 0, b"y" * target.size)
        await done(place.mirror.write(0, b"x" * BLOCK))
        await turns_of_the_loop(100)
        assert target.content == b"y" * target.size

    run(work())


def test_a_base_may_be_deleted_meanwhile(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        base, target = Disk("A"), Disk("B")
        place = Place(base)
        base.lags = [20]
        place.mirror.add(target, OPTIONS)
        await turns_of_the_loop(5)
        assert not base.lags
        assert place.mirror.lose(target)
        target.close()
        await turns_of_the_loop(50)
        assert place.saved == [["A"]]

    run(work())
    assert "bug" not in caplog.text


def test_a_write_that_waits_fails_when_the_mirror_goes() -> None:
    async def work() -> None:
        place = Place(Disk("A", turns=50))
        place.mirror.add(Disk("B"), OPTIONS)
        await asyncio.sleep(0)
        pending = asyncio.ensure_future(place.mirror.write(0, bytes(BLOCK)))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        place.mirror.close()
        with pytest.raises(OSError, match="bdev R was deleted"):
            await pending

    run(work())


def test_a_rebuild_keeps_to_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []

    async def wait_for(waiting: Coroutine[Any, Any, Any], seconds: float) -> None:
        waiting.close()
        waits.append(seconds)

    async def work() -> None:
        blocks = 5 * 2**20 // BLOCK
        place = Place(MallocBdev("A", blocks, BLOCK))
        place.mirror.add(MallocBdev("B", blocks, BLOCK), {rebuild.WINDOW: 2048, rebuild.RATE: 4})
        with monkeypatch.context() as patch:
            patch.setattr(rebuild, "monotonic", lambda: 7.0)
            patch.setattr(asyncio, "wait_for", wait_for)
            await place.end_of_rebuild()

    run(work())
    assert waits == [0.5, 0.5, 0.25]


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (MallocBdev("B", BLOCKS - 1, BLOCK), f"{BLOCKS - 1} blocks of 512 bytes. At least {BLOCKS} blocks"),
        (MallocBdev("B", BLOCKS, 4096), "blocks of 4096 bytes"),
    ],
    ids=["small", "block size"],
)
def test_a_base_that_does_not_fit_is_refused(base: Bdev, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        Place(MallocBdev("A", BLOCKS, BLOCK)).mirror.add(base, OPTIONS)


def test_there_is_room_for_as_many_as_there_were() -> None:
    async def work() -> None:
        place = Place(MallocBdev("A", BLOCKS, BLOCK))
        place.mirror.add(MallocBdev("B", BLOCKS, BLOCK), OPTIONS)
        refused(Busy, "B is being rebuilt", place.mirror)
        await place.end_of_rebuild()
        refused(Invalid, "it has all of its 2 base bdevs", place.mirror)

    run(work())


def test_a_mirror_of_one_takes_a_second() -> None:
    async def work() -> None:
        place = Place(MallocBdev("A", BLOCKS, BLOCK))
        place.mirror = mirror = MirrorBdev("R", [place.base], None, lambda: None)
        assert mirror.details()["num_base_bdevs"] == 1
        mirror.add(MallocBdev("B", BLOCKS, BLOCK), OPTIONS)
        await place.end_of_rebuild()
        assert mirror.details()["num_base_bdevs"] == len(mirror.bases) == 2
        refused(Invalid, "it has all of its 2 base bdevs", mirror)

    run(work())


def refused(kind: type[EngineError], words: str, mirror: MirrorBdev) -> None:
    with pytest.raises(kind, match=words):
        mirror.add(MallocBdev("C", BLOCKS, BLOCK), OPTIONS)


# -- several processes


@given(st.integers(0, 2**32), st.integers(0, 60))
@settings(max_examples=50, deadline=None)
def test_nothing_lands_on_the_new_base_after_a_pause_and_the_next_process_begins_anew(seed: int, turns: int) -> None:
    async def work() -> None:
        place, target = Place(Disk("A", seed)), Disk("B", seed + 1)
        place.fill()
        place.mirror.add(target, OPTIONS, at_once=False)
        await turns_of_the_loop(5)
        assert target.content == bytes(target.size)
        place.mirror.rebuild_here("B", OPTIONS)
        await turns_of_the_loop(turns)
        rebuild = place.mirror.rebuild
        if rebuild is None:  # it was fast enough: that counts if it is told in time, else
            place.mirror.rebuild_here("B", OPTIONS)
            rebuild = place.mirror.rebuild
        assert rebuild is not None
        assert place.mirror.bases == [place.base]
        writing = asyncio.ensure_future(done(place.mirror.write(0, b"x" * BLOCK)))
        await rebuild.pause()
        content = target.content
        await writing
        await done(place.mirror.write(BLOCK, b"y" * BLOCK))
        assert (target.content, place.mirror.bases, rebuild.copied) == (content, [place.base], 0)
        place.mirror.rebuild_here("B", OPTIONS)
        await place.end_of_rebuild()
        assert target.content == bytes(place.base._view)

    run(work())


def test_what_another_process_rebuilt_is_a_base() -> None:
    async def work() -> None:
        place, target = Place(Disk("A")), Disk("B")
        place.mirror.add(target, OPTIONS, at_once=False)
        place.mirror.gain_named("C")
        assert place.mirror.bases == [place.base]
        place.mirror.gain_named("B")
        assert (place.mirror.bases, place.saved) == ([place.base, target], [["A", "B"]])

    run(work())


def test_what_is_rebuilt_here_is_none_before_that_is_done() -> None:
    async def work() -> None:
        place, target = Place(Disk("A")), Disk("B")
        place.mirror.add(target, OPTIONS)
        place.mirror.gain_named("B")
        assert place.mirror.bases == [place.base]
        await place.end_of_rebuild()

    run(work())


def test_another_process_can_give_up_what_is_rebuilt() -> None:
    async def work() -> None:
        place = Place(Disk("A"))
        place.mirror.add(Disk("B"), OPTIONS, at_once=False)
        place.mirror.lose_named("B")
        assert (place.mirror.below(), place.saved) == ([place.base], [["A"]])

    run(work())
