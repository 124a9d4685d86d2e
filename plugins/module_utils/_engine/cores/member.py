# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One worker process as the main process knows it: started, told everything, asked, and started again when it ends."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Collection, Iterable
from typing import Any, Final

from ..errors import Busy
from ..iscsi.luggage import Luggage
from ..iscsi.reception import Arrival
from ..process import NOTICE
from .channel import Channel, Message
from .host import Call, Host
from .launch import Launcher
from .outstanding import Outstanding, WorkerGone

_LOG = logging.getLogger(__name__)

_FOLLOW_SECONDS: Final = 30.0
"""How long a worker may take for a change, or for a sign of life, before it is given up."""
_SILENT_SECONDS: Final = 10.0
"""As long is waited for a sign of life by who wants something else of the engine, or has to be rid of the worker."""
_ASK_SECONDS: Final = 5.0
_PART_SECONDS: Final = 60.0
"""For disks to come to rest, beyond the time that initiators have to log out; the worker itself gives up before."""
_GONE_SECONDS: Final = 5.0
"""For the end of a process that was killed. A disk can keep it longer, without limit."""
_LOOK_SECONDS: Final = 0.01
_PING_SECONDS: Final = 20.0
_GOOD_LIFE_SECONDS: Final = 10.0
"""Whoever ends after that is started again at once; others after a while that gets longer."""
_SHORTEST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 10.0
_END_SECONDS: Final = 15.0
"""For flushing and ending, beyond the time that initiators have to log out. What a worker did not flush the main
process does, which has the same files open."""


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
        self._has_served = False
        """The process that is there now had sessions, perhaps."""
        self._stopping = False
        self._doomed: subprocess.Popen[Any] | None = None
        """A process that was killed, and may be kept by a disk."""
        self._is_kept = False
        """The process that is there was killed some time ago."""
        self._is_mute = False
        """Somebody waited in vain for an answer, and nothing was heard since."""
        self._lacks = False
        """It could not make everything that the main process has."""
        self._outstanding = Outstanding()
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
        self._is_kept = False
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
            self._outstanding.get_on()
            channel.send({"op": "begin"})
        except Exception:  # pylint: disable=broad-except
            _LOG.exception("worker %d cannot be configured because of a bug", self.number)
            self.give_up("it has no configuration")

    async def _ping(self) -> None:
        has_to_do = self._outstanding.to_do() or (self.follows and not self.ready)
        if has_to_do and self._outstanding.stands_still(_FOLLOW_SECONDS):
            self.give_up(f"it did not get on with what it was told for {_FOLLOW_SECONDS:g} s")
        if not self.ready:
            return
        try:
            await self._ask({"op": "ping"}, _FOLLOW_SECONDS)
        except WorkerGone:
            self.give_up(f"it gave no sign of life for {_FOLLOW_SECONDS:g} s")

    async def _bury(self, process: subprocess.Popen[Any]) -> None:
        self.ready = self.follows = self._lacks = self._is_mute = False
        self.sessions = 0
        self._host.counted()
        if self._channel is not None:
            self._channel.close()
        if not self._stopping:
            process.kill()
            if not await _gone(process, _GONE_SECONDS):
                self._is_kept = True
                _LOG.error("%s", self._kept())
        self._outstanding.forget(self)
        await _gone(process)

    def give_up(self, why: str) -> None:
        """Let it be replaced by a new one."""
        process = self._process
        if process is not None and process is not self._doomed and not self._ended.is_set():
            _LOG.error("%s is killed: %s", self, why)
            self._doomed = process
            process.kill()
        # It may take long to be gone: as long as a disk keeps it.
        self.ready = self.follows = False
        self._outstanding.forget(self)

    def _kept(self) -> str:
        return (
            f"{self} is killed but does not end: a disk keeps it, see /proc/{self.pid}/stack and the kernel's log. "
            "Until it ends nobody serves its target nodes. If it never does, only a restart of the host helps"
        )

    async def _see_end(self, process: subprocess.Popen[Any] | None) -> None:
        """Of one that is killed. Raises Busy when it takes too long."""
        if process is not None and not await _gone(process, _GONE_SECONDS):
            self._is_kept = process is self._process
            raise Busy(self._kept())

    async def stop(self, seconds: int) -> None:
        """Let initiators log out, flush, end."""
        self._stopping = True
        life = self._life
        if life is None:
            return
        if self._channel is None or self._channel.closed:
            life.cancel()  # it waits for its next start, or for the end of one that a disk keeps
        limit = await self._ask_to_end(seconds)
        _done, late = await asyncio.wait([life], timeout=limit)
        if late and self._process is not None:
            _LOG.error("%s is killed: it did not end in time", self)
            self._process.kill()
            _done, late = await asyncio.wait([life], timeout=_GONE_SECONDS)
        if late:
            _LOG.error("%s does not end though it is killed: a disk keeps it. The engine ends without it", self)
            while not life.done():  # when its work is cancelled it waits for the end of the process
                life.cancel()
                await asyncio.sleep(0)

    async def _ask_to_end(self, seconds: int) -> float:
        """Gives for how many seconds it is worth waiting."""
        limit = _SILENT_SECONDS  # it has not begun to serve
        if self.ready:
            try:
                await self._ask({"op": "ping"}, _SILENT_SECONDS)
                limit = seconds + _END_SECONDS
            except WorkerGone:
                limit = 0.0
        if self._channel is not None:
            self._channel.send({"op": "stop", "seconds": seconds})
        return limit

    # -- telling and asking ------------------------------------------------------------------------------------------

    def call(self, call: Call) -> None:
        if self.follows and self._channel is not None:
            self._send_call(call, self._channel)

    def _send_call(self, call: Call, channel: Channel) -> None:
        number = self._outstanding.tell(call.method, call.change if self.number in call.concerns else 0)
        words = {"op": "call", "id": number, "method": call.method, "params": call.params}
        words.update({"phase": call.phase, "change": call.change})
        try:
            channel.send(words, descriptors=() if call.descriptor is None else (call.descriptor,))
        except OSError as error:
            _LOG.error("%s: %s has to do without a descriptor: %s", self, call.method, error)
            channel.send(words)

    async def caught_up(self) -> None:
        """Return when it has done all that it was told; if not it is killed. Raises Busy when that does not end it."""
        await self._have_done(self._outstanding.to_do())

    async def followed(self, changes: Collection[int], is_concerned: bool) -> None:
        """Return when it has done these changes, or with none all, as far as they are about its target nodes.

        For everything else one that stands still is waited for only a little, and not again until it gets on. Raises
        Busy as :meth:`caught_up`, and if it ``is_concerned`` also when it was killed before, and does not end.
        """
        if is_concerned and self._is_kept:
            raise Busy(self._kept())
        outstanding = self._outstanding
        under_way, own = outstanding.to_do(), outstanding.own_to_do(changes)
        if own:
            await self._have_done(own)
        while under_way and not outstanding.lags:
            _done, under_way = await asyncio.wait(under_way, timeout=_SILENT_SECONDS)
            if under_way and outstanding.stands_still(_SILENT_SECONDS):
                outstanding.lags = True
                _LOG.warning("%s does not get on: changes that are not about its target nodes wait no longer", self)

    async def _have_done(self, under_way: set[asyncio.Future[None]]) -> None:
        process = self._process
        while under_way:
            _done, under_way = await asyncio.wait(under_way, timeout=_FOLLOW_SECONDS)
            if under_way and self._outstanding.stands_still(_FOLLOW_SECONDS):
                self.give_up(f"it did not follow within {_FOLLOW_SECONDS:g} s")
        if process is self._doomed:
            await self._see_end(process)

    async def ask(self, method: str, params: Any) -> Any:
        """The result of a method there. Raises WorkerGone, at once while somebody waited in vain already."""
        if self._is_mute:
            raise WorkerGone(f"{self} does not answer")
        return await self._ask({"op": "ask", "method": method, "params": params}, _ASK_SECONDS)

    async def see_off(self, nodes: list[str], seconds: int, until_rest: bool) -> None:
        """As :func:`iscsi.parting.see_off`. A worker that cannot is killed; raises Busy when that does not end it."""
        process = self._process
        try:
            if self.ready:  # else nobody is logged in there
                await self._ask({"op": "ping"}, _SILENT_SECONDS)
            if self.ready or until_rest:
                await self.caught_up()  # what it does in order, such as to take these over, does not come after this
            words = {"op": "see_off", "nodes": nodes, "seconds": seconds, "until_rest": until_rest}
            await self._ask(words, seconds + _PART_SECONDS)
        except WorkerGone as gone:
            if process is self._process and self._has_served:
                self.give_up(f"it cannot let go of its target nodes: {gone}")
                await self._see_end(process)

    def take_over(self, nodes: list[str], luggage: Luggage | None) -> None:
        """As :func:`iscsi.parting.take_over`. Who has no configuration yet gets the luggage with it."""
        if self.follows and self._channel is not None:
            number = self._outstanding.tell("to take over target nodes")
            self._channel.send({"op": "take_over", "id": number, "nodes": nodes, "luggage": luggage})
            # A rebuild begins with it, before the worker is ready: it has to be seen to its end.
            self._has_served = self._has_served or bool(luggage and luggage.get("rebuilds"))

    async def _ask(self, words: dict[str, Any], seconds: float) -> Any:
        if not self.ready or self._channel is None or self._channel.closed:
            raise WorkerGone(str(self))
        number, answer = self._outstanding.ask()
        self._channel.send({**words, "id": number})
        try:
            return await asyncio.wait_for(answer, seconds)
        except asyncio.TimeoutError:
            self._is_mute = True
            raise WorkerGone(f"{self} does not answer") from None

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
        self._is_mute = False
        if "done" in words:
            self._done(words["done"], words["error"])
        elif "answer" in words:
            self._outstanding.answered(words, self)
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
        what = self._outstanding.done(number)
        if what is not None and error is not None:
            self._could_not_follow(what, error)

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


async def _gone(process: subprocess.Popen[Any], seconds: float | None = None) -> bool:
    """Whether nothing is left of it, within so many seconds, or whenever that is."""
    loop = asyncio.get_running_loop()
    end = None if seconds is None else loop.time() + seconds
    while process.poll() is None:
        if end is not None and loop.time() >= end:
            return False
        await asyncio.sleep(_LOOK_SECONDS)
    return True


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
