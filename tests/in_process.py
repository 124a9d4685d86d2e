# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A target in a thread of the test, on a disk whose WRITEs finish when the test says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.base import BdevRegistry, Buffer
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.auth import Auth
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.target import IscsiTarget
from engine_process import eventually, free_port
from pdu.initiator import Initiator

T = TypeVar("T")


class HeldDisk(MallocBdev):
    """16 MiB of memory. While it is ``held``, neither WRITEs nor READs finish."""

    consumes_inline = False
    lends_memory = False

    def __init__(self) -> None:
        super().__init__("Held0", 32768, 512)
        self.memory = None
        self.held = False
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []

    @property
    def working(self) -> int:
        """How many READs and WRITEs it is at."""
        return len(self._waiting)

    def _when_released(self, work: Callable[[], T]) -> T | asyncio.Future[T]:
        if not self.held:
            return work()
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        return future

    def read(self, offset: int, length: int) -> Any:
        return self._when_released(lambda: bytes(MallocBdev.read(self, offset, length)))

    def write(self, offset: int, data: Buffer) -> Any:
        return self._when_released(lambda: MallocBdev.write(self, offset, data))

    def release(self) -> None:
        self.held = False
        waiting, self._waiting = self._waiting, []
        for work, future in waiting:
            future.set_result(work())


class TargetInProcess:
    """``with TargetInProcess() as target``: node ``target.name`` has a :class:`HeldDisk` as LUN 0, another as LUN 1."""

    def __init__(self, **options: int | bool) -> None:
        self._options = options
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.port = free_port()
        self.name = "iqn.2016-06.io.spdk:held"

    def __enter__(self) -> TargetInProcess:
        self._thread.start()
        self.call(self._make)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.call(self.disk.release)
        asyncio.run_coroutine_threadsafe(self.iscsi.shutdown(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _make(self) -> None:
        self.bdevs = bdevs = BdevRegistry()
        self.disk = HeldDisk()
        bdevs.create(self.disk)
        self.iscsi = IscsiTarget(bdevs)
        for name, value in self._options.items():
            setattr(self.iscsi.options, name, value)
        self.iscsi.create_initiator_group(2, ["ANY"], ["ANY"])
        self.iscsi.create_portal_group(1, [("127.0.0.1", str(self.port))])
        self.iscsi.start_serving()
        bdevs.create(MallocBdev("Free0", 2048, 512))
        luns = [(0, "Held0"), (1, "Free0")]
        self.iscsi.create_node(self.name, "", [(1, 2)], luns, 64, Auth(disable_chap=True))

    def call(self, function: Callable[[], T]) -> T:
        """Run a function where the target runs, and give what it returns."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(20)

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Let something run where the target runs."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def hold(self) -> None:
        def hold() -> None:
            self.disk.held = True

        self.call(hold)

    def release(self) -> None:
        self.call(self.disk.release)

    def wait_until_working(self, count: int = 1) -> None:
        """Until the disk is at this many READs and WRITEs."""
        eventually(lambda: self.call(lambda: self.disk.working) == count, f"{count} commands at the disk")

    def connect(self, **options: Any) -> Initiator:
        return Initiator(("127.0.0.1", self.port), **options)

    def login(self, **keys: str) -> Initiator:
        return self.connect().login(self.name, **keys)
