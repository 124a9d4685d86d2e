# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run tells: the actions, the objects, and the difference as people read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .declaration import COLLECTIONS
from .model import Object, State, label
from .operations import Operation
from .sizes import show_size


def actions(operations: Iterable[Operation]) -> list[dict[str, Any]]:
    """What is done to which object, why, and the initiators that notice."""
    return [
        {
            "action": each.action,
            "object": label(each.ref),
            "why": each.why,
            "sessions": [str(session) for session in each.sessions],
        }
        for each in operations
    ]


def difference(operations: Sequence[Operation]) -> dict[str, dict[str, Any]]:
    """Before and after of the objects that change, and of nothing else."""
    return {
        "before": {label(each.ref): _readable(each.before) for each in operations if each.before is not None},
        "after": {label(each.ref): _readable(each.after) for each in operations if each.after is not None},
    }


def outcome(state: State, operations: Iterable[Operation]) -> State:
    """The state that ``operations`` lead to, as check mode shows it."""
    objects = dict(state.objects)
    for each in operations:
        if each.after is None:
            objects.pop(each.ref, None)
        else:
            objects[each.ref] = each.after
    return State(objects, state.sessions)


def objects_by_option(state: State) -> dict[str, list[dict[str, Any]]]:
    """``{"bdevs": […], "portal_groups": […], …}``, each in the form in which it can be declared."""
    return {collection: [each.show() for each in state.of_kind(kind)] for kind, collection in COLLECTIONS.items()}


def _readable(each: Object) -> Mapping[str, Any]:
    """The object as a diff shows it: sizes in units, lists that hold small things on one line."""
    shown = {name: value for name, value in each.show().items() if value is not None}
    if isinstance(shown.get("size"), int):
        shown["size"] = show_size(shown["size"])
    if "luns" in shown:
        shown["luns"] = [f"{lun['id']}: {lun['bdev']}" for lun in shown["luns"]]
    if "maps" in shown:
        shown["maps"] = [f"{each['portal_group']}:{each['initiator_group']}" for each in shown["maps"]]
    return shown
