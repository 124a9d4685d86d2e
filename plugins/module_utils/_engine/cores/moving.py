# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Target nodes that go from one process to another: seen off here, at rest, taken over there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ..errors import Busy
from ..iscsi import luggage, parting
from . import ownership
from .places import Moves

if TYPE_CHECKING:
    from ..iscsi.target import IscsiTarget
    from .fleet import Fleet

_LOG = logging.getLogger(__name__)

_MOVE_SECONDS: Final = 5
"""How long initiators have to log out before they are dropped."""


class Moving:
    """The nodes that nobody serves at the moment."""

    def __init__(self, target: IscsiTarget, fleet: Fleet) -> None:
        self._target = target
        self._fleet = fleet
        self._moving: set[str] = set()
        self._stuck: set[str] = set()
        """What was asked of their disks here does not end, and could land after what is asked of them elsewhere."""
        self._waits: set[asyncio.Task[None]] = set()

    def __contains__(self, name: object) -> bool:
        return name in self._moving or name in self._stuck

    def ends_soon(self, name: str) -> bool:
        """The node is on its way, which takes a bounded time."""
        return name in self._moving

    def begin(self, moves: Moves) -> None:
        """These are to go; logins to them wait from now on."""
        self._moving |= moves.keys()

    async def go(self, moves: Moves) -> None:
        pairs: dict[tuple[int, int], list[str]] = {}
        for name, pair in moves.items():
            pairs.setdefault(pair, []).append(name)
        await asyncio.gather(*(member.caught_up() for member in self._fleet.members))
        await asyncio.gather(*(self._leave(names, *pair) for pair, names in pairs.items()))
        # Nobody else has a turn from here on: what is stuck stays so.
        for (_source, destination), names in pairs.items():
            self._arrive([name for name in names if name not in self._stuck], destination)
        self._moving -= moves.keys()

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
                await parting.save_reservations(self._target, names)
        except Busy as error:
            _LOG.error("%s. Until these have ended nobody serves %s.", error, ", ".join(names))
            self._stuck.update(names)
            self._wait_for(names)
        except OSError as error:
            _LOG.error("reservations that have to survive a power loss are not saved: %s", error)
        except Exception:  # pylint: disable=broad-except
            _LOG.exception("target nodes could not be seen off because of a bug")

    def _arrive(self, names: list[str], destination: int) -> None:
        """All that the nodes have in memory is known here: workers tell it before they answer."""
        if destination == ownership.MAIN:
            parting.take_over(self._target, names, None)
        elif names:
            self._fleet.members[destination - 1].take_over(names, self.luggage(names))

    def luggage(self, names: Sequence[str]) -> luggage.Luggage:
        """What else shows a unit is served already, where more is known of that unit."""
        nodes = {node.name: node for node in map(self._target.find_node, names) if node is not None}
        others = (node for node in self._target.nodes.values() if node.name not in nodes)
        return luggage.pack(nodes.values(), {lun.bdev.name for node in others for lun in node.device.luns.values()})

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
        self._stuck.difference_update(names)
        for name in names:
            owner = self._fleet.owners.get(name)
            is_there = self._target.find_node(name) is not None
            if is_there and owner is not None and name not in self._moving:  # else it arrives where it goes to now
                self._arrive([name], owner)
        self._fleet.let_in()

    def close(self) -> None:
        for wait in self._waits:
            wait.cancel()


def _who(number: int) -> str:
    return "the main process" if number == ownership.MAIN else f"worker {number}"
