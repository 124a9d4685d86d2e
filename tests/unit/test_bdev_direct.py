# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files without the page cache (O_DIRECT)."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.aio import AioBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import Invalid
from pool_of_none import submit

BLOCK, BLOCKS = 512, 64


def opened(path: Path, **options: Any) -> AioBdev:
    return AioBdev.open("disk", str(path), submit, direct=True, **{"size": BLOCKS * BLOCK, **options})


def flags_of(path: Path) -> int:
    """With which this process has the file open (proc(5))."""
    (fd,) = (
        each.name
        for each in Path("/proc/self/fd").iterdir()
        if each.is_symlink() and os.path.realpath(each) == str(path)
    )
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("flags")), 8)


def test_data_goes_past_the_page_cache_wherever_it_lies_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    bdev = opened(path)
    assert flags_of(path) & os.O_DIRECT
    data = os.urandom(9 * BLOCK)

    async def exchange() -> bytes:
        done = bdev.write(3 * BLOCK, memoryview(b"odd" + data)[3:])
        assert done is not None
        await done
        found = bdev.read(2 * BLOCK, 11 * BLOCK)
        assert asyncio.isfuture(found)
        before = bytes(await found)
        await bdev.write_zeroes(4 * BLOCK, BLOCK)
        return before

    assert asyncio.run(exchange()) == bytes(BLOCK) + data + bytes(BLOCK)
    bdev.close()
    expected = data[:BLOCK] + bytes(BLOCK) + data[2 * BLOCK :]
    assert path.read_bytes() == bytes(3 * BLOCK) + expected + bytes((BLOCKS - 12) * BLOCK)


def test_it_is_saved_and_shown_where_it_is_meant(tmp_path: Path) -> None:
    direct = opened(tmp_path / "disk")
    assert direct.config()[1]["direct"] is direct.driver_specific()["aio"]["direct"] is True
    direct.close()
    cached = AioBdev.open("disk", str(tmp_path / "disk"), submit)
    assert "direct" not in {**cached.config()[1], **cached.driver_specific()["aio"]}
    cached.close()


def failing(*_arguments: Any) -> Any:
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


@pytest.mark.parametrize(
    ("where", "call", "words"),
    [(fcntl, "fcntl", "disk is on a file system without"), (os, "preadv", "blocks of 512 bytes.* Give a larger")],
)
def test_where_it_is_not_possible_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, call: str, words: str
) -> None:
    monkeypatch.setattr(where, call, failing)
    with pytest.raises(Invalid, match=words):
        opened(tmp_path / "disk")
    assert list(tmp_path.iterdir()) == []
