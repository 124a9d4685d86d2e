# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that hangs, or a queue that is deep, keeps nobody else from working."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.aio import AioBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.base import Buffer
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.auth import Auth
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.pool import Pool
from in_process import TargetInProcess
from pdu import cdb, wire
from pdu.initiator import Initiator

BLOCK = 512
THREADS = 4
READ = wire.FINAL | wire.READ | wire.SIMPLE


class PooledDisk(AioBdev):
    """A file that is never read but by the pool."""

    def read(self, offset: int, length: int) -> Buffer:
        return self._hand_off(self._read_blocking, offset, length)  # type: ignore[return-value]


class HungDisk(PooledDisk):
    """A read does not end before ``gate`` is opened."""

    gate: threading.Event

    def _read_blocking(self, offset: int, length: int) -> Buffer:
        self.gate.wait()
        return super()._read_blocking(offset, length)


class SlowTarget(TargetInProcess):
    """Nodes ``hung0``, ``hung1`` with a disk each that hangs, and ``fine`` with one that works, on a pool of four."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self.gate = threading.Event()

    def __enter__(self) -> SlowTarget:
        super().__enter__()
        self.call(self._make_disks)
        return self

    def _make_disks(self) -> None:
        self.pool = pool = Pool(self._loop, THREADS)
        for kind, name in ((HungDisk, "hung0"), (HungDisk, "hung1"), (PooledDisk, "fine")):
            path = self._directory / name
            path.write_bytes(bytes(64 * BLOCK))
            disk = kind.open(name, str(path), pool.share().submit, BLOCK)
            if isinstance(disk, HungDisk):
                disk.gate = self.gate
            self.bdevs.create(disk)
            self.iscsi.create_node(self.node(name), "", [(1, 2)], [(0, name)], 64, Auth(disable_chap=True))

    @staticmethod
    def node(name: str) -> str:
        return f"iqn.2016-06.io.spdk:{name}"

    def read_from(self, name: str, count: int, number: int) -> tuple[Initiator, list[wire.Pdu]]:
        """A session with so many READs under way."""
        initiator = self.connect(isid=b"\x80\0\0\0\0" + bytes([number])).login(self.node(name))
        assert initiator.execute(cdb.unit_ready()).status == 0
        reads = [initiator.command(cdb.read_10(at, 1), flags=READ, length=BLOCK) for at in range(count)]
        initiator.send(*reads)
        return initiator, reads


@pytest.fixture
def target(tmp_path: Path) -> Iterator[SlowTarget]:
    with SlowTarget(tmp_path) as target:
        try:
            yield target
        finally:
            target.gate.set()
            target.call(target.pool.close)


def test_disks_that_hang_leave_the_pool_to_others(target: SlowTarget) -> None:
    hung = [target.read_from(f"hung{number}", 30, number) for number in range(2)]
    fine, reads = target.read_from("fine", 30, 2)
    with fine:
        for read in reads:
            assert fine.finish(read).data == bytes(BLOCK)
    target.gate.set()
    for initiator, waiting in hung:
        with initiator:
            tags = {initiator.receive().itt for _read in waiting}
            assert tags == {read.itt for read in waiting}
