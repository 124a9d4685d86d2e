# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirrors that get other base bdevs while they are used: what stays, what goes, and what becomes like the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

ADD_BASE: Final = "bdev_raid_add_base_bdev"
REMOVE_BASE: Final = "bdev_raid_remove_base_bdev"

LOST: Final = "a lost disk"
"""What stands in the place of a base bdev that a mirror has given up."""


class Exchange(NamedTuple):
    """``stay`` are the base bdevs that have the data of the mirror, and keep their order. ``come`` are overwritten."""

    stay: tuple[str, ...]
    go: tuple[str, ...]
    come: tuple[str, ...]

    @property
    def bases(self) -> tuple[str, ...]:
        return (*self.stay, *self.come)


def exchange(live: Sequence[str], wanted: Sequence[str]) -> Exchange | None:
    """From the base bdevs that a mirror has to those that it shall have.

    None if it is no mirror of the same data then: none stays, or they are more or fewer than it has room for.
    """
    stay = tuple(base for base in live if base in wanted and base != LOST)
    if not stay or len(wanted) != len(live) or len(set(wanted)) != len(wanted):
        return None
    go = tuple(base for base in live if base not in wanted and base != LOST)
    return Exchange(stay, go, tuple(base for base in wanted if base not in stay))
