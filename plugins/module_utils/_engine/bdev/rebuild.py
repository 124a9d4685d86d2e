# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a new base of a mirror the same as the others, while the mirror is used.

It is copied window by window, from the beginning. A window is copied when nothing is being written there any more, and
what comes meanwhile waits until it has passed. What is written to blocks that were copied already goes to the new base
too; what is written to the others will be copied.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from . import beneath
from .raid_base import awaited

if TYPE_CHECKING:
    from .base import Bdev
    from .mirror import MirrorBdev

_LOG = logging.getLogger(__name__)

WINDOW: Final = "process_window_size_kb"
RATE: Final = "process_max_bandwidth_mb_sec"
DEFAULTS: Final = {WINDOW: 1024, RATE: 0}
"""SPDK's options, of bdev_raid_set_options: KiB that are copied at a time, MiB a second, without a limit if 0."""
_LARGEST: Final = 16 * 1024 * 1024
"""Bytes of the largest window, whatever is asked for: it is in memory."""
_KIB: Final = 1024
_MIB: Final = 1024 * 1024


class Rebuild:
    """Begins when it is started. ``options`` are some like DEFAULTS, and are looked at for every window."""

    def __init__(self, mirror: MirrorBdev, target: Bdev, options: Mapping[str, int]) -> None:
        self.target = target
        self.copied = 0
        """Bytes from the beginning of the mirror."""
        self._mirror = mirror
        self._options = options
        self._window: tuple[int, int] | None = None
        self._passed = asyncio.Event()
        self._stopped = asyncio.Event()
        self._is_paused = False
        self._task: asyncio.Task[None] | None = None

    @property
    def is_at_work(self) -> bool:
        return self._task is not None

    def start(self) -> None:
        """Copy everything, from the beginning."""
        if self._task is None:
            self.copied = 0
            self._task = asyncio.ensure_future(self._run())

    async def pause(self) -> None:
        """Return when nothing more lands on the base: whoever goes on begins anew."""
        task = self._task
        if task is None:
            return
        self._is_paused = True
        self._stopped.set()
        await asyncio.wait({task})
        await self._mirror.at_rest(0, self._mirror.size)
        self._is_paused = False
        self._stopped.clear()
        self._task = None
        self.copied = 0

    def is_copying(self, begin: int, end: int) -> bool:
        """Is something between these bytes being copied now?"""
        window = self._window
        return window is not None and begin < window[1] and window[0] < end

    async def passed(self) -> None:
        """Return when what is being copied now is copied, or given up."""
        await self._passed.wait()

    def stop(self) -> None:
        """Copy nothing more."""
        self._stopped.set()

    def close(self) -> None:
        """Its mirror is gone, or somebody else has done it."""
        if self._task is not None:
            self._task.cancel()

    async def end(self) -> None:
        """The engine stops: it begins anew when it starts again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def progress(self) -> dict[str, Any]:
        """As bdev_raid_get_bdevs shows it."""
        done = {"blocks": self.copied // self._mirror.block_size, "percent": self.percent}
        return {"type": "rebuild", "target": self.target.name, "progress": done}

    @property
    def percent(self) -> int:
        return self.copied * 100 // self._mirror.size

    async def _run(self) -> None:
        why: object = None
        try:
            await self._copy_all()
        except OSError as error:
            why = error
        except Exception:  # pylint: disable=broad-except
            _LOG.exception("the rebuild of bdev %s stops because of a bug", self._mirror.name)
            why = "a bug in the engine"
        if self._is_paused and why is None:
            return
        self._mirror.rebuilt(self, why)

    async def _copy_all(self) -> None:
        size, block_size = self._mirror.size, self._mirror.block_size
        while self.copied < size and not self._stopped.is_set():
            window = min(self._options[WINDOW] * _KIB, _LARGEST) // block_size * block_size
            begun, length = monotonic(), min(max(window, block_size), size - self.copied)
            before = self.percent
            await self._copy(self.copied, self.copied + length)
            if self.percent != before:
                self._mirror.note_progress()
            await self._rest(length, begun)
        if not self._stopped.is_set():
            await awaited(beneath.flush(self.target))

    async def _copy(self, begin: int, end: int) -> None:
        mirror, self._window = self._mirror, (begin, end)
        self._passed.clear()
        try:
            await mirror.at_rest(begin, end)
            with mirror.writing(begin, end):
                data = await awaited(mirror.read(begin, end - begin))
                if self._stopped.is_set():
                    return
                await awaited(beneath.write(self.target, begin, data))
            self.copied = end
        finally:
            self._window = None
            self._passed.set()

    async def _rest(self, length: int, begun: float) -> None:
        """Keep to the limit, and let others have their turn."""
        rate = self._options[RATE] * _MIB
        seconds = begun + length / rate - monotonic() if rate else 0.0
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)
