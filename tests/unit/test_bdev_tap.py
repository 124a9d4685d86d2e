# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rate limits and latency histograms of block devices, and the tap that puts them in front of one."""

from __future__ import annotations

import asyncio
import base64
import struct
import time
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.base import Bdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.histogram import Histogram
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.qos import MEBIBYTE, RateLimits, Throttle
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.tap import tap_of
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import Invalid
from hypothesis import given
from hypothesis import strategies as st

BLOCK = 512
SECONDS = 10.0


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def granted(clock: Clock, throttle: Throttle, length: int, depth: int, late: float, is_write: bool = False) -> int:
    """Operations that ``depth`` clients, each with one at a time, get done in ten seconds; timers are ``late``."""
    end = clock.now + SECONDS
    ready = [clock.now] * depth
    done = 0
    while True:
        ready.sort()
        clock.now = max(clock.now, ready[0])
        if clock.now >= end:
            return done
        wait = throttle.book(is_write, length)
        ready[0] = clock.now + (wait + late if wait > 0 else 0.0) + 0.00002
        done += 1


@pytest.mark.parametrize("late", [0.0, 0.004])
@pytest.mark.parametrize("depth", [4, 32])
@pytest.mark.parametrize(
    ("limits", "length", "per_second"),
    [
        (RateLimits(rw_ios_per_sec=2000), 4096, 2000),
        (RateLimits(rw_mbytes_per_sec=10), 65536, 160),
        (RateLimits(rw_ios_per_sec=5000, r_mbytes_per_sec=4), 4096, 1024),
    ],
)
def test_a_limit_holds_within_five_percent(
    monkeypatch: pytest.MonkeyPatch, limits: RateLimits, length: int, per_second: int, depth: int, late: float
) -> None:
    clock = Clock(monkeypatch)
    count = granted(clock, Throttle(limits), length, depth, late)
    assert count == pytest.approx(per_second * SECONDS, rel=0.05)


def test_a_limit_of_reads_does_not_touch_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    throttle = Throttle(RateLimits(r_mbytes_per_sec=1))
    assert throttle.book(False, MEBIBYTE) == 0
    assert throttle.book(False, MEBIBYTE) == pytest.approx(0.95)
    assert throttle.book(True, MEBIBYTE) == 0
    clock.now += 10
    assert throttle.book(False, 1) == 0


def test_operations_a_second_are_rounded_up_as_spdk_does() -> None:
    assert RateLimits(1, 2, 3, 4).rounded() == RateLimits(1000, 2, 3, 4)
    assert RateLimits(3000).rounded() == RateLimits(3000)
    assert RateLimits(0).rounded() == RateLimits(0)


def test_a_device_without_limits_is_called_directly() -> None:
    bdev = MallocBdev("M", 8, BLOCK)
    own = bdev.read
    tap = tap_of(bdev)
    tap.set_limits(RateLimits(rw_ios_per_sec=1000))
    assert bdev.read != own
    assert bdev.to_rpc()["assigned_rate_limits"]["rw_ios_per_sec"] == 1000
    assert next(iter(bdev.further_config()))[1] == {"name": "M", **RateLimits(1000)._asdict()}
    tap.set_limits(RateLimits())
    assert bdev.read == own
    assert list(bdev.further_config()) == []


def test_what_waits_keeps_its_data_and_fails_when_the_device_goes() -> None:
    async def scenario() -> None:
        data: Any
        bdev: Bdev = MallocBdev("M", 4096, BLOCK)
        tap_of(bdev).set_limits(RateLimits(w_mbytes_per_sec=1))
        assert bdev.write(0, bytes(MEBIBYTE // 2)) is None
        buffer = bytearray(b"a" * BLOCK)
        held = bdev.write(0, buffer)
        assert held is not None
        buffer[:] = b"b" * BLOCK
        begun = time.monotonic()
        await held
        assert time.monotonic() - begun > 0.3
        data = bdev.read(0, BLOCK)
        assert bytes(data) == b"a" * BLOCK
        tap_of(bdev).set_limits(RateLimits(r_mbytes_per_sec=1))
        bdev.read(0, MEBIBYTE)
        data = bdev.read(0, BLOCK)
        late = asyncio.ensure_future(data)
        await asyncio.sleep(0)
        bdev.close()
        with pytest.raises(OSError, match="was deleted"):
            await late

    asyncio.run(scenario())


def test_latencies_are_counted() -> None:
    async def scenario() -> None:
        bdev = MallocBdev("M", 8, BLOCK)
        tap = tap_of(bdev)
        tap.set_histogram(Histogram(), frozenset({"write"}))
        bdev.read(0, BLOCK)
        bdev.write(0, bytes(BLOCK))
        bdev.write(0, bytes(BLOCK))
        assert tap.histogram is not None
        assert sum(tap.histogram.buckets) == 2

    asyncio.run(scenario())


# -- histograms


def bucket_end(which: int, index: int, granularity: int) -> int:
    """Where SPDK's tools say that a bucket ends."""
    return (1 << which + granularity - 1) + (index + 1 << which - 1) if which else index + 1


@given(st.integers(0, 2**64 - 1), st.integers(1, 12))
def test_a_value_is_in_the_bucket_that_spans_it(value: int, granularity: int) -> None:
    histogram = Histogram(granularity)
    histogram.tally(value)
    (place,) = (number for number, count in enumerate(histogram.buckets) if count)
    which, index = divmod(place, 1 << granularity)
    end = bucket_end(which, index, granularity)
    width = 1 << which - 1 if which else 1
    assert end - width <= value < end


def test_values_outside_count_at_the_ends() -> None:
    histogram = Histogram(7, 1000, 100_000)
    for value in (0, 1, 2**40, 2000):
        histogram.tally(value)
    assert histogram.buckets[0] == 2
    assert histogram.buckets[-1] == 1
    assert sum(histogram.buckets) == 4


@given(st.lists(st.integers(0, 2**40), max_size=50), st.lists(st.integers(0, 2**40), max_size=5))
def test_borders_are_rounded_up_to_the_end_of_their_bucket(values: list[int], borders: list[int]) -> None:
    histogram = Histogram(granularity=4)
    for value in values:
        histogram.tally(value)

    def end(border: int) -> int:
        width = 1 << max(border.bit_length() - 5, 0)
        return border // width * width + width

    expected = [sum(value < end(border) for value in values) for border in borders]
    assert histogram.up_to(borders) == [*expected, len(values)]


def test_borders_are_rounded_as_spdk_does() -> None:
    histogram = Histogram()
    for value in range(1 << 16):
        histogram.tally(value, 2 if 1000 <= value < 10000 else 1)
    assert histogram.up_to([1000, 10000, 10011, 30000]) == [1008, 19048, 19048, 39080, 74536]


def test_the_layout_is_spdks() -> None:
    histogram = Histogram()
    histogram.tally(300)
    answer = histogram.to_rpc()
    buckets = struct.unpack("<7424Q", base64.b64decode(answer["histogram"]))
    assert [(number, count) for number, count in enumerate(buckets) if count] == [(2 * 128 + 22, 1)]
    assert (answer["granularity"], answer["min_range"], answer["max_range"]) == (7, 0, 57)


@pytest.mark.parametrize(("granularity", "least", "most"), [(0, 0, 9), (13, 0, 9), (7, 9, 9)])
def test_an_impossible_histogram_is_refused(granularity: int, least: int, most: int) -> None:
    with pytest.raises(Invalid):
        Histogram(granularity, least, most)
