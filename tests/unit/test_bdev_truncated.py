# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on tmpfs that somebody truncates: nothing that is gone is taken for zeroes, and nobody else suffers."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.aio import AioBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.base import Bdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.raid import MirrorBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.virtual import PassthruBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.sending import Sender
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi import store
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.sigbus import BusGuard
from conftest import COLLECTIONS
from pool_of_none import submit

BLOCK = 512
SIZE = 16384


@pytest.fixture
def paths() -> Iterator[list[Path]]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        paths = [Path(directory, name) for name in ("one", "two")]
        for path in paths:
            path.write_bytes(b"\3" * SIZE)
        yield paths


def opened(path: Path, **options: Any) -> AioBdev:
    return AioBdev.open(path.name, str(path), submit, BLOCK, guard=BusGuard(), **options)


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("beneath", [False, True])
def test_what_commands_read_for_themselves_is_an_error(paths: list[Path], readonly: bool, beneath: bool) -> None:
    """Those that compare, copy and change blocks."""
    bdev: Bdev = opened(paths[0], readonly=readonly)
    if beneath:
        bdev = PassthruBdev("P", bdev)
    os.truncate(paths[0], SIZE // 2)

    async def read(offset: int) -> bytes:
        return bytes(await store.read(bdev, offset, BLOCK))

    with pytest.raises(OSError, match="truncated") as error:
        asyncio.run(read(SIZE - BLOCK))
    assert error.value.errno == 5
    assert asyncio.run(read(0)) == b"\3" * BLOCK


def test_the_other_disk_of_a_mirror_answers_the_first_read_already(paths: list[Path]) -> None:
    degraded: list[bool] = []

    async def first() -> bytes:
        mirror = MirrorBdev("R", [opened(path) for path in paths], None, lambda: degraded.append(True))
        os.truncate(paths[0], 0)
        result = mirror.read(0, 4096)
        return bytes(result if isinstance(result, (bytes, bytearray, memoryview)) else await result)

    assert asyncio.run(first()) == b"\3" * 4096
    assert degraded


class Connection(Sender):
    """Shows memory of devices to a peer."""

    def close(self) -> None:
        self.closed = True

    def pause(self, why: str) -> None: ...

    def resume(self, why: str) -> None: ...


@pytest.fixture
def connection() -> Iterator[Callable[[], Connection]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield lambda: Connection(ours)


def test_a_connection_that_shows_two_disks_takes_only_the_truncated_one_along(
    paths: list[Path], connection: Callable[[], Connection]
) -> None:
    async def flushed() -> None:
        one, two, memory = opened(paths[0]), opened(paths[1]), MallocBdev("M", 8, BLOCK)
        senders = connection(), connection()
        for sender in senders:
            for bdev in (two, memory, one):
                sender.borrow(bdev)
                data = bdev.read(0, BLOCK)
                assert isinstance(data, memoryview)
                sender.queue_raw(data)
        os.truncate(paths[0], 0)
        for sender in senders:
            sender.flush()
            assert sender.closed
        assert (one.memory is None, two.memory is None, memory.lends_memory) == (True, False, True)

    asyncio.run(flushed())


def test_who_had_to_own_what_it_showed_is_called_by_no_device_any_more(
    paths: list[Path], connection: Callable[[], Connection]
) -> None:
    async def owned() -> None:
        bdevs = [opened(path) for path in paths]
        sender = connection()
        for bdev in bdevs:
            sender.borrow(bdev)
        bdevs[0].write(0, bytes(BLOCK))
        assert not bdevs[1].borrowers

    asyncio.run(owned())


_SENT = """
import mmap, os, signal, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.sigbus import BusGuard
guard = BusGuard()
memory = mmap.mmap(-1, 4096)
guard.add(4096, 4096, [])
guard.remove(4096)
print("sent", flush=True)
os.kill(os.getpid(), signal.SIGBUS)
print("alive")
"""


def test_a_signal_that_somebody_sends_ends_the_process_as_it_always_did() -> None:
    done = subprocess.run([sys.executable, "-c", _SENT, str(COLLECTIONS)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("sent\n", -7), done.stderr


def test_where_the_structures_are_not_known_nothing_is_guarded(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "s390x")
    bdev = opened(paths[0])
    assert bdev.memory is not None
    assert (bdev.memory.store, bdev.memory.lost, bdev.memory.view.readonly) == (None, None, True)
    bdev.close()
