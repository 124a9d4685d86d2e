# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a file is asked to keep: fdatasync(2) after FUA and SYNCHRONIZE CACHE, before the answer (SBC-4 §4.15)."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.aio import AioBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi import sense
from scsi_bench import BLOCK, BLOCKS, Bench

A = b"a" * BLOCK
WRITE, SYNC = "write", "sync"
CALLS = {"pwrite": WRITE, "pwritev": WRITE, "fdatasync": SYNC}
NO_WRITE_CACHE = ("151000001800", bytes.fromhex("00000000 0812") + bytes(18))
"""MODE SELECT(6) of the caching page with WCE off."""


class Disk(Bench):
    """On a file; ``calls`` has what was asked of the operating system, and when a command was answered."""

    def __init__(self, path: Path) -> None:
        super().__init__(AioBdev.open("F", str(path), self._submit, size=BLOCKS * BLOCK))
        self.calls: list[str] = []

    def _submit(self, function: Any, *arguments: Any) -> asyncio.Future[Any]:
        """Later, so that an answer that does not wait for it comes before it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def work() -> None:
            try:
                future.set_result(function(*arguments))
            except OSError as error:
                future.set_exception(error)

        loop.call_soon(work)
        return future

    def calls_of(self, cdb: str, data: bytes = b"") -> list[str]:
        """What a command that succeeds asked for by the time of its answer."""
        self.calls.clear()
        self.good(cdb, data)
        return self.calls


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(tmp_path / "disk")

    def noting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            result = original(*arguments)
            disk.calls.append(CALLS[name])
            return result

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, noting(name, getattr(os, name)))
    return disk


FUA = {
    "WRITE(10)": ("2a08 00000001 00 0001 00", A),
    "WRITE(12)": ("aa08 00000001 00000001 00", A),
    "WRITE(16)": ("8a08 0000000000000001 00000001", A),
    "COMPARE AND WRITE": ("8908 0000000000000001 000000 01", bytes(BLOCK) + A),
    "ORWRITE": ("8b08 0000000000000001 00000001", A),
    "WRITE AND VERIFY": ("2e00 00000001 00 0001 00", A),
}


@pytest.mark.parametrize("command", FUA)
def test_what_is_written_with_fua_is_on_the_device_before_the_answer(disk: Disk, command: str) -> None:
    assert disk.calls_of(*FUA[command]) == [WRITE, SYNC]


@pytest.mark.parametrize("cdb", ["3500 00000000 00 0000 00", "9100 0000000000000000 00000000"])
def test_synchronize_cache_waits_for_the_device(disk: Disk, cdb: str) -> None:
    assert disk.calls_of("2a00 00000001 00 0001 00", A) == [WRITE]
    assert disk.calls_of(cdb) == [SYNC]


@pytest.mark.parametrize("cdb", ["2a00 00000001 00 0001 00", "8a00 0000000000000001 00000001"])
def test_without_a_write_cache_every_write_is_on_the_device(disk: Disk, cdb: str) -> None:
    assert disk.calls_of(cdb, A) == [WRITE]
    disk.good(*NO_WRITE_CACHE)
    assert disk.calls_of(cdb, A) == [WRITE, SYNC]
    assert disk.calls_of("4100 00000001 00 0001 00", A)[-1] == SYNC


@pytest.mark.parametrize("command", ["WRITE(10)", "COMPARE AND WRITE", "SYNCHRONIZE CACHE"])
def test_what_the_device_could_not_keep_is_no_success(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def failing(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", failing)
    cdb, data = FUA.get(command, ("3500 00000000 00 0000 00", b""))
    assert disk.fails(cdb, data) == (sense.MEDIUM_ERROR, 0x0C, 0x00)


def test_a_new_file_is_found_after_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())))
    for _again in range(2):
        disk = Disk(tmp_path / "disk")
        disk.lun.bdev.close()
    assert synced == [str(tmp_path)]
