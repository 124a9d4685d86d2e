# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was done, how many bytes it moved and how long it took: counted for good, and cheap enough to be always on."""

from __future__ import annotations

from typing import Final

_FIRST: Final = 13
BORDERS: Final = tuple(2**power for power in range(_FIRST, 35))
"""Nanoseconds, from 8 microseconds to 17 seconds: where the buckets of a :class:`Tally` end, borders included."""


def place_of(took: int) -> int:
    """Where the buckets of a tally count an operation that took so long."""
    place = (took - 1).bit_length() - _FIRST
    if place < 0:
        return 0
    return place if place < len(BORDERS) else -1


class Tally:
    """Operations of one kind. Times are nanoseconds."""

    __slots__ = ("buckets", "bytes", "least", "most", "ticks")

    def __init__(self) -> None:
        self.bytes = 0
        self.ticks = 0
        """All their times together."""
        self.least = 0
        self.most = 0
        self.buckets = [0] * (len(BORDERS) + 1)
        """Operations by their time: up to each of BORDERS, and beyond the last one."""

    def add(self, took: int, operations: int = 1, length: int = 0) -> None:
        """``operations`` took ``took`` each, and moved ``length`` bytes together.

        :func:`add_to_both` has this written out.
        """
        if took > self.most:
            self.most = took
        if took < self.least or not self.least:
            self.least = took
        self.bytes += length
        self.ticks += took * operations
        self.buckets[place_of(took)] += operations

    @property
    def operations(self) -> int:
        return sum(self.buckets)


def add_to_both(one: Tally, other: Tally, took: int, operations: int, length: int) -> None:
    """Tally.add() of two tallies in one, as this runs for every wake-up."""
    place = place_of(took)
    total = took * operations
    for tally in (one, other):
        if took > tally.most:
            tally.most = took
        if took < tally.least or not tally.least:
            tally.least = took
        tally.bytes += length
        tally.ticks += total
        tally.buckets[place] += operations


class Statistics:
    """What a device did, as bdev_get_iostat reports it: operations that succeeded, and how many failed."""

    __slots__ = ("errors", "read", "unmap", "write")

    def __init__(self) -> None:
        self.read = Tally()
        self.write = Tally()
        self.unmap = Tally()
        self.errors = 0

    def reset(self, mode: str) -> None:
        """``all``, ``maxmin``, ``error`` or ``none``, as bdev_reset_iostat has it."""
        for kind in ("read", "write", "unmap"):
            if mode == "all":
                setattr(self, kind, Tally())
            elif mode == "maxmin":
                tally: Tally = getattr(self, kind)
                tally.least = tally.most = 0
        if mode in ("all", "error"):
            self.errors = 0
