# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker processes of an engine: they follow what is changed, serve their target nodes, and tell how they do.

The main process keeps the control plane, portals, discovery, and the target nodes on devices that one process has to
own. Every other node is served by one worker; all workers have the whole configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..bdev.base import Bdev
from ..bdev.mirror import MirrorBdev
from ..errors import Busy
from ..iscsi import luggage
from ..iscsi.node import TargetNode
from ..iscsi.reception import Arrival
from ..rpc.exposition import Family, Sample
from ..rpc.method import Calls, Method, State
from ..rpc.methods import worker as internal
from ..rpc.metrics_merging import Ledger
from . import configuration, ownership, rebuilds
from .host import Call
from .launch import Launcher
from .logins import Logins
from .member import Member, all_of
from .moving import Moving
from .places import SHARING, Moves, Places
from .reports import Reports

if TYPE_CHECKING:
    from ..service import Engine

_LOG = logging.getLogger(__name__)

_START_SECONDS: Final = 60.0
_HISTOGRAM: Final = "bdev_enable_histogram"
_APPLY: Final = "engine_apply"
_MOST_CONCERNS: Final = 4096


class _Step(NamedTuple):
    """A change, and the nodes that go from one worker to another because of it."""

    calls: list[Call]
    moves: Moves
    begun: list[str]
    """Rebuilds that begin with it."""


class Fleet:
    """``cores`` have a worker each."""

    def __init__(self, engine: Engine, cores: Sequence[int]) -> None:
        self._engine = engine
        self._launcher = Launcher(engine.settings.spin_microseconds)
        self.members = [Member(number, core, self._launcher, self) for number, core in enumerate(cores, 1)]
        self._places = Places(engine, len(self.members))
        engine.target.units.begin_away = True
        engine.watcher = self
        self.ledger = Ledger()
        self._is_configured = asyncio.Event()
        self._steps: deque[_Step] = deque()
        self._made = 0
        self._sent = 0
        """Steps so far."""
        self._progress = asyncio.Event()
        self._mover: asyncio.Task[None] | None = None
        self._moving = Moving(engine, self._places, self)
        self._concerns: dict[int, frozenset[int]] = {}
        """By change the workers whose target nodes it is about; of the last ones."""
        self._touched: set[str] = set()
        """Target nodes that show less since the last change."""
        self._reports = Reports(engine, self._rebuilds)
        self._held: list[Call] | None = None
        self._heard_meanwhile: list[tuple[Member, Mapping[str, Any]]] = []
        """What workers told during a transaction: what it is about may be back as it was when the transaction fails."""
        self._histograms: dict[str, Call] = {}
        """By bdev those that were enabled: they are no part of the configuration."""
        self._logins = Logins(engine.target, self)
        self._are_all_ready = asyncio.Event()

    @property
    def owners(self) -> dict[str, int]:
        """The worker of each target node, MAIN for the main process."""
        return self._places.owners

    # -- life --------------------------------------------------------------------------------------------------------

    def launch(self) -> None:
        """Start the processes; they wait for their configuration."""
        for member in self.members:
            member.start()

    async def start(self) -> None:
        """The configuration is there: let the workers have it, and wait until they serve."""
        self._engine.dispatcher.workers = self
        self._engine.target.elsewhere = self
        self._engine.target.number_apart(len(self.members) + 1, 0)
        self._places.assign()
        self._places.open_units(self._moving.disks)
        self._moving.begin_rebuilds(name for name in self._places.begun if self.owners[name] == ownership.MAIN)
        self._engine.target.units.change = self._made + 1
        self._is_configured.set()
        try:
            await asyncio.wait_for(self._are_all_ready.wait(), _START_SECONDS)
        except asyncio.TimeoutError:
            late = ", ".join(str(member) for member in self.members if not member.ready)
            _LOG.error("not ready after %g s: %s. Their target nodes are not served yet.", _START_SECONDS, late)

    async def stop(self, seconds: int) -> None:
        """Let initiators log out, flush, end."""
        self._logins.close()
        if self._mover is not None:
            self._mover.cancel()
        self._moving.close()
        await asyncio.gather(*(member.stop(seconds) for member in self.members))
        self._launcher.close()

    @property
    def is_whole(self) -> bool:
        """All workers serve all that is theirs."""
        return all(member.is_whole for member in self.members)

    def to_rpc(self) -> list[dict[str, Any]]:
        """As engine_get_info shows the workers."""
        return [{**member.to_rpc(), "target_nodes": self._places.count(member.number)} for member in self.members]

    # -- what members need -------------------------------------------------------------------------------------------

    def introduction(self, number: int) -> dict[str, Any]:
        engine = self._engine
        return {
            "number": number,
            "count": len(self.members),
            "core": self.members[number - 1].core,
            "replaces": self.members[number - 1].restarts > 0,
            "level": engine.logs.level,
            "state_dir": engine.settings.state_dir,
        }

    async def may_configure(self) -> None:
        await self._is_configured.wait()
        await self.settled()

    async def settled(self) -> None:
        """Return when workers have been told everything, which they may have yet to do."""
        while self._held is not None or self._steps:
            await self._next()

    def configuration(self) -> Iterator[Call]:
        calls = configuration.calls_of(self._engine)
        histograms = (call for name, call in self._histograms.items() if name in self._engine.bdevs)
        return (call._replace(change=self._made) for call in itertools.chain(calls, histograms))

    def luggage(self, number: int) -> tuple[list[str], luggage.Luggage]:
        nodes = [node for name, node in self._engine.target.nodes.items() if self.owners.get(name) == number]
        at_work = [name for name, owner in self.owners.items() if owner == number and name not in self._moving]
        packed = luggage.pack(nodes, luggage.units_of(nodes))
        bases = rebuilds.hand_over(self._engine, at_work)
        return [node.name for node in nodes], {**packed, "rebuilds": bases} if bases else packed

    def is_ready(self, member: Member) -> None:
        del member
        if all(each.ready for each in self.members):
            self._are_all_ready.set()
        self.let_in()

    def counted(self) -> None:
        self._engine.target.sessions.elsewhere = sum(member.sessions for member in self.members)

    def reported(self, member: Member, words: Mapping[str, Any]) -> None:
        self._reports.take(member, words)
        if self._held is not None:
            self._heard_meanwhile.append((member, words))

    # -- following ---------------------------------------------------------------------------------------------------

    def follow(self, method: Method, params: Any, result: Any) -> int:
        """See :class:`rpc.dispatch.Workers`."""
        if method.name == _APPLY:
            return self._made  # that of its calls, just now
        same: Calls = ((method.name, params),)
        try:
            calls = method.followed_by(self._engine, params or {}, result) if method.followed_by else same
            # The descriptor has to last until it is sent, which may be after the bdev is deleted again.
            phase = "STARTUP" if self._engine.dispatcher.state is State.STARTUP else "RUNTIME"
            made = [
                Call(name, given, _copied(configuration.descriptor_of(self._engine, name, given)), phase)
                for name, given in calls
            ]
        except Exception:  # pylint: disable=broad-except
            _LOG.exception("workers cannot follow %s because of a bug", method.name)
            for member in self.members:
                member.give_up("it cannot be told what changed")
            return 0
        if method.name == _HISTOGRAM:
            self._histograms[params["name"]] = made[0]
        if self._held is not None:
            self._held += made
            return 0
        return self._take(made)

    def mirror_changed(self, mirror: MirrorBdev, base: Bdev, is_gained: bool) -> None:
        """See :class:`bdev.mirror.Watcher`. Workers learn of it before they learn of anything else, such as that target
        nodes on the mirror are theirs now."""
        method = internal.GAIN_MIRROR if is_gained else internal.LOSE_MIRROR
        call = Call(method, {"name": mirror.name, "base": base.name}, change=self._sent)
        for member in self.members:
            member.call(call)
        # They may have yet to make the mirror, as it was.
        if self._held is not None:
            self._held.append(call)
        elif self._steps:
            self._take([call])

    def rebuild_got_on(self, mirror: MirrorBdev) -> None:
        """It is known here."""

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """For a transaction: workers follow when all of it succeeded, or learn nothing of it."""
        self._held = []
        try:
            yield
        except BaseException:
            _forget(self._held)
            self._held = None
            self._touched.clear()
            self._places.open_units(self._moving.disks)  # those that are made anew, as they were
            self._moving.begin_rebuilds(self._idle_rebuilds())
            self._tell_progress()
            for heard in self._heard_meanwhile:
                self._reports.take(*heard)
            raise
        finally:
            self._heard_meanwhile.clear()
        held, self._held = self._held, None
        self._take(held)

    async def followed(self, changes: Collection[int]) -> None:
        """Return when the workers have followed these, or with none or 0 all so far. Raises Busy; they are made.

        Who stands still is waited for if a change is about its target nodes; see :meth:`Member.followed`.
        """
        is_all = not changes or 0 in changes
        wanted = self._made if is_all else max(changes)
        while self._sent < wanted:
            await self._next()
        concerned = frozenset().union(*(self._concerns.get(each, ()) for each in changes or (wanted,)))
        own = () if is_all else changes
        try:
            await asyncio.gather(*(each.followed(own, each.number in concerned) for each in self.members))
        except Busy as error:
            raise Busy(f"the change is made and saved, but {error}") from None

    def take(self, node: TargetNode, arrival: Arrival) -> bool:
        """See :class:`iscsi.reception.Elsewhere`."""
        return self._logins.take(node, arrival)

    def let_in(self) -> None:
        """Something changed that logins may wait for."""
        self._logins.let_in()

    def _rebuilds(self, member: Member, mirror: MirrorBdev) -> bool:
        return mirror.rebuild is not None and self._moving.place_of(rebuilds.name_of(mirror)) == member.number

    def _idle_rebuilds(self) -> list[str]:
        """Those that the main process has to begin anew, without those that workers have yet to learn of."""
        later = {name for step in self._steps for name in step.begun}
        return [
            name
            for name, mirror in rebuilds.under_way(self._engine)
            if self.owners.get(name) == ownership.MAIN and name not in later
            if mirror.rebuild is not None and not mirror.rebuild.is_at_work
        ]

    def is_moving(self, node: TargetNode) -> bool:
        """Nobody serves it now; somebody will."""
        return node.name in self._moving

    def touched(self, node: TargetNode) -> None:
        """See :class:`iscsi.reception.Elsewhere`."""
        self._touched.add(node.name)

    def _take(self, calls: list[Call]) -> int:
        """Gives the number of the change."""
        self._made = number = self._made + 1
        self._engine.target.units.change = number + 1
        moves = self._places.after([call.method for call in calls])
        begun = self._places.begun
        self._moving.begin(moves)
        if any(call.method in SHARING for call in calls):
            self._places.open_units(self._moving.disks)
        touched = [self.owners[name] for name in self._touched if name in self.owners]
        self._touched.clear()
        named = (self._places.concerned_by(call.method, call.params or {}) for call in calls)
        concerns = frozenset().union(touched, *moves.values(), *named)
        if concerns:
            self._concerns[number] = concerns
            if len(self._concerns) > _MOST_CONCERNS:
                del self._concerns[next(iter(self._concerns))]
        self._steps.append(_Step([call._replace(change=number, concerns=concerns) for call in calls], moves, begun))
        if self._mover is None:
            self._advance()
        return number

    def _advance(self) -> None:
        while self._steps:
            if self._steps[0].moves or self._moving.has_company:
                self._mover = asyncio.get_running_loop().create_task(self._move_and_go_on(self._steps[0].moves))
                self._tell_progress()
                return
            self._tell(self._steps.popleft())
        self._tell_progress()
        self.let_in()

    def _tell(self, step: _Step) -> None:
        for member in self.members:
            try:
                for call in step.calls:
                    member.call(call)
            except Exception:  # pylint: disable=broad-except
                _LOG.exception("%s is not told of a change because of a bug", member)
                member.give_up("it cannot be told what changed")
        _forget(step.calls)
        self._moving.begin_rebuilds(step.begun)
        self._sent += 1

    def _tell_progress(self) -> None:
        self._progress.set()

    async def _next(self) -> None:
        self._progress.clear()
        await self._progress.wait()

    # -- gathering ---------------------------------------------------------------------------------------------------

    async def gather(self, method: Method, params: Any, result: Any) -> Any:
        """See :class:`rpc.dispatch.Workers`."""
        theirs = await all_of(self.members, method.name, params)
        own = await result if hasattr(result, "__await__") else result
        return method.merge(self._engine, {0: own, **theirs}) if method.merge else own

    def families(self) -> list[Family]:
        """What there is to watch of the workers themselves."""
        labels = [({"worker": str(member.number)}, member) for member in self.members]
        ready = [Sample(int(member.ready), names) for names, member in labels]
        restarts = [Sample(member.restarts, names) for names, member in labels]
        return [
            Family("worker_up", "gauge", "Whether a worker process serves its target nodes.", ready),
            Family("worker_restarts_total", "counter", "How often a worker process had to be replaced.", restarts),
        ]

    def lives(self) -> dict[int, int]:
        """How often each worker was replaced, by its number."""
        return {member.number: member.restarts for member in self.members}

    async def ask_all(self, method: str) -> dict[int, Any]:
        """The results of a method in all workers that answer, by their number."""
        return await all_of(self.members, method)

    # -- moving ------------------------------------------------------------------------------------------------------

    async def _move_and_go_on(self, moves: Moves) -> None:
        try:
            if moves:
                await self._moving.go(moves)
            await self._moving.hold_company()
        except Exception:  # pylint: disable=broad-except
            _LOG.exception("a move of target nodes %s met a bug; what comes after it goes on", ", ".join(moves))
        self._places.open_units(self._moving.disks)
        self._mover = None
        self._tell(self._steps.popleft())
        self._advance()

    async def see_off(self, node: TargetNode, seconds: int) -> None:
        """See :class:`iscsi.reception.Elsewhere`."""
        while self._moving.ends_soon(node.name):
            await self._next()
        owner = self.owners.get(node.name, ownership.MAIN)
        if owner != ownership.MAIN:
            try:
                await self.members[owner - 1].see_off([node.name], seconds, until_rest=False)
            except Busy as error:
                raise Busy(f"target node {node.name} stays: {error}. Delete it when the worker has ended") from None

    def stay(self, node: TargetNode) -> None:
        """See :class:`iscsi.reception.Elsewhere`."""
        owner = self.owners.get(node.name, ownership.MAIN)
        if owner != ownership.MAIN:
            self.members[owner - 1].take_over([node.name], None)


def _copied(descriptor: int | None) -> int | None:
    return None if descriptor is None else os.dup(descriptor)


def _forget(calls: Iterable[Call]) -> None:
    for call in calls:
        if call.descriptor is not None:
            os.close(call.descriptor)
