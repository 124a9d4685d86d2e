# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing a controller into use: stop it, give it queues, start it, ask it what it is."""

from __future__ import annotations

import logging
from typing import Callable, Final, NamedTuple

from . import identify
from . import registers as reg
from .admin import DEPTH as ADMIN_DEPTH
from .admin import Admin
from .device import ADMIN_VECTOR, IO_VECTOR, Device
from .errors import ControllerFailed, Pulled
from .handshake import Handshake
from .identify import ControllerInfo, NamespaceInfo
from .memory import PAGE, DmaMemory
from .queue import COMPLETION_BYTES, SUBMISSION_BYTES, QueuePair
from .registers import Capabilities, Registers

_LOG = logging.getLogger(__name__)

IO_DEPTH: Final = 256
IO_QUEUE: Final = 1
_BLOCK_SIZES: Final = (512, 4096)


class Working(NamedTuple):
    """A controller that works."""

    admin: Admin
    io_queue: QueuePair
    info: ControllerInfo
    namespaces: dict[int, NamespaceInfo]


class Hardware:
    """An opened device with its memory, which is laid out once: queues are made anew in the same places.

    ``name`` is what messages call the controller.
    """

    def __init__(self, name: str, device: Device, memory: DmaMemory) -> None:
        """Raises ControllerFailed for a controller that cannot be used."""
        self.name = name
        self.device = device
        self.memory = memory
        self.registers = Registers(device.words)
        if self.registers.get(reg.CSTS) == reg.GONE:
            raise Pulled(f"{name}: the device does not answer: its registers read as ones")
        capabilities = Capabilities(self.registers.get64(reg.CAP))
        if capabilities.smallest_page != PAGE:
            raise ControllerFailed(f"{name}: the controller has no memory pages of {PAGE} bytes, which are needed")
        self.capabilities = capabilities
        self.handshake = Handshake(name, self.registers, capabilities)
        self._depth = min(IO_DEPTH, capabilities.queue_entries)
        self._admin_rings = self._rings(ADMIN_DEPTH)
        self._io_rings = self._rings(self._depth)
        self._answer = memory.fixed(identify.BYTES)

    @classmethod
    def take(cls, name: str, device: Device, make_memory: Callable[[Device], DmaMemory]) -> Hardware:
        """With memory for the device. Raises EngineError, after giving everything back."""
        memory = None
        try:
            memory = make_memory(device)
            return cls(name, device, memory)
        except BaseException:
            device.close()
            if memory is not None:
                memory.close()
            raise

    def _rings(self, depth: int) -> tuple[tuple[memoryview, int], tuple[memoryview, int]]:
        return self.memory.fixed(depth * SUBMISSION_BYTES), self.memory.fixed(depth * COMPLETION_BYTES)

    async def stop(self) -> None:
        """Whatever it does for whoever had it before us ends here. Raises EngineError or OSError."""
        self.device.master(False)
        await self.handshake.disable()

    async def start(self, wake: Callable[[], None], use: Callable[[Admin], None], seconds: float) -> Working:
        """Start it after :meth:`stop`; ``use`` is told the admin queue, whose completions are needed from then on.

        Raises EngineError or OSError, asyncio.TimeoutError when a command is not answered within ``seconds``.
        """
        (submission, submission_bus), (completion, completion_bus) = self._admin_rings
        words = self.device.words
        queue = QueuePair(0, ADMIN_DEPTH, submission, completion, words, self.capabilities)
        admin = Admin(queue, self._answer, wake, seconds)
        use(admin)
        self.registers.set(reg.AQA, (ADMIN_DEPTH - 1) << 16 | ADMIN_DEPTH - 1)
        self.registers.set64(reg.ASQ, submission_bus)
        self.registers.set64(reg.ACQ, completion_bus)
        if not self.device.interrupts:
            self.registers.set(reg.INTMS, 0xFFFFFFFF)
        self.device.master(True)
        await self.handshake.enable()
        info = ControllerInfo.parse(await admin.identify(identify.CONTROLLER), self.capabilities.smallest_page)
        await admin.request_queues(1)
        (submission, submission_bus), (completion, completion_bus) = self._io_rings
        io_queue = QueuePair(IO_QUEUE, self._depth, submission, completion, words, self.capabilities)
        vector = IO_VECTOR if len(self.device.interrupts) > IO_VECTOR else ADMIN_VECTOR
        await admin.create_queues(
            IO_QUEUE, self._depth, (submission_bus, completion_bus), vector if self.device.interrupts else None
        )
        return Working(admin, io_queue, info, await self._namespaces(admin, info))

    async def _namespaces(self, admin: Admin, info: ControllerInfo) -> dict[int, NamespaceInfo]:
        """Those that can be used, by identifier; the others are logged."""
        found = {}
        for nsid in identify.active(await admin.identify(identify.ACTIVE_NAMESPACES)):
            told = bytes(await admin.identify(identify.NAMESPACE, nsid))
            descriptors = await admin.identify_or_nothing(identify.DESCRIPTORS, nsid)
            namespace = NamespaceInfo.parse(nsid, memoryview(told), descriptors, info)
            if not namespace.num_blocks:
                continue
            if namespace.block_size not in _BLOCK_SIZES or namespace.metadata:
                _LOG.error(
                    "%s: namespace %d is left out: blocks of %d bytes and %d bytes of metadata; 512 or 4096 without "
                    "metadata are possible",
                    *(self.name, nsid, namespace.block_size, namespace.metadata),
                )
                continue
            found[nsid] = namespace
        return found

    def let_go(self) -> None:
        """Give device and memory back, in that order: it must not reach memory that others get."""
        try:
            self.device.master(False)
        except OSError as error:
            _LOG.info("%s: %s", self.name, error)
        self.device.close()
        self.memory.close()
