# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Target nodes that go from one process to another: seen off here, at rest, taken over there."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ..errors import Busy
from ..iscsi import luggage, parting
from . import ownership
from .places import Moves

if TYPE_CHECKING:
    from ..iscsi.target import IscsiTarget
    from ..scsi.unit import UnitState
    from .fleet import Fleet

_LOG = logging.getLogger(__name__)

_MOVE_SECONDS: Final = 5
"""How long initiators have to log out before they are dropped."""


class Moving:
    """The nodes that nobody serves at the moment."""

    def __init__(self, target: IscsiTarget, fleet: Fleet) -> None:
        self._target = target
        self._fleet = fleet
        self._moves: deque[dict[str, set[UnitState]]] = deque()
        """Nodes that go at a time, with what they show before anything is changed that workers learn later."""
        self._stuck: set[str] = set()
        """What was asked of their disks here does not end, and could land after what is asked of them elsewhere."""
        self._waits: set[asyncio.Task[None]] = set()

    def __contains__(self, name: object) -> bool:
        return name in self._stuck or any(name in moves for moves in self._moves)

    def ends_soon(self, name: str) -> bool:
        """The node is on its way, which takes a bounded time."""
        return any(name in moves for moves in self._moves)

    def begin(self, moves: Moves) -> None:
        """These are to go, after those that were to go before; logins to them wait from now on."""
        if moves:
            self._moves.append({name: luggage.units_of([self._target.nodes[name]]) for name in moves})

    async def go(self, moves: Moves) -> None:
        pairs: dict[tuple[int, int], list[str]] = {}
        for name, pair in moves.items():
            pairs.setdefault(pair, []).append(name)
        await asyncio.gather(*(member.caught_up() for member in self._fleet.members))
        await asyncio.gather(*(self._leave(names, *pair) for pair, names in pairs.items()))
        # Nobody else has a turn from here on: what is stuck stays so.
        for (_source, destination), names in pairs.items():
            here = [name for name in names if name not in self._stuck]
            self._arrive(here, destination, self._units_of(here))
        self._moves.popleft()

    async def _leave(self, names: list[str], source: int, destination: int) -> None:
        _LOG.warning(
            "%s: served by %s from now on instead of %s, because of a bdev they share with others; their initiators "
            "log in anew",
            *(", ".join(names), _who(destination), _who(source)),
        )
        try:
            if source == ownership.MAIN:
                await parting.see_off(self._target, names, _MOVE_SECONDS, until_rest=True)
            else:
                await self._fleet.members[source - 1].see_off(names, _MOVE_SECONDS, until_rest=True)
            if destination == ownership.MAIN:
                await parting.save_reservations(self._target, self._units_of(names))
        except Busy as error:
            _LOG.error("%s. Until these have ended nobody serves %s.", error, ", ".join(names))
            self._stuck.update(names)
            self._wait_for(names)
        except OSError as error:
            _LOG.error("reservations that have to survive a power loss are not saved: %s", error)
        except Exception:  # pylint: disable=broad-except
            _LOG.exception("target nodes could not be seen off because of a bug")

    def _units_of(self, names: Iterable[str]) -> set[UnitState]:
        return set().union(*(self._moves[0][name] for name in names))

    def _arrive(self, names: list[str], destination: int, units: Iterable[UnitState]) -> None:
        """All that the nodes have in memory is known here: workers tell it before they answer.

        What they do not show yet where they come to they get with the step that lets them show it. So it does no harm
        that this, which may be served there already, is among the ``units``.
        """
        try:
            if destination == ownership.MAIN:
                parting.take_over(self._target, names, None)
            elif names:
                nodes = [node for node in map(self._target.find_node, names) if node is not None]
                self._fleet.members[destination - 1].take_over(names, luggage.pack(nodes, units))
        except Exception:  # pylint: disable=broad-except
            _LOG.exception("target nodes could not be handed over because of a bug")

    # -- what does not end -------------------------------------------------------------------------------------------

    def _wait_for(self, names: list[str]) -> None:
        wait = asyncio.get_running_loop().create_task(self._until_rest(names))
        self._waits.add(wait)
        wait.add_done_callback(self._waits.discard)

    async def _until_rest(self, names: list[str]) -> None:
        while True:
            try:
                await parting.at_rest(self._target, names)
                break
            except Busy:
                continue
            except Exception:  # pylint: disable=broad-except
                _LOG.exception("when the disks of %s are at rest is not known because of a bug", ", ".join(names))
                break
        await self._fleet.settled()  # what is shown here is shown there
        for name in names:
            owner, node = self._fleet.owners.get(name), self._target.find_node(name)
            if owner is not None and node is not None:
                # What others show too is served already, where more is known of it.
                units = {unit for unit in luggage.units_of([node]) if all(lun.device.name in self for lun in unit.luns)}
                self._arrive([name], owner, units)
            self._stuck.discard(name)
        self._fleet.let_in()

    def close(self) -> None:
        for wait in self._waits:
            wait.cancel()


def _who(number: int) -> str:
    return "the main process" if number == ownership.MAIN else f"worker {number}"
