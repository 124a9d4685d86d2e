# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics of several processes as those of one target: families as plain data, and their sum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from .exposition import Buckets, Family, Sample
from .metrics import BORDERS_SECONDS

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


class Ledger:
    """What workers counted, so that no counter falls: of one that is gone, or does not answer, what was heard last."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, list[Family]]] = {}
        """By worker: which of its lives it was, and what it had counted."""
        self._past: list[Family] = []
        """Of lives that are over."""

    def complete(self, answers: Mapping[int, Sequence[Family]], lives: Mapping[int, int]) -> list[Sequence[Family]]:
        """The families of those workers that answered, and counters of the rest; ``lives`` are those of all workers."""
        for number, families in answers.items():
            self._bury(number, lives[number])
            self._last[number] = lives[number], _counted(families)
        silent = [families for number, (_life, families) in self._last.items() if number not in answers]
        return [*answers.values(), *silent, self._past]

    def _bury(self, number: int, life: int) -> None:
        before, families = self._last.get(number, (life, []))
        if before != life:
            self._past = merged(self._past, [families])


def _counted(families: Iterable[Family]) -> list[Family]:
    return [family for family in families if family.type != "gauge"]


def _sum(one: float | Buckets, other: float | Buckets) -> float | Buckets:
    if isinstance(one, Buckets) and isinstance(other, Buckets):
        counts = [each + more for each, more in zip(one.counts, other.counts)]
        return Buckets(one.borders, counts, one.total + other.total)
    return one if isinstance(one, Buckets) or isinstance(other, Buckets) else one + other


def _packed(value: float | Buckets) -> Any:
    """Of a histogram only the buckets that are not empty; all have the same borders."""
    if not isinstance(value, Buckets):
        return value
    return [value.total, [[place, count] for place, count in enumerate(value.counts) if count]]


def _unpacked(value: Any) -> float | Buckets:
    if not isinstance(value, list):
        number: float = value
        return number
    total, filled = value
    counts = [0] * (len(BORDERS_SECONDS) + 1)
    for place, many in filled:
        counts[place] = many
    return Buckets(BORDERS_SECONDS, counts, total)
