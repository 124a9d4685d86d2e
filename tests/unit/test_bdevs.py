# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block devices: memory and files."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev import aio, mapping
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.aio import AioBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.base import BdevRegistry
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import EngineError, Exists, Invalid, NoDevice
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.sigbus import BusGuard
from conftest import COLLECTIONS
from hypothesis import given
from hypothesis import strategies as st
from pool_of_none import submit

BLOCK = 512


def opened(path: Path, **options: Any) -> AioBdev:
    return AioBdev.open("disk", str(path), submit, BLOCK, **options)


@given(st.lists(st.tuples(st.integers(0, 15), st.binary(min_size=1, max_size=4)), max_size=20))
def test_memory_reads_what_was_written_last(writes: list[tuple[int, bytes]]) -> None:
    bdev = MallocBdev("M", 16, BLOCK)
    model = bytearray(bdev.size)
    for block, pattern in writes:
        data = (pattern * BLOCK)[:BLOCK]
        bdev.write(block * BLOCK, data)
        model[block * BLOCK : (block + 1) * BLOCK] = data
    assert bytes(bdev.read(0, bdev.size)) == model


def test_a_borrower_keeps_the_old_data_when_memory_is_written() -> None:
    class Reader:
        def __init__(self, bdev: MallocBdev) -> None:
            self.data = bdev.read(0, BLOCK)
            bdev.lend(self)

        def own_borrowed(self) -> None:
            self.data = bytes(self.data)

    bdev = MallocBdev("M", 4, BLOCK)
    reader = Reader(bdev)
    bdev.write(0, b"new" * 170 + b"xx")
    assert bytes(reader.data) == bytes(BLOCK)


def test_a_file_in_memory_that_grows_is_mapped_before_it_has_more_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows in another thread than it is read in."""
    seen: list[tuple[int, int]] = []

    def map_file(fd: int, size: int, *further: Any) -> mapping.Mapping | None:
        seen.append((size // BLOCK, bdev.num_blocks))
        return mapping.map_file(fd, size, *further)

    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(bytes(8 * BLOCK))
        file.flush()
        bdev = opened(Path(file.name))
        monkeypatch.setattr(aio, "map_file", map_file)
        file.write(bytes(8 * BLOCK))
        file.flush()
        bdev.rescan()
        assert (bdev.num_blocks, len(bdev.read(0, 16 * BLOCK))) == (16, 16 * BLOCK)  # type: ignore[arg-type]
        file.truncate(8 * BLOCK)
        bdev.rescan()
        assert seen == [(16, 8), (8, 8)]
        bdev.close()


def test_memory_that_somebody_truncated_is_noticed_and_not_shown_any_more() -> None:
    """In a process of its own, which SIGBUS would end."""
    done = subprocess.run(
        [sys.executable, "-c", _TRUNCATED, str(COLLECTIONS)], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == [
        "[] whole",  # nothing is lost
        "[8192] zeroes",  # the page that was copied from
        "Bad address Bad address",  # what the kernel is shown: of that page, and of one that is there
        "[8192, 0] zeroes",
        "from the file: 3",
    ], done.stderr


_TRUNCATED = """
import mmap, os, sys, tempfile
sys.path.insert(0, sys.argv[1])
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.aio import AioBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.sigbus import BusGuard

def sent(view):
    reader, writer = os.pipe()
    try:
        return os.write(writer, view)
    except OSError as error:
        return error.strerror

with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
    file.write(bytes([3]) * 16384)
    file.flush()
    guard = BusGuard()
    others = [AioBdev.open(f"other {each}", file.name, None, 512, guard=guard) for each in range(2)]
    bdev = AioBdev.open("disk", file.name, None, 512, guard=guard)
    for other in others:
        other.close()
    view, lost, store = bdev.memory
    print(lost, {bytes([3]) * 512: "whole"}[bytes(view[8192:8704])])
    file.truncate(8192)
    store[8192:8704] = bytes(512)
    print(lost, {bytes(512): "zeroes"}[bytes(view[8192:8704])])
    bdev.distrust()
    print(sent(view[8192:8704]), sent(view[0:512]))
    after = bytes(view[0:512])
    print(lost, {bytes(512): "zeroes"}[after])
    print("from the file:", bdev.read(0, 512)[0])
    bdev.close()
"""


def test_what_is_written_as_memory_changes_the_time_of_the_file() -> None:
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(bytes(8 * BLOCK))
        file.flush()
        bdev = opened(Path(file.name), guard=BusGuard())
        os.utime(file.name, (1, 1))
        bdev.close()
        assert Path(file.name).stat().st_mtime == 1
        bdev = opened(Path(file.name), guard=BusGuard())
        assert bdev.memory is not None
        assert bdev.memory.store is not None
        bdev.memory.store[:BLOCK] = b"x" * BLOCK
        bdev.touched = True
        bdev.close()
        assert Path(file.name).stat().st_mtime > 1
        assert Path(file.name).read_bytes()[:BLOCK] == b"x" * BLOCK


def test_a_file_that_is_only_read_is_no_memory_to_write_to() -> None:
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(bytes(8 * BLOCK))
        file.flush()
        bdev = opened(Path(file.name), guard=BusGuard(), readonly=True)
        assert bdev.memory is not None
        assert (bdev.memory.store, bdev.memory.lost, bdev.memory.view.readonly) == (None, None, True)
        bdev.close()


def test_a_file_in_memory_that_fills_up_under_a_write_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    room = 2 * BLOCK

    def pwrite(fd: int, data: Any, offset: int) -> int:
        if offset >= room:
            raise OSError(errno.ENOSPC, "no space")
        return os.pwritev(fd, [memoryview(data)[: room - offset]], offset)

    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(bytes(8 * BLOCK))
        file.flush()
        bdev = opened(Path(file.name))
        monkeypatch.setattr(os, "pwrite", pwrite)
        assert bdev.write(0, b"x" * BLOCK) is None
        with pytest.raises(OSError, match="no space") as raised:
            bdev.write(0, b"y" * 4 * BLOCK)
        assert (raised.value.errno, getattr(raised.value, "offset", None)) == (errno.ENOSPC, room)
        bdev.close()


@pytest.mark.parametrize(("num_blocks", "block_size"), [(0, 512), (-1, 512), (8, 1000), (8, 0)])
def test_impossible_memory_is_refused_by_name(num_blocks: int, block_size: int) -> None:
    with pytest.raises(Invalid, match="bdev M"):
        MallocBdev("M", num_blocks, block_size)


def test_memory_that_cannot_be_had_is_an_error_with_errno() -> None:
    with pytest.raises(EngineError, match="bdev Huge"):
        MallocBdev("Huge", 2**60, 512)


def test_names_and_uuids_are_unique() -> None:
    registry = BdevRegistry()
    first = registry.create(MallocBdev("M", 8, BLOCK))
    with pytest.raises(Exists, match="name"):
        registry.create(MallocBdev("M", 8, BLOCK))
    with pytest.raises(Exists, match="UUID"):
        registry.create(MallocBdev("N", 8, BLOCK, uuid=first.uuid))
    assert registry.get(first.uuid.upper()) is first
    with pytest.raises(NoDevice, match=r"Known bdevs: M\."):
        registry.get("nope")


def test_numbers_of_names_are_never_used_twice() -> None:
    registry = BdevRegistry()
    registry.create(MallocBdev(registry.next_name("Malloc"), 8, BLOCK))
    registry.delete("Malloc0")
    assert registry.next_name("Malloc") == "Malloc1"


def test_a_file_is_made_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    bdev = opened(path, size=1 << 20)
    assert bdev.size == path.stat().st_size == 1 << 20
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_blocks * 512 >= 1 << 20
    bdev.close()


def test_a_sparse_file_takes_no_space(tmp_path: Path) -> None:
    opened(tmp_path / "disk.img", size=1 << 30, sparse=True).close()
    assert (tmp_path / "disk.img").stat().st_blocks == 0


def test_a_smaller_file_grows_and_keeps_its_data(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"d" * 4096)
    opened(path, size=8192).close()
    assert path.read_bytes() == b"d" * 4096 + bytes(4096)


def test_a_larger_file_is_never_shrunk(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"d" * 8192)
    with pytest.raises(Exists, match="never shrunk"):
        opened(path, size=4096)
    assert path.read_bytes() == b"d" * 8192


def test_a_file_that_does_not_fit_takes_no_space_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk.img"
    tried: list[int] = []
    monkeypatch.setattr(os, "posix_fallocate", lambda _fd, _offset, length: tried.append(length))
    free = os.statvfs(tmp_path).f_bfree * os.statvfs(tmp_path).f_frsize
    with pytest.raises(EngineError, match="free") as refusal:
        opened(path, size=(free * 2) // BLOCK * BLOCK)
    assert refusal.value.errno == errno.ENOSPC
    assert not tried
    assert not path.exists()


def test_a_file_for_which_there_is_no_space_after_all_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, _offset: int, length: int) -> None:
        os.ftruncate(fd, length // 2)
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "disk.img"
    path.write_bytes(b"d" * 4096)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(EngineError, match="cannot reserve 61440 bytes") as refusal:
        opened(path, size=65536)
    assert refusal.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"d" * 4096


@pytest.mark.parametrize("content", [b"", b"x" * 700])
def test_a_file_of_no_whole_blocks_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "disk.img").write_bytes(content)
    with pytest.raises(Invalid, match=r"disk\.img"):
        opened(tmp_path / "disk.img")


def test_a_missing_file_without_a_size_is_an_error_with_errno(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="bdev disk") as refusal:
        opened(tmp_path / "nowhere")
    assert refusal.value.errno == errno.ENOENT


def test_a_directory_is_no_backing_store(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="bdev disk"):
        opened(tmp_path)


def test_a_file_reads_what_was_written_and_the_file_has_it(tmp_path: Path) -> None:
    async def scene() -> None:
        bdev = opened(tmp_path / "disk.img", size=8192)
        pending = bdev.write(1024, b"w" * 1024)
        if pending is not None:
            await pending
        flushed = bdev.flush()
        await flushed
        data = bdev.read(512, 2048)
        found = data if isinstance(data, (bytes, bytearray, memoryview)) else await data
        assert bytes(found) == bytes(512) + b"w" * 1024 + bytes(512)
        bdev.close()

    asyncio.run(scene())
    assert (tmp_path / "disk.img").read_bytes()[1024:2048] == b"w" * 1024


def test_a_truncated_file_gives_an_io_error_not_zeros(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "disk.img"
        bdev = opened(path, size=8192)
        os.truncate(path, 4096)
        data = bdev.read(4096, 512)
        assert not isinstance(data, (bytes, bytearray, memoryview))
        with pytest.raises(OSError, match="truncated"):
            await data
        bdev.close()

    asyncio.run(scene())


def test_resize_grows_the_file_and_never_shrinks_it(tmp_path: Path) -> None:
    bdev = opened(tmp_path / "disk.img", size=4096)
    bdev.resize(8192)
    assert (bdev.num_blocks, (tmp_path / "disk.img").stat().st_size) == (16, 8192)
    with pytest.raises(Invalid, match="never shrunk"):
        bdev.resize(4096)
    assert bdev.num_blocks == 16
    bdev.close()


def test_removing_the_file_is_idempotent(tmp_path: Path) -> None:
    bdev = opened(tmp_path / "disk.img", size=4096)
    bdev.close()
    bdev.remove_file()
    bdev.remove_file()
    assert not (tmp_path / "disk.img").exists()


def test_what_comes_after_the_end_of_a_file_finds_no_other_file(tmp_path: Path) -> None:
    bdev = opened(tmp_path / "disk", size=BLOCK)
    bdev.close()
    with (tmp_path / "other").open("w+b") as other:
        other.write(b"o" * BLOCK)
        other.flush()

        async def write() -> None:
            pending = bdev.write(0, b"x" * BLOCK)
            if pending is not None:
                await pending

        with pytest.raises(OSError, match="Bad file descriptor"):
            asyncio.run(write())
    assert (tmp_path / "other").read_bytes() == b"o" * BLOCK
