# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a target node leaves behind where it was served, and brings to where it is served from now on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ..errors import Busy
from ..scsi.alua import State
from ..scsi.unit import Modes, UnitState

if TYPE_CHECKING:
    from .node import TargetNode
    from .target import IscsiTarget

_LOOK_SECONDS: Final = 0.2
_REST_SECONDS: Final = 30.0
"""As long as a disk may take for what it is at."""

Luggage = dict[str, Any]
"""What logical units, by their bdev, and target nodes keep in memory; as JSON takes it."""
NOTHING: Final[Luggage] = {"units": {}, "access": {}}
"""For nodes that stay where they are."""


async def see_off(target: IscsiTarget, names: Iterable[str], seconds: int, until_rest: bool) -> Luggage:
    """End the nodes' sessions: ask for logout, drop who stays, and wait ``until_rest`` if nothing may land later.

    From now on nobody logs in to them here. Gives what is to be taken to where they are served next. Raises Busy when
    a disk does not come to rest.
    """
    nodes = [node for node in map(target.find_node, names) if node is not None]
    for node in nodes:
        node.moved = True
    sessions = [session for node in nodes for session in target.sessions.of_node(node)]
    await target.sessions.see_off(sessions, seconds)
    if until_rest:
        await asyncio.gather(*(_at_rest(target, node) for node in nodes))
    return {
        "units": {lun.bdev.name: _packed(lun.state) for node in nodes for lun in node.device.luns.values()},
        "access": {node.name: {str(tag): state.name for tag, state in node.device.ports.items()} for node in nodes},
    }


async def _at_rest(target: IscsiTarget, node: TargetNode) -> None:
    """Nothing changes the node's disks any more."""
    luns = list(node.device.luns.values())
    while any(lun.state.erasure is not None and not lun.state.erasure.failed for lun in luns):
        await asyncio.sleep(_LOOK_SECONDS)  # FORMAT UNIT and SANITIZE go on without their session
    left = [future for lun in luns for future in target.settling.left_on(lun)]
    _done, late = await asyncio.wait(left, timeout=_REST_SECONDS) if left else (set(), set())
    if late:
        raise Busy(f"target node {node.name}: its disks still work on {len(late)} commands")


def take_over(target: IscsiTarget, names: Iterable[str], luggage: Mapping[str, Any]) -> None:
    """The nodes are served here from now on, as they were where the luggage comes from.

    Empty luggage is that of a process that is gone. It may have changed since, in files, what was read from them here.
    """
    for node in map(target.find_node, names):
        if node is not None:
            node.moved = False
            if not luggage:
                for lun in node.device.luns.values():
                    target.units.load(lun.state)
            states = luggage.get("access", {}).get(node.name, {})
            known = {int(tag): State[state] for tag, state in states.items() if int(tag) in node.device.ports}
            node.device.set_access(known)
    for unit in target.units:
        packed = luggage.get("units", {}).get(unit.bdev.name)
        if packed is not None:
            unit.modes = Modes(*packed["modes"])
            unit.loaded = packed["loaded"]
            unit.reservations.restore(packed["reservations"])
            unit.reservations.aptpl = packed["aptpl"]
            unit.reservations.generation = packed["generation"]
            unit.refresh()


def _packed(unit: UnitState) -> dict[str, Any]:
    reservations = unit.reservations
    return {
        "modes": list(unit.modes),
        "loaded": unit.loaded,
        "reservations": reservations.to_plain(),
        "aptpl": reservations.aptpl,
        "generation": reservations.generation,
    }
