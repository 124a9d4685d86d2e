# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Target nodes that go from a worker to another process: seen off here, at rest, taken over there."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import Busy
from ..iscsi import luggage, parting
from . import ownership, rebuilds
from .places import Moves, Places

if TYPE_CHECKING:
    from ..iscsi.node import TargetNode
    from ..scsi.unit import UnitState
    from ..service import Engine
    from .fleet import Fleet

_LOG = logging.getLogger(__name__)

_MOVE_SECONDS: Final = 5
"""How long initiators have to log out before they are dropped."""
_AGAIN_SECONDS: Final = 1.0
"""After that a worker that could not let go of nodes is asked again."""


class _Leaving(NamedTuple):
    """A node that goes, as it is before anything is changed that workers learn later."""

    units: set[UnitState]
    disks: frozenset[str]
    """The bdevs at the bottom of what it shows where it is."""
    source: int
    """The worker that it is at."""


class Moving:
    """The nodes that nobody serves at the moment."""

    def __init__(self, engine: Engine, places: Places, fleet: Fleet) -> None:
        self._engine = engine
        self._target = engine.target
        self._places = places
        self._fleet = fleet
        self._moves: deque[dict[str, _Leaving]] = deque()
        """Nodes that go at a time."""
        self._restless: dict[tuple[str, int], _Leaving] = {}
        """By node and worker: that may still work on their disks, which could land after what others write."""
        self._stuck: set[str] = set()
        """Restless ones, and nodes that share disks with them and wait too."""
        self._waits: set[asyncio.Task[None]] = set()

    def __contains__(self, name: object) -> bool:
        return name in self._stuck or any(name in moves for moves in self._moves)

    def ends_soon(self, name: str) -> bool:
        """The node is on its way, which takes a bounded time."""
        return any(name in moves for moves in self._moves)

    def begin(self, moves: Moves) -> None:
        """These are to go, after those that were to go before; logins to them wait from now on."""
        if moves:
            before = self._places.disks_before
            self._moves.append(
                {
                    name: _Leaving(luggage.units_of(self._nodes([name])), before.get(name, frozenset()), source)
                    for name, (source, _destination) in moves.items()
                }
            )

    def place_of(self, name: str) -> int | None:
        """Where a node or rebuild still is, or was last."""
        for moves in self._moves:
            if name in moves:
                return moves[name].source
        left = (source for restless, source in self._restless if restless == name)
        return next(left, self._fleet.owners.get(name))

    @property
    def disks(self) -> set[str]:
        """Bdevs at the bottom that a worker may work on though the nodes on them are not its any more."""
        moving = (leaving.disks for moves in self._moves for leaving in moves.values())
        return self._restless_disks().union(*moving)

    async def go(self, moves: Moves) -> None:
        """Whatever happens, nodes are afterwards where they have to be, or stuck, and the next ones may go."""
        try:
            await self._go(moves)
        except Exception:  # pylint: disable=broad-except
            left = [name for name in moves if name not in self._stuck]
            _LOG.exception("target nodes %s could not be moved because of a bug", ", ".join(left))
            for name in left:
                self._hold({name: self._moves[0][name]}, moves[name][0])
        finally:
            self._moves.popleft()

    async def _go(self, moves: Moves) -> None:
        pairs: dict[tuple[int, int], list[str]] = {}
        for name, pair in moves.items():
            pairs.setdefault(pair, []).append(name)
        await asyncio.gather(*(self._leave(names, *pair) for pair, names in pairs.items()))
        # Nobody else has a turn from here on: what is stuck stays so.
        for (_source, destination), names in pairs.items():
            here = [name for name in names if name not in self._stuck]
            self._arrive(here, destination, self._units_of(here))

    async def _leave(self, names: list[str], source: int, destination: int) -> None:
        _LOG.warning(
            "%s: served by %s from now on instead of worker %d, because of a bdev they share with others; their "
            "initiators log in anew",
            *(", ".join(names), _who(destination), source),
        )
        leaving = {name: self._moves[0][name] for name in names}
        if await self._see_off(leaving, source) and destination == ownership.MAIN:
            try:
                await parting.save_reservations(self._target, self._units_of(names))
            except OSError as error:
                _LOG.error("reservations that have to survive a power loss are not saved: %s", error)

    async def _see_off(self, leaving: dict[str, _Leaving], source: int) -> bool:
        """Whether their worker is done with these nodes and their disks; else they are stuck."""
        names = ", ".join(leaving)
        try:
            await self._fleet.members[source - 1].see_off(list(leaving), _MOVE_SECONDS, until_rest=True)
            return True
        except Busy as error:
            _LOG.error("target nodes %s cannot be moved yet: %s", names, error)
        except Exception:  # pylint: disable=broad-except
            _LOG.exception("target nodes %s could not be seen off because of a bug", names)
        self._hold(leaving, source)
        return False

    def _units_of(self, names: Iterable[str]) -> set[UnitState]:
        return set().union(*(self._moves[0][name].units for name in names))

    def _arrive(self, names: list[str], destination: int, units: Iterable[UnitState]) -> None:
        """All that the nodes have in memory is known here: workers tell it before they answer.

        What they do not show yet where they come to they get with the step that lets them show it. So it does no harm
        that this, which may be served there already, is among the ``units``.
        """
        try:
            bases = rebuilds.hand_over(self._engine, names)
            if destination == ownership.MAIN:
                parting.take_over(self._target, names, None)
                rebuilds.begin(self._engine, bases)
            elif names:
                packed = luggage.pack(self._nodes(names), units)
                self._fleet.members[destination - 1].take_over(
                    names, {**packed, "rebuilds": bases} if bases else packed
                )
        except Exception:  # pylint: disable=broad-except
            _LOG.exception("target nodes %s could not be handed over because of a bug", ", ".join(names))

    def _nodes(self, names: Iterable[str]) -> list[TargetNode]:
        return [node for node in map(self._target.find_node, names) if node is not None]

    def begin_rebuilds(self, names: Iterable[str]) -> None:
        """Now that workers know of these. Those that are on the move, or wait, begin when they are there."""
        for name in names:
            if name not in self and name in self._fleet.owners:
                self._arrive([name], self._fleet.owners[name], ())

    # -- what does not end -------------------------------------------------------------------------------------------

    def _hold(self, leaving: dict[str, _Leaving], source: int) -> None:
        self._restless.update({(name, source): each for name, each in leaving.items()})
        self._stuck.update(leaving)
        wait = asyncio.get_running_loop().create_task(self._until_rest(list(leaving), source))
        self._waits.add(wait)
        wait.add_done_callback(self._waits.discard)

    @property
    def has_company(self) -> bool:
        """There are nodes that :meth:`hold_company` is for."""
        return bool(self._restless) and bool(self._company())

    def _company(self) -> set[str]:
        """Nodes on disks of restless ones, or that will be when workers learn of what is changed already.

        Those of the main process need not wait: of their units only those are away that are on such disks.
        """
        owners = self._fleet.owners.items()
        here = {name for name, owner in owners if owner == ownership.MAIN and not rebuilds.is_rebuild(name)}
        return self._places.showing(self._restless_disks()) - self._stuck - here

    def _restless_disks(self) -> set[str]:
        return set().union(*(leaving.disks for leaving in self._restless.values()))

    async def hold_company(self) -> None:
        """Whoever comes to share disks with restless nodes waits with them: on a disk there is one process at a time.

        To be called before workers are told of the change by which they do.
        """
        company = self._company()
        self._stuck |= company
        workers: dict[int, list[str]] = {}
        for name in company:
            workers.setdefault(self._fleet.owners[name], []).append(name)
        if ownership.MAIN in workers:  # rebuilds
            pausing = asyncio.ensure_future(rebuilds.pause(self._engine, workers.pop(ownership.MAIN)))
            self._waits.add(pausing)
            pausing.add_done_callback(self._waits.discard)
            await asyncio.wait({pausing}, timeout=_MOVE_SECONDS)
        for worker, names in workers.items():
            _LOG.error("target nodes %s: nobody serves them either, as they share disks with these", ", ".join(names))
            disks = self._places.disks
            await self._see_off({name: _Leaving(set(), disks.get(name, frozenset()), worker) for name in names}, worker)

    async def _until_rest(self, names: list[str], source: int) -> None:
        member = self._fleet.members[source - 1]
        while True:
            await asyncio.sleep(_AGAIN_SECONDS)
            try:
                await member.see_off(names, 0, until_rest=True)
                break
            except Busy:
                continue
            except Exception:  # pylint: disable=broad-except
                _LOG.exception("when the disks of %s are at rest is not known because of a bug", ", ".join(names))
                member.give_up("whether it is done with its target nodes is not known")
                break
        await self._fleet.settled()  # what is shown here is shown there
        for name in names:
            self._restless.pop((name, source), None)
        self._release()

    def _release(self) -> None:
        free = self._stuck - {name for name, _source in self._restless} - self._places.showing(self._restless_disks())
        self._stuck -= free
        owners: dict[int, list[str]] = {}
        for name in free:
            is_there = rebuilds.is_rebuild(name) or self._target.find_node(name) is not None
            if is_there and name in self._fleet.owners:
                owners.setdefault(self._fleet.owners[name], []).append(name)
        for owner, names in owners.items():
            units = luggage.units_of(self._nodes(names))
            # What others show too is served already, where more is known of it.
            self._arrive(names, owner, {each for each in units if all(lun.device.name in free for lun in each.luns)})
        self._places.open_units(self.disks)
        self._fleet.let_in()

    def close(self) -> None:
        for wait in self._waits:
            wait.cancel()


def _who(number: int) -> str:
    return "the main process" if number == ownership.MAIN else f"worker {number}"
