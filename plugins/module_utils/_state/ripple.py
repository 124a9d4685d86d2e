# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operation on one object means for the objects that use it.

A target node holds on to its bdevs, so when one is replaced its LUNs go and come again, or with an engine that takes no
LUN away the whole node; a bdev that is made of it is replaced around it, or rebuilt if it is a mirror. A map lives no
longer than its two groups, so the nodes of a portal group that is replaced get their maps back, and those of a group
that is removed lose them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from . import mirror_bases
from .base import BDEV, INITIATOR_GROUP, PORTAL_GROUP, Ref, label
from .bdevs import Bdev, Qos
from .drivers import giver_of
from .masking import losing
from .model import REMOVE_LUN, TargetNode
from .operations import DELETE, EDIT, REPLACE, Operation, as_kind
from .scene import Scene
from .schedule import removed_early


def spread(drafts: Mapping[Ref, Operation], scene: Scene) -> dict[Ref, Operation]:
    """``drafts`` and what follows from them."""
    operations = dict(drafts)
    replaced = [draft for draft in drafts.values() if draft.ref[0] == BDEV and draft.action == REPLACE]
    while replaced:
        bdev = replaced.pop(0)
        replaced += _replace_bdevs_on(bdev, operations, scene)
        _serve_again(bdev, operations, scene)
        _limit_parts(bdev, operations, scene)
    for each in list(operations.values()):
        operations[each.ref] = replace(each, risks=(*each.risks, *mirror_bases.risks_of(each, operations)))
    for draft in drafts.values():
        if draft.ref[0] in (PORTAL_GROUP, INITIATOR_GROUP) and draft.action == DELETE:
            _take_maps(draft, operations, scene)
    for group in removed_early(operations.values()):
        _detach_maps(group, operations, scene)
    return operations


def _replace_bdevs_on(bdev: Operation, operations: dict[Ref, Operation], scene: Scene) -> list[Operation]:
    """What is made of a bdev that is replaced is made again; returns the operations that do."""
    added = []
    for each in scene.built_on(bdev.ref):
        planned = operations.get(each.ref)
        if planned is not None and (planned.removes or bdev.ref[1] in planned.released):
            continue
        rebuild = mirror_bases.rebuilt(each, planned, operations, scene)
        if rebuild is not None:
            operations[each.ref] = rebuild
            continue
        after = as_kind(Bdev, scene.goal.objects[each.ref]).made_again()
        wish, base = scene.goal.wishes.get(each.ref), bdev.before
        if (wish is None or "size" not in wish.given) and isinstance(base, Bdev) and after.count and after.fills(base):
            after = replace(after, size=None)
        why = _joined(f"its {label(bdev.ref)} is replaced", planned)
        expects = tuple(after.parts)
        operations[each.ref] = Operation(REPLACE, each, after, why, _unasked(each.ref, scene), expects=expects)
        added.append(operations[each.ref])
    return added


def _limit_parts(split: Operation, operations: dict[Ref, Operation], scene: Scene) -> None:
    """The parts of a split that is made again have no limits: they get all that they shall have."""
    for name in split.after.parts if isinstance(split.after, Bdev) else ():
        part = scene.goal.objects.get((BDEV, name))
        if not isinstance(part, Bdev):
            continue
        planned = operations.pop(part.ref, None)
        if any(part.qos or ()):
            bare, after = (Bdev(name, part.type, qos=limits) for limits in (Qos(), part.qos))
            operations[part.ref] = Operation(EDIT, bare, after, _joined(f"its {label(split.ref)} is replaced", planned))


def _unasked(ref: Ref, scene: Scene) -> tuple[str, ...]:
    return () if ref in scene.goal.wishes else ("interrupts what is not declared here",)


def _serve_again(bdev: Operation, operations: dict[Ref, Operation], scene: Scene) -> None:
    for node in scene.users_of(bdev.ref):
        planned = operations.get(node.ref)
        if planned is not None and planned.removes:
            continue
        why = _joined(f"its {label(bdev.ref)} is replaced", planned)
        after, risks = as_kind(TargetNode, scene.goal.objects[node.ref]), _unasked(node.ref, scene)
        if not scene.can.has(REMOVE_LUN):
            sessions = scene.sessions_of(node)
            operations[node.ref] = Operation(REPLACE, node, after, why, risks, sessions)
            continue
        luns = {lun for lun in node.luns if bdev.ref[1] in (lun.bdev, giver_of(lun.bdev))}
        released = luns if planned is None else planned.released | luns
        if planned is None or released != planned.released:
            hit = losing(node, after, released, scene)
            operations[node.ref] = Operation(EDIT, node, after, why, risks, hit, released=frozenset(released))


def _take_maps(group: Operation, operations: dict[Ref, Operation], scene: Scene) -> None:
    """Nodes that stay and still map to a group that goes lose those maps, and that needs force."""
    for node in scene.users_of(group.ref):
        planned = operations.get(node.ref)
        after = scene.goal.objects.get(node.ref) if planned is None else planned.after
        if not isinstance(after, TargetNode) or group.ref not in set(after.needs()):
            continue
        left = after.with_maps(tuple(each for each in after.maps if group.ref not in each.refs))
        why = f"{label(group.ref)} is removed"
        if planned is None:
            operations[node.ref] = Operation(EDIT, node, left, why)
        else:
            operations[node.ref] = replace(planned, after=left, why=_joined(why, planned))
        taken = operations[group.ref]
        operations[group.ref] = replace(taken, risks=(*taken.risks, f"ends its maps in {label(node.ref)}"))


def _detach_maps(group: Operation, operations: dict[Ref, Operation], scene: Scene) -> None:
    """Nodes whose maps end with a portal group before they are edited get back what they shall keep."""
    for node in scene.users_of(group.ref):
        planned = operations.get(node.ref)
        if planned is not None and planned.removes:
            continue
        detached = frozenset(each for each in node.maps if group.ref in each.refs)
        if planned is None:
            why = f"{label(group.ref)} is replaced"
            planned = Operation(EDIT, node, scene.goal.objects[node.ref], why)
        operations[node.ref] = replace(planned, detached=planned.detached | detached)


def _joined(why: str, planned: Operation | None) -> str:
    return why if planned is None else f"{planned.why}, {why}"
