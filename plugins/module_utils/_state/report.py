# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run tells: the actions, the objects, and the difference as people read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .base import BDEV, SINGLETONS, label
from .bdevs import Bdev
from .declaration import COLLECTIONS
from .drivers import GIVEN
from .model import State
from .operations import Operation


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
        "before": {label(each.ref): each.before.readable(None) for each in operations if each.before is not None},
        "after": {label(each.ref): each.after.readable(each.before) for each in operations if each.after is not None},
    }


def outcome(state: State, operations: Sequence[Operation]) -> State:
    """The state that ``operations`` lead to, as check mode shows it.

    Of what an NVMe controller that is attached on the way gives only that is known which somebody asks for.
    """
    objects = dict(state.objects)
    gone = {each.ref for each in operations if each.removes and isinstance(each.before, Bdev)}
    for ref in [ref for ref, each in objects.items() if isinstance(each, Bdev) and not gone.isdisjoint(each.needs())]:
        del objects[ref]
    for each in operations:
        if isinstance(each.after, Bdev):
            objects.update({(BDEV, name): Bdev(name, GIVEN[each.after.type]) for name in each.expects})
    for each in operations:
        if each.after is None:
            objects.pop(each.ref, None)
        else:
            objects[each.ref] = each.after
    return State(objects, state.sessions)


def objects_by_option(state: State) -> dict[str, Any]:
    """``{"bdevs": […], …, "discovery_auth": {…}, …}``, each in the form in which it can be declared."""
    lists = {collection: [each.show() for each in state.of_kind(kind)] for kind, collection in COLLECTIONS.items()}
    return {**lists, **{each.kind: each.show() for kind in SINGLETONS for each in state.of_kind(kind)}}
