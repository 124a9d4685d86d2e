# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One worker process as the main process knows it: started, told everything, asked, and started again when it ends."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from ..iscsi.luggage import Luggage
from ..iscsi.reception import Arrival
from ..process import NOTICE
from .channel import Channel, Message
from .launch import Launcher

_LOG = logging.getLogger(__name__)

_FOLLOW_SECONDS: Final = 30.0
"""How long a worker may take for a change, or for a sign of life, before it is given up."""
_ASK_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.01
_PING_SECONDS: Final = 20.0
_GOOD_LIFE_SECONDS: Final = 10.0
"""Whoever ends after that is started again at once; others after a while that gets longer."""
_SHORTEST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 10.0
_END_SECONDS: Final = 40.0
"""For flushing and ending, beyond the time that initiators have to log out."""


class WorkerGone(Exception):
    """The worker ended, or does not answer."""


class Call(NamedTuple):
    """What a worker is to do as the main process did."""

    method: str
    params: Mapping[str, Any] | None
    descriptor: int | None = None
    """Of the memory, or of the file, of the bdev it makes."""
    phase: str = "RUNTIME"
    change: int = 0
    """The number of the change that it belongs to."""


class Host(Protocol):
    """What a member needs of the main process."""

    def introduction(self, number: int) -> dict[str, Any]:
        """What a new worker is told first."""

    async def may_configure(self) -> None:
        """Wait until the configuration is whole."""

    def configuration(self) -> Iterable[Call]:
        """The live one, as calls."""

    def luggage(self, number: int) -> tuple[list[str], Luggage]:
        """The target nodes of that worker, and what they and their units have in memory."""

    def is_ready(self, member: Member) -> None:
        """It serves from now on."""

    def counted(self) -> None:
        """Its number of sessions changed."""

    def reported(self, member: Member, words: Mapping[str, Any]) -> None:
        """Something happened in the worker that nobody asked for."""


class Member:
    """``number`` is the worker's, from 1; ``core`` the one it is pinned to."""

    def __init__(self, number: int, core: int, launcher: Launcher, host: Host) -> None:
        self.number = number
        self.core = core
        self.restarts = 0
        self.ready = False
        self.sessions = 0
        self.follows = False
        """It has, or was sent, the configuration, and is told every change."""
        self._launcher = launcher
        self._host = host
        self._process: subprocess.Popen[Any] | None = None
        self._channel: Channel | None = None
        self._ended = asyncio.Event()
        self._got_on = 0.0
        """When it did the last thing that it was told, on the loop's clock."""
        self._has_served = False
        """The process that is there now had sessions, perhaps."""
        self._stopping = False
        self._lacks = False
        """It could not make everything that the main process has."""
        self._next_id = 0
        self._calls: dict[int, tuple[str, asyncio.Future[None]]] = {}
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._life: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        return f"worker {self.number} (pid {self.pid}, core {self.core})"

    @property
    def is_whole(self) -> bool:
        """It serves everything that is its own."""
        return self.ready and not self._lacks

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def is_stopping(self) -> bool:
        return self._stopping

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._life = asyncio.get_running_loop().create_task(self._live_again_and_again())

    async def _live_again_and_again(self) -> None:
        loop = asyncio.get_running_loop()
        pause = 0.0
        while not self._stopping:
            began = loop.time()
            try:
                await self._live()
            except OSError as error:
                _LOG.error("worker %d cannot be started: %s", self.number, error)
            except Exception:  # pylint: disable=broad-except
                _LOG.exception("worker %d ends because of a bug", self.number)
            if self.is_stopping():
                return
            self.restarts += 1
            is_early = loop.time() - began < _GOOD_LIFE_SECONDS
            pause = min(max(2 * pause, _SHORTEST_PAUSE), _LONGEST_PAUSE) if is_early else 0.0
            _LOG.error(
                "worker %d ended; its initiators will come back to a new one, started in %g s", self.number, pause
            )
            await asyncio.sleep(pause)

    async def _live(self) -> None:
        """From its start until nothing of it is left, so that nothing lands late on a disk."""
        self._ended.clear()
        self._has_served = False
        self._process, ours = self._launcher.launch()
        self._channel = Channel(ours, self._on_message, self._ended.set)
        configuring = asyncio.get_running_loop().create_task(self._configure(self._channel))
        try:
            while not self._ended.is_set():
                try:
                    await asyncio.wait_for(self._ended.wait(), _PING_SECONDS)
                except asyncio.TimeoutError:
                    await self._ping()
        finally:
            configuring.cancel()
            await self._bury(self._process)

    async def _configure(self, channel: Channel) -> None:
        try:
            channel.send({"op": "hello", **self._host.introduction(self.number)})
            await self._host.may_configure()
            for call in self._host.configuration():
                self._send_call(call, channel)
            self.follows = True
            self.take_over(*self._host.luggage(self.number))
            self._got_on = asyncio.get_running_loop().time()
            channel.send({"op": "begin"})
        except Exception:  # pylint: disable=broad-except
            _LOG.exception("worker %d cannot be configured because of a bug", self.number)
            self.give_up("it has no configuration")

    async def _ping(self) -> None:
        if not self.ready:
            if self.follows and self._stands_still():
                self.give_up(f"it did not get on with its configuration for {_FOLLOW_SECONDS:g} s")
            return
        try:
            await self._ask({"op": "ping"}, _FOLLOW_SECONDS)
        except WorkerGone:
            self.give_up(f"it gave no sign of life for {_FOLLOW_SECONDS:g} s")

    async def _bury(self, process: subprocess.Popen[Any]) -> None:
        self.ready = self.follows = self._lacks = False
        self.sessions = 0
        if self._channel is not None:
            self._channel.close()
        if not self._stopping:
            process.kill()
        await _gone(process)
        self._forget_calls()
        for asked in self._questions.values():
            if not asked.done():
                asked.set_exception(WorkerGone(str(self)))
        self._questions.clear()
        self._host.counted()

    def give_up(self, why: str) -> None:
        """Let it be replaced by a new one."""
        if self._process is not None and not self._ended.is_set():
            _LOG.error("%s is killed: %s", self, why)
            self._process.kill()
        # It may take long to be gone: as long as a disk keeps it.
        self.ready = self.follows = False
        self._forget_calls()

    def _forget_calls(self) -> None:
        """The next one gets everything at its start."""
        for _what, called in self._calls.values():
            if not called.done():
                called.set_result(None)
        self._calls.clear()

    async def stop(self, seconds: int) -> None:
        """Let initiators log out, flush, end."""
        self._stopping = True
        if self._channel is not None:
            self._channel.send({"op": "stop", "seconds": seconds})
        if self._life is None:
            return
        if self._channel is None or self._channel.closed:
            self._life.cancel()  # it waits for its next start
        _done, late = await asyncio.wait([self._life], timeout=seconds + _END_SECONDS)
        if late and self._process is not None:
            _LOG.error("%s is killed: it did not end in time", self)
            self._process.kill()
            await asyncio.wait([self._life])

    # -- telling and asking ------------------------------------------------------------------------------------------

    def call(self, call: Call) -> None:
        if self.follows and self._channel is not None:
            self._send_call(call, self._channel)

    def _send_call(self, call: Call, channel: Channel) -> None:
        number = self._has_to_do(call.method)
        words = {"op": "call", "id": number, "method": call.method, "params": call.params}
        words.update({"phase": call.phase, "change": call.change})
        try:
            channel.send(words, descriptors=() if call.descriptor is None else (call.descriptor,))
        except OSError as error:
            _LOG.error("%s: %s has to do without a descriptor: %s", self, call.method, error)
            channel.send(words)

    def _has_to_do(self, what: str) -> int:
        """The number by which it tells that this is done."""
        number = self._next_id = self._next_id + 1
        self._calls[number] = what, asyncio.get_running_loop().create_future()
        return number

    async def caught_up(self) -> None:
        """Return when it has done all that it was told."""
        under_way = {future for _what, future in self._calls.values()}
        while under_way:
            _done, under_way = await asyncio.wait(under_way, timeout=_FOLLOW_SECONDS)
            if under_way and self._stands_still():
                self.give_up(f"it did not follow within {_FOLLOW_SECONDS:g} s")
                return

    def _stands_still(self) -> bool:
        """It has something to do, and did nothing of it for a while: a new one may have thousands of calls to make."""
        return asyncio.get_running_loop().time() - self._got_on >= _FOLLOW_SECONDS

    async def ask(self, method: str, params: Any) -> Any:
        """The result of a method there. Raises WorkerGone."""
        return await self._ask({"op": "ask", "method": method, "params": params}, _ASK_SECONDS)

    async def see_off(self, nodes: list[str], seconds: int, until_rest: bool) -> None:
        """As :func:`iscsi.parting.see_off`. A worker that cannot is gone afterwards."""
        process = self._process
        if self.ready:  # else nobody is logged in there
            await self.caught_up()  # what it does in order, such as to take these over, does not come after this
        try:
            words = {"op": "see_off", "nodes": nodes, "seconds": seconds, "until_rest": until_rest}
            await self._ask(words, None)
        except WorkerGone as gone:
            if process is not None and self._has_served:
                self.give_up(f"it cannot let go of its target nodes: {gone}")
                await _gone(process)

    def take_over(self, nodes: list[str], luggage: Luggage | None) -> None:
        """As :func:`iscsi.parting.take_over`. Who has no configuration yet gets the luggage with it."""
        if self.follows and self._channel is not None:
            number = self._has_to_do("to take over target nodes")
            self._channel.send({"op": "take_over", "id": number, "nodes": nodes, "luggage": luggage})

    async def _ask(self, words: dict[str, Any], seconds: float | None) -> Any:
        if not self.ready or self._channel is None or self._channel.closed:
            raise WorkerGone(str(self))
        number = self._next_id = self._next_id + 1
        future = self._questions[number] = asyncio.get_running_loop().create_future()
        self._channel.send({**words, "id": number})
        try:
            return await asyncio.wait_for(future, seconds)
        except asyncio.TimeoutError:
            raise WorkerGone(f"{self} does not answer") from None
        finally:
            self._questions.pop(number, None)

    def hand_over(self, arrival: Arrival, elsewhere: int) -> None:
        """``elsewhere`` sessions are served by other processes."""
        if self._channel is not None:
            portal = arrival.portal
            words = {"host": portal.host, "port": portal.port, "tag": portal.tag, "answered": arrival.answered}
            self._channel.send(
                {"op": "connection", "elsewhere": elsewhere, **words}, arrival.received, (arrival.sock.fileno(),)
            )
        arrival.sock.close()

    # -- listening ---------------------------------------------------------------------------------------------------

    def _on_message(self, message: Message) -> None:
        words = message.words
        if "done" in words:
            self._got_on = asyncio.get_running_loop().time()
            self._done(words["done"], words["error"])
        elif "answer" in words:
            self._answered(words)
        elif words["event"] == "ready":
            self.ready = self._has_served = True
            _LOG.log(NOTICE, "%s serves its target nodes", self)
            self._host.is_ready(self)
        elif words["event"] == "sessions":
            self.sessions = words["count"]
            self._host.counted()
        else:
            self._host.reported(self, words)

    def _done(self, number: int, error: str | None) -> None:
        method, called = self._calls.pop(number, (None, None))
        if method is None or called is None:
            return  # it is given up
        called.set_result(None)
        if error is not None:
            self._could_not_follow(method, error)

    def _answered(self, words: Mapping[str, Any]) -> None:
        asked = self._questions.get(words["answer"])
        if asked is None or asked.done():
            return
        if words.get("error") is not None:
            asked.set_exception(WorkerGone(f"{self}: {words['error']}"))
        else:
            asked.set_result(words["result"])

    def _could_not_follow(self, method: str, error: str) -> None:
        """While it is configured that costs it the object; later it is not as the main process is, and starts anew."""
        if not self.ready or self._lacks:
            self._lacks = True
            _LOG.error("%s: %s failed there, and not here: %s. What needs it is not served.", self, method, error)
        else:
            self.give_up(f"{method} failed there, and not here: {error}")

    def to_rpc(self) -> dict[str, Any]:
        words = {"number": self.number, "core": self.core, "pid": self.pid, "ready": self.ready, "whole": self.is_whole}
        return {**words, "restarts": self.restarts, "sessions": self.sessions}


async def _gone(process: subprocess.Popen[Any]) -> None:
    """Return when nothing is left of it."""
    while process.poll() is None:
        await asyncio.sleep(_LOOK_SECONDS)


async def all_of(members: Iterable[Member], method: str, params: Any = None) -> dict[int, Any]:
    """The results of a method in all workers that answer, by their number."""
    asked = [member for member in members if member.ready]
    results = await asyncio.gather(*(member.ask(method, params) for member in asked), return_exceptions=True)
    answered: dict[int, Any] = {}
    for member, result in zip(asked, results):
        if isinstance(result, BaseException):
            _LOG.debug("%s: %s is left out: %s", member, method, result)
        else:
            answered[member.number] = result
    return answered
