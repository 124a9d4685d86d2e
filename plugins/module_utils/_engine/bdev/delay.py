# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A block device that takes its time (SPDK's bdev_delay): for finding out how initiators bear a slow disk."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Any, Callable, Final

from . import beneath
from .base import Bdev, Buffer
from .virtual import VirtualBdev

LATENCIES: Final = ("avg_read_latency", "p99_read_latency", "avg_write_latency", "p99_write_latency")
"""Microseconds: of most operations, and of one in a hundred."""
_ONE_IN: Final = 100


class DelayBdev(VirtualBdev):
    """``latencies`` has a value for each of LATENCIES."""

    product_name = "delay"

    def __init__(self, name: str, base: Bdev, uuid: str | None, latencies: dict[str, int]) -> None:
        super().__init__(name, base, uuid)
        self.consumes_inline = False
        self.latencies = dict(latencies)

    def read(self, offset: int, length: int) -> Awaitable[Buffer]:
        return self._later("read", beneath.read, self.base, offset, length)

    def write(self, offset: int, data: Buffer) -> Awaitable[Any]:
        return self._later("write", beneath.write, self.base, offset, data)

    def write_through(self, offset: int, data: Buffer) -> Awaitable[Any]:
        return self._later("write", beneath.write_through, self.base, offset, data)

    def unmap(self, offset: int, length: int) -> Awaitable[Any]:
        return self._later("write", beneath.unmap, self.base, offset, length)

    def write_zeroes(self, offset: int, length: int) -> Awaitable[Any]:
        return self._later("write", beneath.write_zeroes, self.base, offset, length)

    def flush(self) -> Awaitable[Any]:
        return self._later("write", beneath.flush, self.base)

    async def _later(self, kind: str, operation: Callable[..., Any], *arguments: Any) -> Any:
        rank = "p99" if random.randrange(_ONE_IN) == 0 else "avg"
        await asyncio.sleep(self.latencies[f"{rank}_{kind}_latency"] / 1e6)
        result = operation(*arguments)
        return await result if hasattr(result, "__await__") else result

    def settings(self) -> dict[str, Any]:
        return {"latencies": dict(self.latencies)}

    def driver_specific(self) -> dict[str, Any]:
        return {"delay": {"name": self.name, "base_bdev_name": self.base.name, **self.latencies}}

    def config(self) -> tuple[str, dict[str, Any]]:
        return "bdev_delay_create", {
            "name": self.name,
            "base_bdev_name": self.base.name,
            **self.latencies,
            "uuid": self.uuid,
        }
