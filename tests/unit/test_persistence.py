# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state file and who waits for it."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.config import Entry, Section
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import Busy, EngineError, Invalid
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.persistence import StateFile, Store, Unrestored
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.method import RpcError
from hypothesis import given
from hypothesis import strategies as st


def make(name: str) -> Entry:
    return Entry("make", {"name": name})


class Disks:
    """A host whose objects are disks; those in ``broken`` cannot be made."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.broken: set[str] = set()
        self.tries: list[str] = []

    def configuration(self) -> list[Section]:
        return [Section("bdev", [Entry("options"), *map(make, self.names)]), Section("scsi", None)]

    def identify(self, entry: Entry) -> tuple[str, Any] | None:
        return self.canonical("disk", (entry.params or {})["name"]) if entry.method == "make" else None

    def canonical(self, kind: str, key: Any) -> tuple[str, Any]:
        return kind, key.lower()

    async def attempt(self, entry: Entry) -> None:
        name = (entry.params or {}).get("name", "")
        self.tries.append(name)
        if entry.method != "make" or name in self.broken:
            raise RpcError(-2, f"{name} is missing")
        self.names.append(name)


class CountingFile(StateFile):
    """Counts writes and can be told to fail."""

    def __init__(self, directory: Path) -> None:
        super().__init__(str(directory))
        self.writes = 0
        self.failure: EngineError | None = None
        self.after_write: Callable[[], object] | None = None
        self.lock()

    def write(self, text: bytes) -> None:
        self.writes += 1
        if self.failure is not None:
            raise self.failure
        super().write(text)
        after, self.after_write = self.after_write, None
        if after is not None:
            after()


def names_in(path: Path) -> list[str]:
    sections = StateFile(str(path.parent)).read() or []
    return [(entry.params or {}).get("name", "-") for section in sections for entry in section.entries or []]


@pytest.fixture
def file(tmp_path: Path) -> CountingFile:
    return CountingFile(tmp_path / "state")


def opened(file: CountingFile | None, host: Disks, retry_seconds: float = 1000) -> Store:
    store = Store(file, host, retry_seconds)
    store.complete = True
    return store


def test_a_change_is_on_disk_when_commit_returns(file: CountingFile) -> None:
    async def change() -> None:
        host = Disks()
        store = opened(file, host)
        for name in ("a", "b"):
            host.names.append(name)
            await store.commit()
            assert names_in(file.path) == ["-", *host.names]

    asyncio.run(change())
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.directory.stat().st_mode & 0o777 == 0o700
    assert list(file.directory.iterdir()) == [file.path]


def test_changes_that_wait_together_are_saved_once(file: CountingFile) -> None:
    async def change() -> None:
        host = Disks()
        store = opened(file, host)

        async def one(number: int) -> None:
            host.names.append(f"d{number}")
            await store.commit()
            assert f"d{number}" in names_in(file.path)

        await asyncio.gather(*(one(number) for number in range(100)))

    asyncio.run(change())
    assert file.writes == 1


def test_a_change_during_a_save_is_saved_by_the_next_one(file: CountingFile) -> None:
    async def change() -> None:
        host = Disks("a")
        store = opened(file, host)
        first = asyncio.ensure_future(store.commit())
        while store._saving is None or not file.writes:
            await asyncio.sleep(0)
        host.names.append("b")
        await store.commit()
        assert first.done()
        assert names_in(file.path) == ["-", "a", "b"]

    asyncio.run(change())
    assert file.writes == 2


def test_changes_at_every_moment_around_a_saves_end_are_saved(file: CountingFile) -> None:
    async def change() -> None:
        host = Disks("a")
        store = opened(file, host)
        loop = asyncio.get_running_loop()
        late: list[asyncio.Future[None]] = []

        async def come(name: str) -> None:
            host.names.append(name)
            await store.commit()
            assert name in names_in(file.path)

        def come_in_each_turn(turns: int) -> None:
            late.append(asyncio.ensure_future(come(f"late{turns}")))
            if turns:
                loop.call_soon(come_in_each_turn, turns - 1)

        file.after_write = lambda: loop.call_soon_threadsafe(come_in_each_turn, 9)
        await store.commit()
        while len(late) < 10:
            await asyncio.sleep(0)
        await asyncio.gather(*late)
        assert names_in(file.path) == ["-", *host.names]

    asyncio.run(change())


def test_an_unchanged_configuration_is_not_written_again(file: CountingFile) -> None:
    async def change() -> None:
        store = opened(file, Disks("a"))
        await store.commit()
        await store.commit()

    asyncio.run(change())
    assert file.writes == 1


def test_somebody_who_gives_up_does_not_stop_the_save_of_others(file: CountingFile) -> None:
    async def change() -> None:
        store = opened(file, Disks("a"))
        impatient, patient = (asyncio.ensure_future(store.commit()) for _each in range(2))
        await asyncio.sleep(0)
        impatient.cancel()
        await patient
        assert names_in(file.path) == ["-", "a"]

    asyncio.run(change())


def test_without_a_state_directory_nothing_is_saved() -> None:
    async def change() -> None:
        store = opened(None, Disks("a"))
        await store.commit()
        await store.close()

    asyncio.run(change())


def test_nothing_is_saved_before_everything_is_restored(file: CountingFile) -> None:
    async def change() -> None:
        store = Store(file, Disks("a"))
        await store.commit()
        await store.close()

    asyncio.run(change())
    assert file.writes == 0


def test_a_failed_save_is_told_and_tried_again(file: CountingFile, caplog: pytest.LogCaptureFixture) -> None:
    async def change() -> None:
        host = Disks("a")
        store = opened(file, host, retry_seconds=0.01)
        await store.commit()
        file.failure = EngineError("disk full")
        host.names.append("b")
        with pytest.raises(EngineError, match="disk full"):
            await store.commit()
        assert names_in(file.path) == ["-", "a"]
        file.failure = None
        assert store._upkeep is not None
        await asyncio.wait_for(store._upkeep, 20)
        assert names_in(file.path) == ["-", "a", "b"]

    asyncio.run(change())
    assert "disk full" in caplog.text


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_whatever_fails_leaves_the_old_file_whole(
    file: CountingFile, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    file.write(b"old")

    def fails(*_arguments: Any, **_options: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(EngineError, match="the change is live but not saved") as failure:
            file.write(b"new")
    assert failure.value.errno == number
    assert str(file.path) in str(failure.value)
    assert file.path.read_bytes() == b"old"
    assert list(file.directory.iterdir()) == [file.path]


def test_a_leftover_of_a_crash_is_in_nobodys_way(file: CountingFile) -> None:
    (file.directory / "config.json.new").write_bytes(b"half a fi")
    file.write(b"new")
    assert file.path.read_bytes() == b"new"
    assert list(file.directory.iterdir()) == [file.path]


@pytest.mark.parametrize("text", [b"", b'{"subsystems": [', b"\0" * 4096, b"hello", b'{"subsystems": 5}'])
def test_a_damaged_file_is_refused_and_left_alone(file: CountingFile, text: bytes) -> None:
    file.path.write_bytes(text)
    with pytest.raises(Invalid) as refusal:
        file.read()
    sentence = str(refusal.value)
    assert str(file.path) in sentence
    assert "left untouched" in sentence
    assert "\n" not in sentence
    assert file.path.read_bytes() == text


def test_a_state_directory_has_one_owner(file: CountingFile) -> None:
    with pytest.raises(Busy, match=str(file.directory)):
        StateFile(str(file.directory)).lock()
    file.unlock()
    StateFile(str(file.directory)).lock()


def restored(host: Disks, saved: list[str], lost: set[str], file: CountingFile | None = None) -> Store:
    store = opened(file, host)
    entries = [Entry("options"), *map(make, saved)]
    store.remember_layout([Section("bdev", entries)])
    for place, entry in enumerate(entries):
        name = (entry.params or {}).get("name")
        if name in lost:
            store.not_restored("bdev", place, entry, f"{name} is missing")
        elif name:
            host.names.append(name)
    return store


NAMES = [f"d{number}" for number in range(12)]


@given(st.sets(st.sampled_from(NAMES)))
def test_what_was_not_restored_keeps_its_place(lost: set[str]) -> None:
    async def check() -> None:
        store = restored(Disks(), NAMES, lost)
        assert store.sections()[0] == Section("bdev", [Entry("options"), *map(make, NAMES)])
        assert [left.to_rpc()["params"]["name"] for left in store.unrestored] == [n for n in NAMES if n in lost]

    asyncio.run(check())


@given(st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES)), st.sampled_from([[], ["n1"], ["n1", "n2"]]))
def test_it_keeps_its_place_while_others_come_and_go(lost: set[str], removed: set[str], new: list[str]) -> None:
    async def check() -> None:
        host = Disks()
        store = restored(host, NAMES, lost)
        host.names = [name for name in host.names if name not in removed] + new
        saved = [(entry.params or {})["name"] for entry in (store.sections()[0].entries or [])[1:]]
        kept = [name for name in NAMES if name in lost or name not in removed]
        assert sorted(saved) == sorted(kept + new)
        assert [name for name in saved if name in NAMES] == kept
        assert [name for name in saved if name not in lost] == host.names

    asyncio.run(check())


def test_thousands_of_lost_entries_are_no_problem() -> None:
    async def check() -> None:
        names = [f"d{number}" for number in range(5000)]
        store = restored(Disks(), names, set(names))
        assert [(entry.params or {})["name"] for entry in (store.sections()[0].entries or [])[1:]] == names

    asyncio.run(check())


def test_subsystems_of_another_version_are_kept() -> None:
    async def check() -> None:
        store = opened(None, Disks())
        store.not_restored("nvmf", 0, Entry("nvmf_create", {"x": 1}), "Method not found")
        assert store.sections()[-1] == Section("nvmf", [Entry("nvmf_create", {"x": 1})])

    asyncio.run(check())


def test_lost_things_are_tried_again_until_they_work(file: CountingFile) -> None:
    async def check() -> None:
        host = Disks()
        host.broken = {"b", "c"}
        store = restored(host, ["a", "b", "c"], {"b", "c"}, file)
        assert not await store.retry()
        host.broken = {"c"}
        assert await store.retry()
        assert [left.entry.params for left in store.unrestored] == [{"name": "c"}]
        assert host.names == ["a", "b"]

    asyncio.run(check())


def test_upkeep_saves_what_came_back(file: CountingFile) -> None:
    async def check() -> None:
        host = Disks()
        store = Store(file, host, retry_seconds=0.01)
        store.complete = True
        store.not_restored("bdev", 0, make("a"), "a is missing")
        assert store._upkeep is not None
        await asyncio.wait_for(store._upkeep, 20)
        assert store.unrestored == []
        assert names_in(file.path) == ["-", "a"]

    asyncio.run(check())


class Rooms(Disks):
    """A host whose disks have labels, which are set by calls of their own."""

    def identify(self, entry: Entry) -> tuple[Any, ...] | None:
        params = entry.params or {}
        if entry.method == "label":
            return (*self.canonical("disk", params["name"]), "label", params["side"])
        return super().identify(entry)


def label(name: str, side: str) -> Entry:
    return Entry("label", {"name": name, "side": side})


def test_what_belongs_to_an_object_is_lost_and_forgotten_with_it() -> None:
    async def check() -> None:
        entries = [make("a"), label("a", "front"), label("a", "back"), make("b"), label("b", "front")]
        store = opened(None, Rooms())
        for place, entry in enumerate(entries):
            store.not_restored("bdev", place, entry, "it is missing")
        store.made("disk", "A", "label", "front")
        assert [left.entry for left in store.unrestored] == [entries[0], *entries[2:]]
        assert not store.forget("disk", "a", "label", "front")
        assert store.forget("disk", "a")
        assert [left.entry for left in store.unrestored] == entries[3:]

    asyncio.run(check())


def test_what_belongs_to_an_object_comes_back_after_it() -> None:
    class Shelf(Rooms):
        async def attempt(self, entry: Entry) -> None:
            if entry.method != "label":
                await super().attempt(entry)
            elif (entry.params or {})["name"] not in self.names:
                raise RpcError(-2, "no such disk")

    async def check() -> None:
        host = Shelf()
        store = opened(None, host)
        for place, entry in enumerate([make("a"), label("a", "front"), make("b"), label("b", "front")]):
            store.not_restored("bdev", place, entry, "it is missing")
        host.broken = {"b"}
        assert await store.retry()
        assert [left.entry for left in store.unrestored] == [make("b"), label("b", "front")]

    asyncio.run(check())


def test_secrets_of_what_was_not_restored_are_not_shown() -> None:
    params = {"tag": 7, "secrets": [{"user": "alice", "secret": "hush", "muser": "bob", "msecret": "hush"}]}
    shown = Unrestored("iscsi", Entry("create", params), 0, "it is there already").to_rpc()["params"]
    assert shown == {"tag": 7, "secrets": [{"user": "alice", "secret": "********", "muser": "bob", "msecret": "*" * 8}]}
    assert params["secrets"] != shown["secrets"]


def test_what_is_made_again_or_removed_is_no_longer_lost() -> None:
    async def check() -> None:
        store = restored(Disks(), ["a", "b", "c"], {"a", "b", "c"})
        assert "could not be restored: b is missing" in store.hint("disk", "B")
        store.made("disk", "A")
        assert store.forget("disk", "B")
        assert not store.forget("disk", "b")
        assert store.hint("disk", "b") == ""
        assert [left.entry for left in store.unrestored] == [make("c")]

    asyncio.run(check())
