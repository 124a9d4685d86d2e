# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller's life: started, watched, reset when it fails, given up when it is pulled, taken again when back."""

from __future__ import annotations

import asyncio
import enum
import errno
import logging
from collections.abc import Awaitable
from typing import Any, Callable, Final, NamedTuple

from ..errors import EngineError
from . import registers as reg
from .admin import ADMIN_SECONDS, Admin
from .attention import Attention, Interrupts, Polling
from .device import Device
from .errors import ControllerFailed, Pulled
from .identify import ControllerInfo, NamespaceInfo
from .io import IoChannel
from .memory import DmaMemory, HugePage
from .queue import Command
from .setup import IO_QUEUE, Hardware, Working

_LOG = logging.getLogger(__name__)

_DRAIN_SECONDS, _DRAIN_LOOK = 5.0, 0.01

_TROUBLE: Final = (EngineError, OSError, asyncio.TimeoutError)


class State(enum.Enum):
    """The values are SPDK's words."""

    ENABLED = "enabled"
    RESETTING = "resetting"
    FAILED = "failed"
    DELETING = "deleting"


class Times(NamedTuple):
    """Seconds."""

    io: float = 20.0
    """What a command may take. With an abort and a reset it stays below the 30 that initiators wait."""
    admin: float = ADMIN_SECONDS
    abort: float = 5.0
    """What an aborted command has left before the controller is reset."""
    busy_check: float = 1.0
    """Between looks at the controller's state while it works."""
    idle_check: float = 5.0
    return_check: float = 2.0
    """Between looks for a device that was pulled or failed."""


_DEFAULT_TIMES: Final = Times()


class Controller:
    """``open_device`` opens the hardware, blocking, and raises EngineError; ``submit`` runs that in a pool."""

    def __init__(
        self,
        name: str,
        address: str,
        open_device: Callable[[], Device],
        submit: Callable[..., Awaitable[Any]],
        times: Times = _DEFAULT_TIMES,
        numa_node: int = -1,
        make_memory: Callable[[Device], DmaMemory] | None = None,
    ) -> None:
        self.name = name
        self.address = address
        self.numa_node = numa_node
        self.trouble = ""
        """Why it does not work, if it does not."""
        self.state = State.RESETTING
        self.namespaces: dict[int, NamespaceInfo] = {}
        self._label = f"{address} ({name})"
        self._loop = asyncio.get_running_loop()
        self._open_device = open_device
        self._submit = submit
        self._times = times
        self._make_memory = make_memory or self._memory_of_the_host
        self._info: ControllerInfo | None = None
        self._hardware: Hardware | None = None
        self._admin: Admin | None = None
        self._attention: Attention | None = None
        self.io = IoChannel(times.io)
        self._timer: asyncio.TimerHandle | None = None
        self._recovery: asyncio.Task[bool] | None = None
        self._aborting: set[Command] = set()
        self._helpers: set[asyncio.Task[Any]] = set()

    @property
    def info(self) -> ControllerInfo:
        """What it said it is when it was attached."""
        if self._info is None:
            raise AssertionError(f"{self._label} was never started")
        return self._info

    @property
    def missing(self) -> bool:
        """It cannot be used, and nothing is under way that would change that soon."""
        return self.state is State.FAILED

    async def start(self) -> None:
        """Open and start it. Raises EngineError, after giving everything back."""
        try:
            working = await self._bring_up()
        except _TROUBLE as error:
            self._let_go()
            raise self._explained(error) from error
        except asyncio.CancelledError:
            self._let_go()
            raise
        self._info = working.info
        self.namespaces = working.namespaces
        self._use(working)

    async def _bring_up(self) -> Working:
        """From whatever state the hardware is in to a controller that works."""
        if self._hardware is None:
            device = await self._opened()
            self._hardware = Hardware.take(self._label, device, self._make_memory)
            if device.interrupts:
                self._attention = Interrupts(device.interrupts, self._reap)
            else:
                self._attention = Polling(self._reap, self._in_flight)
        await self._hardware.stop()
        return await self._hardware.start(self._wake, self._use_admin, self._times.admin)

    def _memory_of_the_host(self, device: Device) -> DmaMemory:
        return DmaMemory(device.to_bus, lambda: HugePage.take(self.numa_node))

    async def _opened(self) -> Device:
        """The hardware; when nobody waits for it any more it is closed as soon as it is open."""
        opening = asyncio.ensure_future(self._submit(self._open_device))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise

    def _use_admin(self, admin: Admin) -> None:
        self._admin = admin

    def _use(self, working: Working) -> None:
        if self._hardware is None or self._attention is None:
            raise AssertionError("no hardware")
        device = self._hardware.device
        if device.removal >= 0:
            self._loop.add_reader(device.removal, self._on_removal, device)
        self.state = State.ENABLED
        self.trouble = ""
        self._aborting.clear()
        self.io.resume(working.io_queue, self._hardware.memory, working.info.transfer_bytes, self._attention.wake)
        self._watch()

    def _explained(self, error: BaseException) -> EngineError:
        if isinstance(error, EngineError):
            return error
        if isinstance(error, asyncio.TimeoutError):
            return ControllerFailed(f"{self._label}: the controller does not answer within {self._times.admin:g} s")
        if isinstance(error, OSError):
            return EngineError.from_os(error, self._label)
        raise error

    # Completions

    def _wake(self) -> None:
        if self._attention is not None:
            self._attention.wake()

    def _reap(self) -> int:
        queue, admin = self.io.queue, self._admin
        count = queue.reap() if queue is not None else 0
        return count + admin.queue.reap() if admin is not None and admin.busy else count

    def _in_flight(self) -> bool:
        queue = self.io.queue
        return (queue is not None and len(queue.free) < queue.most) or (self._admin is not None and self._admin.busy)

    # Watching

    def _watch(self) -> None:
        self._stop_timer()
        pause = self._times.idle_check if self.io.idle else self._times.busy_check
        self._timer = self._loop.call_later(pause, self._check)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        if self.state is not State.ENABLED or self._hardware is None:
            return
        status = self._hardware.registers.get(reg.CSTS)
        if status == reg.GONE:
            self._pulled("its registers are gone")
            return
        if status & reg.CSTS_FATAL:
            self._start_recovery("it reports a fatal error")
            return
        self._look_for_overdue()
        if self.state is State.ENABLED:
            self._watch()

    def _look_for_overdue(self) -> None:
        """Abort what takes too long, and reset the controller when that does not help either."""
        now = self._loop.time()
        queue = self.io.queue
        if self._aborting and queue is not None:
            self._aborting.intersection_update(queue.commands())
        if queue is None or not any(command.deadline < now for command in queue.commands()):
            return
        if self._reap():
            _LOG.warning("%s: completions were there without an interrupt", self._label)
        for command in [each for each in queue.commands() if each.deadline < now]:
            if command in self._aborting:
                self._start_recovery(f"{command} was not done in time, nor aborted")
                return
            _LOG.warning("%s: %s takes longer than %g s and is aborted", self._label, command, self._times.io)
            self._aborting.add(command)
            command.deadline = now + self._times.abort
            self._help(self._abort(command))

    async def _abort(self, command: Command) -> None:
        try:
            if self._admin is not None:
                await self._admin.abort(IO_QUEUE, command.cid)
        except _TROUBLE as error:
            _LOG.warning("%s: abort failed: %s", self._label, error or "no answer")

    def _help(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._helpers.add(task)
        task.add_done_callback(self._helpers.discard)

    # Recovery

    async def reset(self, reason: str = "reset was asked for") -> bool:
        """Reset it and do again what was in flight; True when it works afterwards."""
        self._start_recovery(reason)
        recovery = self._recovery
        if recovery is None:
            return self.state is State.ENABLED
        await asyncio.wait([recovery])
        return not recovery.cancelled() and recovery.result()

    def _start_recovery(self, reason: str) -> None:
        if self._recovery is None and self.state is not State.DELETING:
            self._stop_timer()
            self._recovery = self._loop.create_task(self._recover(reason))

    async def _recover(self, reason: str) -> bool:
        _LOG.warning("%s: reset: %s", self._label, reason)
        self.state = State.RESETTING
        self.io.suspend()
        try:
            return await self._recovered()
        finally:
            self._recovery = None

    async def _recovered(self) -> bool:
        for harder in (False, True):
            try:
                if harder and self._hardware is not None:
                    await self._submit(self._hardware.device.function_reset)
                working = await self._bring_up()
                self._check_same(working)
            except Pulled as error:
                self._give_up(errno.ENODEV, str(error))
                return False
            except _TROUBLE as error:
                trouble = self._explained(error)
                _LOG.error("%s", trouble)
            else:
                _LOG.warning("%s: works again", self._label)
                self._use(working)
                return True
        self._give_up(errno.EIO, str(trouble))
        return False

    def _check_same(self, working: Working) -> None:
        """Raises ControllerFailed when what is there now is not what was attached: nobody's data may go astray."""
        if working.info.serial != self.info.serial or working.info.model != self.info.model:
            raise ControllerFailed(
                f"{self._label}: another device is there now: {working.info.model}, serial {working.info.serial}; it "
                f"was {self.info.model}, serial {self.info.serial}. Detach and attach it to use that one"
            )
        if working.namespaces != self.namespaces:
            raise ControllerFailed(
                f"{self._label}: its namespaces are others than when it was attached. Detach and attach it to use them"
            )

    def _on_removal(self, device: Device) -> None:
        if device.taken():
            self._pulled("it is taken away")

    def _pulled(self, why: str) -> None:
        """The device is gone: nothing of it is touched any more."""
        if self.state is not State.DELETING:
            self._give_up(errno.ENODEV, f"{self._label}: the device is gone: {why}")

    def _give_up(self, number: int, why: str) -> None:
        """Fail all commands, let go of the hardware, and try from time to time to have it again."""
        _LOG.error("%s", why)
        self.state = State.FAILED
        self.trouble = why
        self._stop_timer()
        if self._recovery is not None and self._recovery is not asyncio.current_task():
            self._recovery.cancel()
        self.io.refuse(number, why)
        self._let_go()
        self._timer = self._loop.call_later(self._times.return_check, self._look_for_return)

    def _look_for_return(self) -> None:
        self._timer = None
        if self._recovery is None and self.state is State.FAILED:
            self._recovery = self._loop.create_task(self._return())

    async def _return(self) -> bool:
        try:
            working = await self._bring_up()
            self._check_same(working)
        except _TROUBLE as error:
            trouble = str(self._explained(error))
            if trouble != self.trouble:  # said once, not every time it is looked for
                _LOG.warning("%s: not back yet: %s", self._label, trouble)
                self.trouble = trouble
            self._let_go()
            self._timer = self._loop.call_later(self._times.return_check, self._look_for_return)
            return False
        else:
            _LOG.warning("%s: is back and works", self._label)
            self._use(working)
            return True
        finally:
            self._recovery = None

    # The end

    async def close(self) -> None:
        """Tell it that the power may go, stop it, give everything back. Commands in flight fail."""
        recovery, was = self._recovery, self.state
        self.state = State.DELETING
        for task in (recovery, *self._helpers):
            if task is not None:
                task.cancel()
        if recovery is not None:
            await asyncio.wait([recovery])
        self._stop_timer()
        if self._hardware is not None and was is State.ENABLED:
            await self._drain()
            try:
                await self._hardware.handshake.shut_down()
                await self._hardware.stop()
            except _TROUBLE as error:
                _LOG.warning("%s", self._explained(error))
        self.io.refuse(errno.ENODEV, "the controller was detached")
        self._let_go()

    async def _drain(self) -> None:
        """Let what is in flight be done."""
        deadline = self._loop.time() + _DRAIN_SECONDS
        while not self.io.idle and self._loop.time() < deadline:
            await asyncio.sleep(_DRAIN_LOOK)

    def _let_go(self) -> None:
        hardware, self._hardware = self._hardware, None
        if self._attention is not None:
            self._attention.close()
            self._attention = None
        self._admin = None
        if hardware is not None:
            if hardware.device.removal >= 0:
                self._loop.remove_reader(hardware.device.removal)
            hardware.let_go()


def _close_opened(opening: asyncio.Future[Device]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
