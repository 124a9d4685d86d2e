# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirrors whose base bdevs are replaced beneath them: which are rebuilt, and which it is better to leave alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from .base import BDEV, Ref, label
from .bdevs import Bdev
from .drivers import RAID1, giver_of
from .mirrors import ADD_BASE, LOST
from .operations import EDIT, REPLACE, Operation, as_kind
from .scene import Scene


def rebuilt(
    mirror: Bdev, planned: Operation | None, operations: Mapping[Ref, Operation], scene: Scene
) -> Operation | None:
    """A base bdev that is replaced is given up before and taken back as a new one, while the mirror is used.

    None where that cannot be: no other one has the data, or more than one would have to be rebuilt at a time.
    """
    if mirror.level != RAID1 or not scene.can.exchanges_bases:
        return None
    after = as_kind(Bdev, scene.goal.objects[mirror.ref])
    before, wanted = mirror.base_bdevs or (), after.base_bdevs or ()
    gone = {base for base in before if _is_new(base, operations)}
    again = [base for base in before if base in gone and base in wanted]
    if planned is not None and not again:
        return planned
    come = [base for base in wanted if base in gone or base not in before]
    have_data = (set(before) & set(wanted)) - gone - {mirror.rebuilding, LOST}
    if (
        not have_data
        or len(again) != 1
        or len(come) > 1
        or (mirror.rebuilding is not None and mirror.rebuilding not in gone)
    ):
        return None
    if not all(_suits(operations.get((BDEV, base)), mirror) for base in come):
        return None
    (base,) = again
    why, risk, released = f"its {label((BDEV, base))} is replaced", f"rebuilds {base} from what is left", {base}
    if planned is None:
        return Operation(EDIT, mirror, after, why, (risk,), released=frozenset(released))
    why, risks = f"{planned.why}, {why}", (*planned.risks, risk)
    return replace(planned, why=why, risks=risks, released=planned.released | released)


def _suits(base: Operation | None, mirror: Bdev) -> bool:
    """Whether what becomes of a base bdev can be one of the mirror, as far as that is known."""
    bdev = base.after if base is not None else None
    if not isinstance(bdev, Bdev):
        return True
    is_large = bdev.size is None or bdev.size >= (mirror.size or 0)
    return is_large and bdev.block_size in (None, mirror.block_size) and not bdev.readonly


def _is_new(base: str, operations: Mapping[Ref, Operation]) -> bool:
    planned, giving = operations.get((BDEV, base)), operations.get((BDEV, str(giver_of(base))))
    if giving is not None and giving.creates and isinstance(giving.after, Bdev) and giving.after.is_giver:
        return True
    return planned is not None and planned.creates


def risks_of(each: Operation, operations: Mapping[Ref, Operation]) -> tuple[str, ...]:
    """What it costs to make a mirror again of base bdevs that are not the same."""
    before, after = each.before, each.after
    if not (each.action == REPLACE and isinstance(before, Bdev) and isinstance(after, Bdev)):
        return ()
    if not before.level == after.level == RAID1:
        return ()
    old = [
        base for base in after.base_bdevs or () if base in (before.base_bdevs or ()) and not _is_new(base, operations)
    ]
    new = [base for base in after.base_bdevs or () if base not in old]
    return (f"takes {', '.join(new)} for a mirror of {', '.join(old)} though nothing is copied",) if old and new else ()


def obstacles(operations: Collection[Operation]) -> Iterator[str]:
    """Why mirrors cannot be made again, whether it is asked for or follows: the engine would take all their base bdevs
    for the same."""
    for each in operations:
        before, after = each.before, each.after
        if not (each.action == REPLACE and isinstance(before, Bdev) and isinstance(after, Bdev)):
            continue
        bases, remedy = after.base_bdevs or (), ""
        if LOST in bases:
            what = "it has lost a disk"
            remedy = f"Put one in its place by base_bdevs or {ADD_BASE}, run this again when it is rebuilt"
        elif before.rebuilding is not None and before.rebuilding in bases:
            what = f"{before.rebuilding} of it is being rebuilt and has not all of the data"
            remedy = "Run this again when that is done"
        if remedy:
            yield f"{label(each.ref)} cannot be made again ({each.why}): {what}. {remedy}, or remove {before.name} too."
