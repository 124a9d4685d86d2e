# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks look at, and the sentence about a reference that leads nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .base import BDEV, Ref, label
from .bdevs import Bdev
from .declaration import COLLECTIONS
from .drivers import SPLIT, giver_of
from .goal import Goal
from .model import Capabilities, State
from .text import listed

Found = Iterator[tuple[str, str]]
"""Problems: the path of the variable, and the sentence."""


class Context(NamedTuple):
    """``known`` is all that is there in the end, or declared to be."""

    current: State
    goal: Goal
    can: Capabilities
    known: frozenset[Ref]

    def giver(self, name: object) -> Bdev | None:
        """The NVMe controller or the split of that name, which is no bdev itself."""
        each = self.goal.objects.get((BDEV, str(name)))
        return each if isinstance(each, Bdev) and each.is_giver else None

    def has_bdev(self, name: str) -> bool:
        """Whether there is such a bdev in the end, as far as anybody can know now."""
        return ((BDEV, name) in self.known and self.giver(name) is None) or self.goal.is_coming(name)


def noun(giver: Bdev) -> str:
    return f"split {giver.name}" if giver.type == SPLIT else f"controller {giver.name}"


def dangling(context: Context, ref: Ref, path: str) -> tuple[str, str]:
    """A declared reference must lead to an object that is there in the end; this one does not."""
    kind, key = ref
    if ref in context.goal.doomed:
        return path, f"{label(ref)} is to be removed ({context.goal.doomed[ref]}), so nothing can use it."
    known = f"Known {kind.replace('_', ' ')}s: {_known(context, kind)}."
    giver = context.giver(key) if kind == BDEV else None
    if giver is not None:
        example = next(iter(giver.parts), f"{key}n1")
        return path, f"{key} is a {noun(giver).split()[0]}. Use one of the bdevs it gives, such as {example}. {known}"
    missing = f"no {kind.replace('_', ' ')} {'named' if kind == BDEV else 'with tag'} {key}"
    remedy = f"Declare it in {COLLECTIONS[kind]} or create it first"
    giver = context.giver(giver_of(str(key))) if kind == BDEV else None
    if giver is not None:
        words = noun(giver)
        remedy = f"{words[0].upper()}{words[1:]} does not give it"
    return path, f"{missing}. {remedy}. {known}"


def _known(context: Context, kind: str) -> str:
    known = sorted(context.known, key=str)
    return listed([str(key) for known_kind, key in known if known_kind == kind and context.giver(key) is None])
