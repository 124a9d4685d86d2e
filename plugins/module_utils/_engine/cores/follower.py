# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker process: an engine that is told its configuration, and whose connections are handed to it."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import signal
import socket
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any

from ..bdev.base import Bdev
from ..bdev.mirror import MirrorBdev
from ..errors import Busy
from ..iscsi import luggage, parting
from ..iscsi.portal import Portal
from ..iscsi.reception import Arrival
from ..loop import Loop
from ..process import Logs, die_with_parent, end_starting, name_process
from ..rpc.method import RpcError, State
from ..scsi.device import Device
from ..scsi.unit import UnitState
from ..service import Engine, Settings, WorkerPlace
from . import rebuilds
from .channel import Channel, Message
from .sources import GivenSources

_LOG = logging.getLogger(__name__)


class Follower:
    """Does what comes over the channel, until it is told to stop or the main process is gone.

    It is the keeper (see :class:`scsi.unit.Keeper`) of the worker's units, and the watcher of its mirrors (see
    :class:`bdev.mirror.Watcher`): the main process has what they have.
    """

    def __init__(self, sock: socket.socket, logs: Logs) -> None:
        self._logs = logs
        self._engine: Engine | None = None
        self._sources = GivenSources()
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._stop = asyncio.Event()
        self._drain_seconds = 0
        self._change = 0
        """The last one that is made here, or begun."""
        self._replaces = False
        """There was a worker in this place before."""
        self._asides: set[asyncio.Task[None]] = set()
        self._channel = Channel(sock, self._on_message, self._stop.set)

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            raise AssertionError("the first message says hello")
        return self._engine

    async def run(self) -> None:
        working = asyncio.get_running_loop().create_task(self._work())
        await self._stop.wait()
        working.cancel()
        if self._engine is not None:
            await self._engine.close(self._drain_seconds)
        self._channel.close()

    def _on_message(self, message: Message) -> None:
        operation = message.words["op"]
        if operation == "hello":
            self._hello(message.words)
        elif operation == "stop":
            self._drain_seconds = message.words["seconds"]
            self._stop.set()
        elif operation in ("ask", "see_off", "ping"):
            self._aside(getattr(self, f"_{operation}")(message.words))
        else:
            self._inbox.put_nowait(message)

    def _hello(self, words: Mapping[str, Any]) -> None:
        number = words["number"]
        self._logs.open(words["level"], f"worker {number}")
        name_process(f"openlun-{number}")
        place = WorkerPlace(number, words["count"], words["state_dir"])
        self._engine = engine = Engine(Settings(socket="", cpumask=f"[{words['core']}]", worker=place), self._logs)
        engine.become_worker(self._sources, self)
        engine.target.units.keeper = self
        engine.target.number_apart(words["count"] + 1, number)
        self._replaces = words["replaces"]
        engine.target.sessions.on_change = self._report_sessions

    # -- in order ----------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            message = await self._inbox.get()
            try:
                await getattr(self, f"_{message.words['op']}")(message)
            except Exception as error:  # pylint: disable=broad-except
                _LOG.exception("%s is not done because of a bug", message.words["op"])
                if "id" in message.words:  # somebody waits for it
                    self._done(message.words, str(error) or type(error).__name__)

    def _done(self, words: Mapping[str, Any], error: str | None = None) -> None:
        self._channel.send({"done": words["id"], "error": error})

    async def _call(self, message: Message) -> None:
        words, error = message.words, None
        self._change = words["change"]
        self._sources.give(message.descriptors)
        try:
            await self.engine.dispatcher.call(words["method"], words["params"], State[words["phase"]])
        except RpcError as refused:
            error = str(refused)
        self._done(words, error)

    async def _begin(self, _message: Message) -> None:
        """The configuration is complete."""
        engine = self.engine
        engine.dispatcher.state = State.RUNTIME
        engine.target.start_serving()
        if self._replaces:
            engine.target.sessions.others_were_lost()
        end_starting()
        self._channel.send({"event": "ready"})

    async def _connection(self, message: Message) -> None:
        words = message.words
        # Let connections that ended before this one came be noticed first: its login must not end their session anew.
        await asyncio.sleep(0)
        target = self.engine.target
        target.sessions.elsewhere = words["elsewhere"]
        portal = Portal(words["host"], words["port"], words["tag"])
        for descriptor in message.descriptors:  # there is none when too many files are open: the initiator comes again
            target.admit(Arrival(socket.socket(fileno=descriptor), portal, message.data, words["answered"]))

    async def _take_over(self, message: Message) -> None:
        target, words = self.engine.target, message.words
        units = parting.take_over(target, words["nodes"], words["luggage"])
        try:
            await parting.save_reservations(target, units)
        except OSError as error:
            _LOG.error("reservations that have to survive a power loss are not saved: %s", error)
        rebuilds.begin(self.engine, (words["luggage"] or {}).get("rebuilds", {}))
        self._done(words)

    # -- beside ------------------------------------------------------------------------------------------------------

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    async def _ask(self, words: Mapping[str, Any]) -> None:
        answer: dict[str, Any] = {"answer": words["id"]}
        try:
            answer["result"] = await self.engine.dispatcher.call(words["method"], words["params"])
        except RpcError as error:
            answer["error"] = str(error)
        self._channel.send(answer)

    async def _ping(self, words: Mapping[str, Any]) -> None:
        self._channel.send({"answer": words["id"], "result": True})

    async def _see_off(self, words: Mapping[str, Any]) -> None:
        answer: dict[str, Any] = {"answer": words["id"]}
        try:
            await parting.see_off(self.engine.target, words["nodes"], words["seconds"], words["until_rest"])
            await rebuilds.pause(self.engine, words["nodes"])
            answer["result"] = True
        except Busy as error:
            answer["error"] = str(error)
        except Exception as error:  # pylint: disable=broad-except
            _LOG.exception("target nodes cannot be let go because of a bug")
            answer["error"] = str(error) or type(error).__name__
        self._channel.send(answer)

    # -- telling -----------------------------------------------------------------------------------------------------

    def mirror_changed(self, mirror: MirrorBdev, base: Bdev, is_gained: bool) -> None:
        """At once: a worker may be killed as soon as it answered what a mirror alone has."""
        words = {"mirror": mirror.uuid, "base": base.name, "gained": is_gained}
        self._channel.send({"event": "mirror", "change": self._change, **words})

    def rebuild_got_on(self, mirror: MirrorBdev) -> None:
        if mirror.rebuild is not None:
            words = {"mirror": mirror.uuid, "base": mirror.rebuild.target.name, "copied": mirror.rebuild.copied}
            self._channel.send({"event": "rebuild", "change": self._change, **words})

    def unit_changed(self, unit: UnitState) -> None:
        words = {"uuid": unit.bdev.uuid, "unit": luggage.pack_unit(unit)}
        self._channel.send({"event": "unit", "change": self._change, **words})

    def access_changed(self, device: Device) -> None:
        words = {"node": device.name, "access": luggage.pack_access(device)}
        self._channel.send({"event": "access", "change": self._change, **words})

    def kept(self) -> Awaitable[None] | None:
        return self._channel.sent()

    def _report_sessions(self, count: int) -> None:
        self._channel.send({"event": "sessions", "count": count})


def serve(descriptor: int, spin_microseconds: int | None) -> None:
    """Be a worker of the main process at the other end of the socket ``descriptor``."""
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are the main process's
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    faulthandler.register(signal.SIGQUIT, all_threads=True, chain=True)
    loop = Loop(None if spin_microseconds is None else spin_microseconds / 1e6)
    try:
        loop.run_until_complete(_serve(descriptor))
    finally:
        loop.close()


async def _serve(descriptor: int) -> None:
    await Follower(socket.socket(fileno=descriptor), Logs()).run()
