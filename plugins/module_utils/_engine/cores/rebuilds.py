# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rebuilds of mirrors: each is at work in one process, the one that serves the target nodes on its disks.

To places and moves a rebuild is what a target node is, with a name that no node can have: it is on its mirror's disks,
and goes where all go that are on them. Wherever it comes to it begins anew. That a base has become the same as the
others counts when the main process has learned of it, which tells all workers before anything else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from ..bdev.mirror import MirrorBdev

if TYPE_CHECKING:
    from ..service import Engine

_FORM: Final = "rebuild {} of {}"
"""With the number of the change by which it was asked for: another one of the same mirror is another one."""


def name_of(mirror: MirrorBdev) -> str:
    """Of the rebuild that the mirror has."""
    number = mirror.added_by.get(mirror.rebuild.target.name, 0) if mirror.rebuild is not None else 0
    return _FORM.format(number, mirror.name)


def is_rebuild(name: str) -> bool:
    return name.startswith("rebuild ")


def under_way(engine: Engine) -> Iterator[tuple[str, MirrorBdev]]:
    """Rebuilds by their name, wherever they are at work."""
    for bdev in engine.bdevs:
        if isinstance(bdev, MirrorBdev) and bdev.rebuild is not None:
            yield name_of(bdev), bdev


def hand_over(engine: Engine, names: Collection[str]) -> dict[str, str]:
    """By the mirror the base that is rebuilt, of those rebuilds, which somebody is to begin anew."""
    if not any(map(is_rebuild, names)):
        return {}
    bases = {}
    for name, mirror in under_way(engine):
        if name in names and mirror.rebuild is not None:
            mirror.rebuild.copied = 0
            bases[mirror.name] = mirror.rebuild.target.name
    return bases


def begin(engine: Engine, bases: Mapping[str, str]) -> None:
    """Rebuild these bases, by the mirror, in this process."""
    for name, base in bases.items():
        mirror = engine.bdevs.get(name) if name in engine.bdevs else None
        if isinstance(mirror, MirrorBdev):
            mirror.rebuild_here(base, engine.tuning.raid)


async def pause(engine: Engine, names: Iterable[str]) -> None:
    """Return when these are not at work in this process any more."""
    for name in filter(is_rebuild, names):
        mirror = name.partition(" of ")[2]
        bdev = engine.bdevs.get(mirror) if mirror in engine.bdevs else None
        if isinstance(bdev, MirrorBdev) and bdev.rebuild is not None:
            await bdev.rebuild.pause()
