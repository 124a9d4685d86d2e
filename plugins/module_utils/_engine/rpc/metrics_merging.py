# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics of several processes as those of one target: families as plain data, and their sum."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Union

from ..bdev.histogram import Histogram
from .metrics import Family, Sample

Value = Union[float, Histogram]

_GAUGES_OF_EACH: Final = frozenset({"connections", "open_files", "resident_memory_bytes", "target_sessions"})
"""Gauges of which each process has a part. Every other gauge tells the same wherever it is asked for."""


def to_plain(families: Iterable[Family]) -> list[Any]:
    """As JSON takes it."""
    return [
        [family.name, family.type, family.help, [[_packed(value), dict(labels)] for value, labels in family.samples]]
        for family in families
    ]


def from_plain(plain: Iterable[Any]) -> list[Family]:
    return [
        Family(name, kind, help_, [Sample(_unpacked(value), labels) for value, labels in samples])
        for name, kind, help_, samples in plain
    ]


def merged(own: Sequence[Family], others: Iterable[Sequence[Family]]) -> list[Family]:
    """The families of the main process with what workers add: counters and histograms are summed up."""
    found: dict[str, tuple[Family, dict[Any, Sample]]] = {}
    for families in (own, *others):
        for family in families:
            _kind, samples = found.setdefault(family.name, (family, {}))
            for sample in family.samples:
                key = tuple(sorted(sample.labels.items()))
                there = samples.get(key)
                if there is None:
                    samples[key] = sample
                elif family.type != "gauge" or family.name in _GAUGES_OF_EACH:
                    samples[key] = Sample(_sum(there.value, sample.value), sample.labels)
    return [family._replace(samples=list(samples.values())) for family, samples in found.values()]


def _sum(one: Value, other: Value) -> Value:
    if not isinstance(one, Histogram) or not isinstance(other, Histogram):
        return one if isinstance(one, Histogram) or isinstance(other, Histogram) else one + other
    if _shape(one) != _shape(other):
        return one
    total = Histogram(one.granularity)
    total.min_range, total.max_range = one.min_range, one.max_range
    total.buckets = [each + more for each, more in zip(one.buckets, other.buckets)]
    total.count, total.total = one.count + other.count, one.total + other.total
    return total


def _shape(histogram: Histogram) -> tuple[int, int, int]:
    return histogram.granularity, histogram.min_range, histogram.max_range


def _packed(value: Value) -> Any:
    """Of a histogram only the buckets that are not empty."""
    if not isinstance(value, Histogram):
        return value
    filled = [[place, count] for place, count in enumerate(value.buckets) if count]
    return [*_shape(value), value.count, value.total, filled]


def _unpacked(value: Any) -> Value:
    if not isinstance(value, list):
        number: float = value
        return number
    granularity, low, high, count, total, filled = value
    histogram = Histogram(granularity)
    histogram.min_range, histogram.max_range = low, high
    histogram.buckets = [0] * ((high - low + 1) << granularity)
    for place, many in filled:
        histogram.buckets[place] = many
    histogram.count, histogram.total = count, total
    return histogram
