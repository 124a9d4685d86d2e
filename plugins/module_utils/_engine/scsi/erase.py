# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FORMAT UNIT and SANITIZE (SBC-4 §5.4, §5.28): a logical unit is erased while it says how far that is."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable
from typing import Callable, Final

from ..bdev.base import Bdev
from . import store
from .alua import Access
from .command import Rules
from .device import Task
from .reservations import Conflict
from .sense import (
    FormatFailed,
    FormatInProgress,
    InvalidFieldInCdb,
    InvalidFieldInParameters,
    SanitizeFailed,
    SanitizeInProgress,
    ScsiError,
)
from .unit import UnitState

_log = logging.getLogger(__name__)

_STEP: Final = 16 * 1024 * 1024
_IMMEDIATE: Final = 0x80
RULES: Final = Rules(Conflict.WRITE, Access.ACTIVE, medium=True, writes=True, alone=True, erasing=True)
"""An erasure that failed may be followed by another one: see :func:`_check`."""

Handler = Callable[[Task], Awaitable[None]]
Step = Callable[[int, int], Awaitable[None]]
"""Erases ``length`` bytes at ``offset``."""


class Eraser:
    """An erasure at work or failed; it goes on whatever becomes of the command and the session that began it."""

    def __init__(self, state: UnitState, passes: list[Step], sanitizes: bool) -> None:
        self._state = state
        self._passes = passes
        self.sanitizes = sanitizes
        self._done = 0
        self.failed = False
        self.may_exit = False
        """AUSE: after a failure, EXIT FAILURE MODE brings the unit back."""
        self._task: asyncio.Task[None] | None = None
        self._is_told: asyncio.Future[None] | None = None
        """That it is at work outlives the process when this is done."""
        self.is_called_off = False

    @classmethod
    def cut_short(cls, state: UnitState, sanitizes: bool, may_exit: bool) -> Eraser:
        """One that did not come to its end where the unit was served before."""
        eraser = cls(state, [], sanitizes)
        eraser.failed, eraser.may_exit = True, may_exit
        return eraser

    def refusal(self) -> ScsiError:
        if self.failed:
            return SanitizeFailed() if self.sanitizes else FormatFailed()
        total = self._state.bdev.size * len(self._passes)
        progress = min(self._done * 65536 // total, 65535)
        return SanitizeInProgress(progress) if self.sanitizes else FormatInProgress(progress)

    def begin(self) -> asyncio.Task[None]:
        """What becomes of it; OSError leaves the unit unusable until an erasure succeeds."""
        self._state.erasure = self
        kept = self._state.changed()
        self._is_told = None if kept is None else asyncio.ensure_future(kept)
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._done_with)
        return self._task

    async def told(self) -> None:
        """Return when everybody who may have to do with the unit later will know of it. Raises OSError."""
        if self._is_told is not None:
            await asyncio.shield(self._is_told)

    async def _run(self) -> None:
        bdev = self._state.bdev
        try:
            await self.told()
            for step in self._passes:
                for offset in range(0, bdev.size, _STEP):
                    if self.is_called_off:
                        raise OSError(errno.ECANCELED, "its target node went to another process meanwhile")
                    await step(offset, min(_STEP, bdev.size - offset))
                    self._done += min(_STEP, bdev.size - offset)
                    await asyncio.sleep(0)  # memory is erased at once, and others are waiting
            await store.flush(bdev)
        except BaseException:
            self.failed = True
            raise
        self._state.erasure = None
        kept = self._state.changed()
        if kept is not None:
            await kept

    async def at_rest(self, seconds: float, more_seconds: float) -> bool:
        """See :class:`unit.Erasure`."""
        if self._task is None:
            return True
        done, _late = await asyncio.wait({self._task}, timeout=seconds)
        if not done:
            self.is_called_off = True
            done, _late = await asyncio.wait({self._task}, timeout=more_seconds)
        return bool(done)

    def _done_with(self, task: asyncio.Task[None]) -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("bdev %s: erasing it failed: %s", self._state.bdev.name, error)


async def _erase(task: Task, passes: list[Step], sanitizes: bool, immediate: bool, may_exit: bool = False) -> None:
    eraser = Eraser(task.unit.state, passes, sanitizes)
    eraser.may_exit = may_exit
    erasing = eraser.begin()
    if immediate:
        await eraser.told()
    else:
        waiting = asyncio.ensure_future(asyncio.shield(erasing))
        task.give_up = waiting.cancel
        await waiting


def _check(task: Task, mends_sanitize: bool) -> None:
    """Raises what others are told while one is at work, or has failed and is not mended by this one."""
    erasure = task.unit.state.erasure
    if isinstance(erasure, Eraser) and not (erasure.failed and (mends_sanitize or not erasure.sanitizes)):
        raise erasure.refusal()


def _clearing(task: Task) -> Step:
    """Give the space back where that is possible, else write zeroes."""
    bdev = task.unit.bdev

    async def clear(offset: int, length: int) -> None:
        await (store.unmap if _unmaps(bdev) else store.zero)(bdev, offset, length)

    return clear


# -- FORMAT UNIT


def prepare_format(task: Task) -> int:
    """The header of the parameter list; defect lists are not taken."""
    flags = task.cdb[1]
    if flags & 0xC0:
        raise InvalidFieldInCdb(byte=1, bit=7)  # FMTPINFO: there is no protection information
    if not flags & 0x10:
        return 0
    return 8 if flags & 0x20 else 4


async def format_unit(task: Task) -> None:
    """FORMAT UNIT: the block size stays, the data goes. It does not mend a SANITIZE that failed."""
    _check(task, mends_sanitize=False)
    header = bytes(task.data_out)
    immediate = len(header) >= 2 and bool(header[1] & 0x02)
    if header and (header[0] & 0x07 or any(header[2:])):
        raise InvalidFieldInParameters(byte=0 if header[0] & 0x07 else 2)
    await _erase(task, [_clearing(task)], sanitizes=False, immediate=immediate)


# -- SANITIZE


def _check_reserved(task: Task) -> None:
    """What is erased is gone, so that nothing is guessed: bits that mean nothing are an error here."""
    for byte, bits in ((1, 0x40), *((byte, 0xFF) for byte in range(2, 7))):
        if task.cdb[byte] & bits:
            raise InvalidFieldInCdb(byte=byte)


def _prepare_overwrite(task: Task) -> int:
    _check_reserved(task)
    length = int.from_bytes(task.cdb[7:9], "big")
    if not 4 < length <= task.unit.bdev.block_size + 4:
        raise InvalidFieldInCdb(byte=7)
    return length


def _prepare_nothing(task: Task) -> int:
    _check_reserved(task)
    if any(task.cdb[7:9]):
        raise InvalidFieldInCdb(byte=7)
    return 0


async def _overwrite(task: Task) -> None:
    """The pattern as often as asked; INVERT turns it over with every pass (SBC-4 §5.28.3)."""
    bdev, data = task.unit.bdev, bytes(task.data_out)
    size = int.from_bytes(data[2:4], "big") if len(data) > 4 else 0
    count, invert = data[0] & 0x1F if data else 0, bool(data[:1] and data[0] & 0x80)
    if not count:
        raise InvalidFieldInParameters(byte=0, bit=4)
    if not 0 < size <= min(len(data) - 4, bdev.block_size):
        raise InvalidFieldInParameters(byte=2)
    block = (data[4 : 4 + size] * (bdev.block_size // size + 1))[: bdev.block_size]
    turned = bytes(byte ^ 0xFF for byte in block)

    def writing(pattern: bytes) -> Step:
        async def write(offset: int, length: int) -> None:
            await store.fill(bdev, offset, length, pattern)

        return write

    passes = [writing(turned if invert and number % 2 else block) for number in range(count)]
    await _erase(task, passes, True, bool(task.cdb[1] & _IMMEDIATE), bool(task.cdb[1] & 0x20))


async def _erase_blocks(task: Task) -> None:
    await _erase(task, [_clearing(task)], True, bool(task.cdb[1] & _IMMEDIATE), bool(task.cdb[1] & 0x20))


async def _exit_failure_mode(task: Task) -> None:
    """Bring a unit back whose SANITIZE failed, if that allowed it (AUSE)."""
    state = task.unit.state
    if isinstance(state.erasure, Eraser):
        if not state.erasure.failed or not state.erasure.may_exit:
            raise state.erasure.refusal()
        state.erasure = None
        kept = state.changed()
        if kept is not None:
            await kept


def _unless_at_work(begin: Handler) -> Handler:
    async def handler(task: Task) -> None:
        _check(task, mends_sanitize=True)
        await begin(task)

    return handler


def _prepare_block_erase(task: Task) -> int:
    if not _unmaps(task.unit.bdev):
        raise InvalidFieldInCdb(byte=1, bit=4)
    return _prepare_nothing(task)


def _unmaps(bdev: Bdev) -> bool:
    """These leave nothing mapped, so there has to be something like it."""
    return bdev.unmaps and bdev.unmaps_to_zeroes


def _always(_bdev: Bdev) -> bool:
    return True


SANITIZE: Final[tuple[tuple[int, str, Handler, Callable[[Task], int], Callable[[Bdev], bool]], ...]] = (
    (0x01, "OVERWRITE", _unless_at_work(_overwrite), _prepare_overwrite, _always),
    (0x02, "BLOCK ERASE", _unless_at_work(_erase_blocks), _prepare_block_erase, _unmaps),
    (0x03, "CRYPTOGRAPHIC ERASE", _unless_at_work(_erase_blocks), _prepare_block_erase, _unmaps),
    (0x1F, "EXIT FAILURE MODE", _exit_failure_mode, _prepare_nothing, _always),
)
"""Service action, name, handler, prepare, offered. Nothing is encrypted here: to erase a key is to erase the blocks."""
