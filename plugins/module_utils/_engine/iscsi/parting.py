# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a target node leaves where it was served, and comes to where it is served from now on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ..errors import Busy
from . import luggage as packing

if TYPE_CHECKING:
    from ..scsi.unit import UnitState
    from .node import TargetNode
    from .target import IscsiTarget

_ERASE_SECONDS: Final = 10.0
"""How long FORMAT UNIT or SANITIZE may go on where they are; then they fail."""
_REST_SECONDS: Final = 30.0
"""As long as a disk may take for what it is at."""


async def see_off(target: IscsiTarget, names: Iterable[str], seconds: int, until_rest: bool) -> None:
    """End the nodes' sessions: ask for logout, drop who stays, and wait ``until_rest`` if nothing may land later.

    From now on nobody logs in to them here. Raises Busy when a disk does not come to rest.
    """
    nodes = _found(target, names)
    for node in nodes:
        node.moved = True
    sessions = [session for node in nodes for session in target.sessions.of_node(node)]
    await target.sessions.see_off(sessions, seconds)
    if until_rest:
        await at_rest(target, names)


async def at_rest(target: IscsiTarget, names: Iterable[str]) -> None:
    """Return when nothing changes the nodes' disks any more. Raises Busy when that takes too long."""
    await asyncio.gather(*(_at_rest(target, node) for node in _found(target, names)))


async def _at_rest(target: IscsiTarget, node: TargetNode) -> None:
    luns = list(node.device.luns.values())
    # FORMAT UNIT and SANITIZE go on without their session.
    erasures = {lun.state.erasure for lun in luns if lun.state.erasure is not None}
    ends = [erasure.at_rest(_ERASE_SECONDS, _REST_SECONDS) for erasure in erasures]
    left = [_is_done(future) for lun in luns for future in target.settling.left_on(lun)]
    count = (await asyncio.gather(*ends, *left)).count(False)
    if count:
        raise Busy(f"target node {node.name}: its disks still work on {count} commands")


async def _is_done(future: asyncio.Future[None]) -> bool:
    done, _late = await asyncio.wait({future}, timeout=_REST_SECONDS)
    return bool(done)


def take_over(target: IscsiTarget, names: Iterable[str], luggage: packing.Luggage | None) -> list[UnitState]:
    """The nodes are served here from now on, as they were where the luggage comes from, or without it here.

    Gives the units that the luggage told of.
    """
    nodes = _found(target, names)
    for node in nodes:
        node.moved = False
    return packing.unpack(nodes, luggage) if luggage is not None else []


async def save_reservations(target: IscsiTarget, units: Iterable[UnitState]) -> None:
    """Let files have those with APTPL: who served the units before may have ended before it had. Raises OSError.

    Not for units of which nobody told: as they are here is not as they are.
    """
    store = target.units.store
    if store is None:
        return
    for unit in units:
        saved = unit.reservations.saved()
        if store.load(unit.bdev.uuid) != saved:
            await store.save(unit.bdev.uuid, saved)


def _found(target: IscsiTarget, names: Iterable[str]) -> list[TargetNode]:
    return [node for node in map(target.find_node, names) if node is not None]
