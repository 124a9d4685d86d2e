# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One answer of the results that the main process (0) and its workers (1, 2, …) have for the same call. Pure."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Callable

Results = Mapping[int, Any]


def iostat(_engine: Any, results: Results) -> dict[str, Any]:
    """bdev_get_iostat: every bdev's counters added up, or a channel of each process."""
    merged = {**results[0], "bdevs": [dict(bdev) for bdev in results[0]["bdevs"]]}
    by_name = {bdev["name"]: bdev for bdev in merged["bdevs"]}
    for number, result in results.items():
        for bdev in result["bdevs"] if number else ():
            own = by_name.get(bdev["name"])
            if own is None:
                continue
            if "channels" in bdev:
                channels = ({**channel, "thread_id": number + 2} for channel in bdev["channels"])
                own["channels"] = [*own["channels"], *channels]
            else:
                own.update((name, _added(name, own[name], value)) for name, value in bdev.items() if name != "name")
    return merged


def _added(name: str, one: Any, other: Any) -> Any:
    """Of latencies the least (0 where none was measured) or most, of everything else the sum."""
    if isinstance(one, dict):
        return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}
    if name.startswith("max_"):
        return max(one, other)
    if name.startswith("min_"):
        return min(one or other, other or one)
    return one + other


def histogram(_engine: Any, results: Results) -> dict[str, Any]:
    """bdev_get_histogram, iscsi_get_histogram: all of one shape, as they were enabled by one call."""
    own = results[0]
    buckets = _buckets(own)
    for number, other in results.items():
        if number and all(other[name] == own[name] for name in ("granularity", "min_range", "max_range")):
            buckets = [one + more for one, more in zip(buckets, _buckets(other))]
    packed = struct.pack(f"<{len(buckets)}Q", *buckets)
    return {**own, "histogram": base64.b64encode(packed).decode("ascii")}


def _buckets(shown: Mapping[str, Any]) -> list[int]:
    packed = base64.b64decode(shown["histogram"])
    return list(struct.unpack(f"<{len(packed) // 8}Q", packed))


def connections(_engine: Any, results: Results) -> list[dict[str, Any]]:
    """iscsi_get_connections: those of all processes by number."""
    return sorted((each for result in results.values() for each in result), key=lambda each: int(each["id"]))


def sums(_engine: Any, results: Results) -> dict[str, int]:
    """iscsi_get_stats."""
    return {name: sum(result.get(name, 0) for result in results.values()) for name in results[0]}


def target_nodes(engine: Any, results: Results) -> list[dict[str, Any]]:
    """iscsi_get_target_nodes: each as the process that serves it has it, whose initiators may have changed it."""
    by_name = {number: {node["name"]: node for node in result} for number, result in results.items()}
    return [by_name.get(engine.owner_of(node["name"]), {}).get(node["name"], node) for node in results[0]]


def listed(key: str) -> Callable[[Any, Results], dict[str, Any]]:
    """framework_get_reactors, thread_get_stats: the list under ``key`` is that of all processes."""

    def merge(_engine: Any, results: Results) -> dict[str, Any]:
        everything = (each for _number, result in sorted(results.items()) for each in result[key])
        return {**results[0], key: list(everything)}

    return merge


def summed(rows: Iterable[Mapping[str, list[int]]]) -> dict[str, list[int]]:
    """Counters by name, added up place by place."""
    total: dict[str, list[int]] = {}
    for row in rows:
        for name, values in row.items():
            total[name] = [one + more for one, more in zip(total.get(name, [0] * len(values)), values)]
    return total
