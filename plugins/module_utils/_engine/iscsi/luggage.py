# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What logical units and target nodes have in memory and must not lose: packed as JSON takes it, and unpacked.

What ends with the I_T nexus (SPC-2's RESERVE, unit attentions, PREVENT) is not among it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..scsi.alua import Cause, State
from ..scsi.erase import Eraser
from ..scsi.reservations import Reservations
from ..scsi.unit import Modes, UnitState

if TYPE_CHECKING:
    from ..scsi.device import Device
    from .node import TargetNode

Luggage = dict[str, dict[str, Any]]
"""``units`` by the name of their bdev, ``access`` by the name of the target node; None for one that is as made."""


def units_of(nodes: Iterable[TargetNode]) -> set[UnitState]:
    """Those that the nodes show."""
    return {lun.state for node in nodes for lun in node.device.luns.values()}


def pack(nodes: Sequence[TargetNode], units: Iterable[UnitState]) -> Luggage:
    """Of target nodes, and of units that they show where they go to."""
    packed = {unit.bdev.name: pack_unit(unit) for unit in units}
    return {
        "units": {name: None if each == _AS_MADE else each for name, each in packed.items()},
        "access": {node.name: pack_access(node.device) if _has_access_states(node) else None for node in nodes},
    }


def _has_access_states(node: TargetNode) -> bool:
    return bool(node.device.causes) or any(state is not State.OPTIMIZED for state in node.device.ports.values())


def unpack(nodes: Sequence[TargetNode], luggage: Luggage) -> list[UnitState]:
    """Let the nodes, and the units that they show, be as they were where the luggage comes from; gives those units."""
    for node in nodes:
        unpack_access(node.device, luggage["access"].get(node.name) or {})
    units = [unit for unit in units_of(nodes) if unit.bdev.name in luggage["units"]]
    for unit in units:
        unpack_unit(unit, luggage["units"][unit.bdev.name] or _AS_MADE)
    return units


def pack_unit(unit: UnitState) -> dict[str, Any]:
    reservations, erasure = unit.reservations, unit.erasure
    return {
        "modes": list(unit.modes),
        "loaded": unit.loaded,
        "reservations": reservations.to_plain(),
        "aptpl": reservations.aptpl,
        "generation": reservations.generation,
        "erasure": None if erasure is None else [erasure.sanitizes, erasure.may_exit],
    }


def unpack_unit(unit: UnitState, packed: Mapping[str, Any]) -> None:
    """An erasure that was at work has failed, as it did not come to its end."""
    unit.modes = Modes(*packed["modes"])
    unit.loaded = packed["loaded"]
    unit.reservations = Reservations()
    unit.reservations.restore(packed["reservations"])
    unit.reservations.aptpl = packed["aptpl"]
    unit.reservations.generation = packed["generation"]
    unit.erasure = Eraser.cut_short(unit, *packed["erasure"]) if packed["erasure"] else None
    unit.refresh()


def pack_access(device: Device) -> dict[str, list[int]]:
    """State and cause by the tag of the portal group."""
    return {str(tag): [state, device.causes.get(tag, Cause.NOBODY)] for tag, state in device.ports.items()}


def unpack_access(device: Device, packed: Mapping[str, list[int]]) -> None:
    """Portal groups that it does not name are active and optimized; those that are not mapped any more are left out."""
    known = {tag: packed.get(str(tag), [State.OPTIMIZED, Cause.NOBODY]) for tag in device.ports}
    states = {tag: State(state) for tag, (state, _cause) in known.items()}
    device.restore_access(states, {tag: Cause(cause) for tag, (_state, cause) in known.items() if cause})


_AS_MADE = {
    "modes": list(Modes()),
    "loaded": True,
    "reservations": Reservations().to_plain(),
    "aptpl": False,
    "generation": 0,
    "erasure": None,
}
