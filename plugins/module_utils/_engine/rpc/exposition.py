# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus' text format (version 0.0.4), made of plain data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX: Final = "openlun"
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Labels = Mapping[str, str]


class Buckets(NamedTuple):
    """A histogram."""

    borders: Sequence[float]
    counts: Sequence[int]
    """Values up to each border and above the one before it; at the end those above the last one."""
    total: float
    """Of all values."""


class Sample(NamedTuple):
    value: float | Buckets
    labels: Labels = {}


class Family(NamedTuple):
    """A metric: its name without the prefix, type and meaning."""

    name: str
    type: str
    help: str
    samples: Sequence[Sample]


def render(families: Iterable[Family]) -> str:
    """The text; a family without samples is left out."""
    return "".join(line + "\n" for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    if not family.samples:
        return
    name = f"{_PREFIX}_{family.name}"
    yield f"# HELP {name} {family.help}"
    yield f"# TYPE {name} {family.type}"
    for value, labels in family.samples:
        if isinstance(value, Buckets):
            yield from _histogram(name, value, labels)
        else:
            yield f"{name}{_labels(labels)} {value}"


def _histogram(name: str, value: Buckets, labels: Labels) -> Iterator[str]:
    """Every bucket counts what is in the ones before it too."""
    borders = [*map(repr, value.borders), "+Inf"]
    for border, count in zip(borders, accumulate(value.counts)):
        yield f"{name}_bucket{_labels({**labels, 'le': border})} {count}"
    yield f"{name}_sum{_labels(labels)} {value.total}"
    yield f"{name}_count{_labels(labels)} {sum(value.counts)}"


def _labels(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""
