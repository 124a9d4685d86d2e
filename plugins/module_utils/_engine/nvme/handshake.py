# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stopping and starting a controller by its registers (NVMe Base 2.0, §3.5 and §3.6)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Callable, Final

from . import registers as reg
from .errors import ControllerFailed, Pulled
from .registers import Capabilities, Registers

_GRACE: Final = 5.0
"""Seconds beyond what the controller itself declares."""
_SHUTDOWN_SECONDS: Final = 10.0
_LOOK_AGAIN: Final = (0.0005, 0.02)


class Handshake:
    """``name`` is what error messages call the controller."""

    def __init__(self, name: str, registers: Registers, capabilities: Capabilities) -> None:
        self._name = name
        self._registers = registers
        self._ready_seconds = capabilities.ready_seconds + _GRACE

    async def disable(self) -> None:
        """Stop it, whatever it was doing for whoever had it before; then it reaches no memory any more.

        Raises ControllerFailed or Pulled.
        """
        control = self._read(reg.CC)
        if control & reg.CC_ENABLE and not self._read(reg.CSTS) & (reg.CSTS_READY | reg.CSTS_FATAL):
            # It is still starting, and must not be stopped before it is ready (§3.1.3.5).
            with contextlib.suppress(ControllerFailed):
                await self._until(lambda: self._ready() or self._fatal(), "does not become ready")
        self._registers.set(reg.CC, control & ~(reg.CC_ENABLE | reg.CC_SHUTDOWN_MASK))
        await self._until(lambda: not self._ready(), "does not stop")

    async def enable(self) -> None:
        """Start it with the queues that the registers name. Raises ControllerFailed or Pulled."""
        self._registers.set(reg.CC, reg.CC_ENTRY_SIZES)
        self._registers.set(reg.CC, reg.CC_ENTRY_SIZES | reg.CC_ENABLE)
        await self._until(lambda: self._ready() or self._fatal(), "does not become ready")
        if self._fatal():
            raise ControllerFailed(f"{self._name}: the controller reports a fatal error while it starts")

    async def shut_down(self) -> None:
        """Tell it that the power may go: what it caches is written. Raises ControllerFailed or Pulled."""
        control = self._read(reg.CC)
        if not control & reg.CC_ENABLE:
            return
        self._registers.set(reg.CC, control & ~reg.CC_SHUTDOWN_MASK | reg.CC_NORMAL_SHUTDOWN)
        done = reg.CSTS_SHUTDOWN_DONE
        await self._until(
            lambda: self._read(reg.CSTS) & reg.CSTS_SHUTDOWN_MASK == done, "does not shut down", _SHUTDOWN_SECONDS
        )

    def _read(self, offset: int) -> int:
        value = self._registers.get(offset)
        if value == reg.GONE:
            raise Pulled(f"{self._name}: the device is gone")
        return value

    def _ready(self) -> bool:
        return bool(self._read(reg.CSTS) & reg.CSTS_READY)

    def _fatal(self) -> bool:
        return bool(self._read(reg.CSTS) & reg.CSTS_FATAL)

    async def _until(self, condition: Callable[[], bool], complaint: str, seconds: float | None = None) -> None:
        loop = asyncio.get_running_loop()
        limit = self._ready_seconds if seconds is None else seconds
        deadline = loop.time() + limit
        pause, longest = _LOOK_AGAIN
        while not condition():
            if loop.time() > deadline:
                status = self._registers.get(reg.CSTS)
                raise ControllerFailed(f"{self._name}: the controller {complaint} in {limit:g} s (CSTS {status:08x}h)")
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)
