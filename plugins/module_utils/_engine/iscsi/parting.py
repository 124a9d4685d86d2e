# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a target node leaves behind where it was served, and brings to where it is served from now on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..scsi.unit import Modes, UnitState

if TYPE_CHECKING:
    from .node import TargetNode
    from .target import IscsiTarget

Luggage = dict[str, Any]
"""By bdev name, what a logical unit keeps in memory."""


async def see_off(target: IscsiTarget, names: Iterable[str], seconds: int) -> Luggage:
    """End the nodes' sessions: ask for logout, drop who stays, wait until nothing is worked on any more.

    From now on nobody logs in to them here. Gives what is to be taken to where they are served next.
    """
    nodes = [node for node in map(target.find_node, names) if node is not None]
    for node in nodes:
        node.moved = True
    sessions = [session for node in nodes for session in target.sessions.of_node(node)]
    await target.sessions.see_off(sessions, seconds)
    await asyncio.gather(*(_at_rest(target, node) for node in nodes))
    return {lun.bdev.name: _packed(lun.state) for node in nodes for lun in node.device.luns.values()}


async def _at_rest(target: IscsiTarget, node: TargetNode) -> None:
    while True:
        left = [future for lun in node.device.luns.values() for future in target.settling.left_on(lun)]
        if not left:
            return
        await asyncio.wait(left)


def take_over(target: IscsiTarget, names: Iterable[str], luggage: Mapping[str, Any]) -> None:
    """The nodes are served here from now on."""
    for node in map(target.find_node, names):
        if node is not None:
            node.moved = False
    for state in target.units:
        packed = luggage.get(state.bdev.name)
        if packed is not None:
            state.modes = Modes(*packed["modes"])
            state.loaded = packed["loaded"]
            state.reservations.restore(packed["reservations"])
            state.reservations.aptpl = packed["aptpl"]
            state.reservations.generation = packed["generation"]
            state.refresh()


def _packed(state: UnitState) -> dict[str, Any]:
    reservations = state.reservations
    return {
        "modes": list(state.modes),
        "loaded": state.loaded,
        "reservations": reservations.to_plain(),
        "aptpl": reservations.aptpl,
        "generation": reservations.generation,
    }
