# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Histograms of latencies in SPDK's layout, so that its histogram tools read them."""

from __future__ import annotations

import base64
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, Final

from ..errors import Invalid

TICK_RATE: Final = 1_000_000_000
"""Ticks are nanoseconds here."""
DEFAULT_GRANULARITY: Final = 7
MAX_GRANULARITY: Final = 12
"""SPDK has no bound; this keeps one histogram below 2 MiB."""
_LONGEST: Final = 2**64 - 1


class Histogram:
    """Counts of values: ranges that double, each cut into ``2**granularity`` buckets of one width.

    The first two ranges have a bucket for every value, the width then doubles from range to range. Values outside
    ``least``..``most`` count in the first or the last bucket.
    """

    __slots__ = ("buckets", "granularity", "max_range", "min_range")

    def __init__(self, granularity: int = DEFAULT_GRANULARITY, least: int = 0, most: int = _LONGEST) -> None:
        """``least`` (inclusive) and ``most`` (exclusive) in ticks. Raises Invalid."""
        if not 1 <= granularity <= MAX_GRANULARITY:
            raise Invalid(f"histogram: granularity {granularity}: 1 to {MAX_GRANULARITY} are possible")
        if least >= most:
            raise Invalid(f"histogram: the smallest latency {least} ns is not below the largest one {most} ns")
        self.granularity = granularity
        self.min_range = _range_of(least, granularity)
        self.max_range = _range_of(most - 1, granularity)
        self.buckets = [0] * ((self.max_range - self.min_range + 1) << granularity)

    def tally(self, value: int, count: int = 1) -> None:
        """Count a value, ticks, ``count`` times."""
        granularity = self.granularity
        which = value.bit_length() - granularity
        if which <= 0:
            which = shift = 0
        else:
            shift = which - 1
        if which < self.min_range:
            place = 0
        elif which > self.max_range:
            place = -1
        else:
            mask = (1 << granularity) - 1
            place = ((which - self.min_range) << granularity) + (value >> shift & mask)
        self.buckets[place] += count

    def up_to(self, borders: Iterable[int]) -> list[int]:
        """For each of ``borders``, ticks, how many values are in the bucket it lies in and those before it; at the end
        how many there are."""
        starts, sums = list(self._starts()), [0, *accumulate(self.buckets)]
        return [*(sums[bisect_right(starts, border)] for border in borders), sums[-1]]

    def _starts(self) -> Iterator[int]:
        """The first value of each bucket."""
        size = 1 << self.granularity
        for which in range(self.min_range, self.max_range + 1):
            width = 1 << which - 1 if which else 1
            start = size << which - 1 if which else 0
            yield from range(start, start + width * size, width)

    def to_rpc(self) -> dict[str, Any]:
        """As bdev_get_histogram and iscsi_get_histogram give it."""
        packed = struct.pack(f"<{len(self.buckets)}Q", *self.buckets)
        return {
            "histogram": base64.b64encode(packed).decode("ascii"),
            "granularity": self.granularity,
            "bucket_shift": self.granularity,  # its name in earlier versions of SPDK
            "min_range": self.min_range,
            "max_range": self.max_range,
            "tsc_rate": TICK_RATE,
        }


def _range_of(value: int, granularity: int) -> int:
    return max(value.bit_length() - granularity, 0)
