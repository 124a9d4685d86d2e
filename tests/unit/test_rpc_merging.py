# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One answer of the results of several processes, and the metrics of several processes as those of one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.histogram import Histogram
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.statistics import Tally
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc import merging
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.exposition import Buckets, Family, Sample
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.metrics import BORDERS_SECONDS
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.metrics_merging import (
    Ledger,
    from_plain,
    merged,
    to_plain,
)
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.lists(st.integers(0, 2**40), max_size=20)


def buckets(values: list[int]) -> Buckets:
    tally = Tally()
    for value in values:
        tally.add(value)
    return Buckets(BORDERS_SECONDS, tally.buckets, tally.ticks)


def histogram(values: list[int]) -> Histogram:
    made = Histogram()
    for value in values:
        made.tally(value)
    return made


@given(VALUES, VALUES)
def test_histograms_add_up(one: list[int], other: list[int]) -> None:
    both = histogram(one + other).to_rpc()
    assert merging.histogram(None, {0: histogram(one).to_rpc(), 2: histogram(other).to_rpc()}) == both


def test_counters_of_a_bdev_add_up_and_channels_stay_apart() -> None:
    def result(reads: int, per_channel: bool) -> dict[str, Any]:
        counters = {
            "num_read_ops": reads,
            "min_read_latency_ticks": 10 * reads,
            "max_read_latency_ticks": 20 * reads,
            "io_error": {"failed": reads} if reads else {},
        }
        if per_channel:
            return {"ticks": 1, "name": "M0", "channels": [{"thread_id": 2, **counters}]}
        return {"ticks": 1, "bdevs": [{"name": "M0", **counters}]}

    total = merging.iostat(None, {number: result(number, per_channel=False) for number in range(3)})
    assert total["bdevs"] == [
        {
            "name": "M0",
            "num_read_ops": 3,
            "min_read_latency_ticks": 10,
            "max_read_latency_ticks": 40,
            "io_error": {"failed": 3},
        }
    ]
    apart = merging.iostat(None, {number: result(number + 1, per_channel=True) for number in range(2)})
    assert [(each["thread_id"], each["num_read_ops"]) for each in apart["channels"]] == [(2, 1), (3, 2)]


def test_counts_up_to_borders_add_up() -> None:
    results = {0: {"borders_count": [1, 2]}, 1: {"borders_count": [3, 4]}}
    assert merging.borders(None, results) == {"borders_count": [4, 6]}


def test_a_bdev_that_a_worker_still_has_is_not_shown() -> None:
    results = {0: {"bdevs": []}, 1: {"bdevs": [{"name": "gone", "num_read_ops": 1}]}}
    assert merging.iostat(None, results) == {"bdevs": []}


def test_a_node_is_shown_as_the_process_has_it_that_serves_it() -> None:
    engine = SimpleNamespace(owner_of={"a": 1, "b": 2, "c": 0}.get)
    results = {number: [{"name": name, "seen_by": number} for name in "abc"] for number in range(2)}
    shown = merging.target_nodes(engine, results)
    assert [node["seen_by"] for node in shown] == [1, 0, 0]  # worker 2 does not answer


def families(counter: int, gauge: int, version: int, values: list[int]) -> list[Family]:
    labels = {"bdev": "M0"}
    return [
        Family("operations_total", "counter", "", [Sample(counter, labels)]),
        Family("target_sessions", "gauge", "", [Sample(gauge, {"target": "t"})]),
        Family("bdev_size_bytes", "gauge", "", [Sample(version, labels)]),
        Family("latency_seconds", "histogram", "", [Sample(buckets(values), labels)] if values else []),
    ]


@given(VALUES, VALUES)
def test_metrics_of_all_processes_are_summed_up(one: list[int], other: list[int]) -> None:
    theirs = from_plain(to_plain(families(5, 2, 8, other)))
    found = {family.name: list(family.samples) for family in merged(families(3, 1, 8, one), [theirs])}
    assert found["operations_total"][0].value == 8
    assert found["target_sessions"][0].value == 3
    assert found["bdev_size_bytes"][0].value == 8  # everybody says the same
    if one or other:
        assert found["latency_seconds"][0].value == buckets(one + other)


def test_what_only_a_worker_knows_is_there_too() -> None:
    worker = [Family("commands_total", "counter", "", [Sample(1, {"initiator": "i"})])]
    assert [family.name for family in merged([], [worker])] == ["commands_total"]


def test_counters_of_a_worker_outlive_it() -> None:
    ledger = Ledger()

    def shown(answers: dict[int, list[Family]], lives: dict[int, int]) -> tuple[float, float]:
        everything = merged(families(1, 1, 8, []), ledger.complete(answers, lives))
        found = {family.name: family.samples for family in everything}
        operations, sessions = found["operations_total"][0].value, found["target_sessions"][0].value
        assert not isinstance(operations, Buckets)
        assert not isinstance(sessions, Buckets)
        return operations, sessions

    assert shown({1: families(10, 2, 8, [5])}, {1: 0}) == (11, 3)
    assert shown({1: families(20, 2, 8, [5])}, {1: 0}) == (21, 3)
    assert shown({}, {1: 1}) == (21, 1)  # its sessions are gone with it
    assert shown({1: families(3, 1, 8, [])}, {1: 1}) == (24, 2)
    assert shown({1: families(4, 1, 8, [])}, {1: 1}) == (25, 2)
    assert shown({1: families(1, 1, 8, [])}, {1: 3}) == (26, 2)
