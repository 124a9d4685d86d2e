# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Space of block devices: given back, filled with zeroes, asked for."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.aio import AioBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.base import Bdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from hypothesis import given
from hypothesis import strategies as st
from pool_of_none import submit

MIB = 2**20


def outcome(operation: Callable[[], Any]) -> Any:
    """What an operation of a bdev gives, now or later."""

    async def settled() -> Any:
        result = operation()
        return await result if inspect.isawaitable(result) else result

    return asyncio.run(settled())


def _file(directory: Path) -> AioBdev:
    path = directory / f"openlun-test-{os.getpid()}"
    bdev = AioBdev.open("F", str(path), submit, size=4 * MIB, fallocate=True)
    path.unlink()
    return bdev


@pytest.fixture(params=["malloc", "disk", "memory"])
def thin(request: pytest.FixtureRequest, tmp_path: Path) -> Bdev:
    """In memory, in a file of the disk (zeroed by range where it can), in a file on tmpfs."""
    if request.param == "malloc":
        return MallocBdev("M", 4 * MIB // 512, 512)
    return _file(tmp_path if request.param == "disk" else Path("/dev/shm"))


def test_unmapped_blocks_read_as_zeroes_and_take_no_space(thin: Bdev) -> None:
    outcome(lambda: thin.write(0, b"x" * (2 * MIB)))
    outcome(lambda: thin.unmap(MIB, MIB))
    assert bytes(outcome(lambda: thin.read(MIB - 512, 1024))) == b"x" * 512 + bytes(512)
    assert outcome(lambda: thin.allocation(0, 4 * MIB)) == (True, MIB)
    assert outcome(lambda: thin.allocation(MIB, MIB)) == (False, MIB)


def test_zeroed_blocks_keep_their_space(thin: Bdev) -> None:
    outcome(lambda: thin.write(0, b"x" * (2 * MIB)))
    outcome(lambda: thin.write_zeroes(0, MIB))
    assert bytes(outcome(lambda: thin.read(0, MIB + 1))) == bytes(MIB) + b"x"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 31), st.integers(1, 16)), max_size=12))
def test_memory_is_what_a_model_says(steps: list[tuple[bool, int, int]]) -> None:
    bdev, model, taken = MallocBdev("M", 48, 512), bytearray(48 * 512), [False] * 48
    for number, (unmap, first, blocks) in enumerate(steps):
        data = bytes(blocks * 512) if unmap else bytes([number + 1]) * (blocks * 512)
        if unmap:
            bdev.unmap(first * 512, blocks * 512)
        else:
            bdev.write(first * 512, data)
        model[first * 512 : (first + blocks) * 512] = data
        taken[first : first + blocks] = [not unmap] * blocks
    assert bytes(bdev.read(0, 48 * 512)) == model
    assert [bdev.allocation(block * 512, 512)[0] for block in range(48)] == taken


def test_a_file_without_fallocate_gives_nothing_back(tmp_path: Path) -> None:
    thick = AioBdev.open("F", str(tmp_path / "disk"), submit, size=MIB)
    assert not thick.unmaps
    assert "unmap" not in thick.io_types()
