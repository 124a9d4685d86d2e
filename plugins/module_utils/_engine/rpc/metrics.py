# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's numbers in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from .. import __version__
from ..bdev.histogram import TICK_RATE, Histogram
from ..iscsi.measuring import measure_all

if TYPE_CHECKING:
    from ..service import Engine

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BORDERS: Final = tuple(2**power for power in range(13, 35))
"""Nanoseconds, from 8 microseconds to 17 seconds: at powers of two, where a histogram knows its counts exactly."""
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Labels = Mapping[str, str]


class Sample(NamedTuple):
    value: float | Histogram
    labels: Labels = {}


class Family(NamedTuple):
    """A metric: its name without the prefix, type and meaning."""

    name: str
    type: str
    help: str
    samples: Iterable[Sample]


def families(engine: Engine) -> list[Family]:
    """Everything that this process knows."""
    measure_all(engine.target)
    return [*_of_disks(engine), *_of_targets(engine), *_of_process(engine)]


def text(families: Iterable[Family]) -> str:
    """As GET /metrics answers it."""
    return "".join(line + "\n" for family in families for line in _lines(family))


def counters(engine: Engine) -> dict[str, list[int]]:
    """By bdev: reads, writes, bytes read, bytes written."""
    every = ((bdev.name, bdev.stats) for bdev in engine.bdevs)
    return {name: [each.read_ops, each.write_ops, each.bytes_read, each.bytes_written] for name, each in every}


def _of_disks(engine: Engine) -> Iterator[Family]:
    bdevs = list(engine.bdevs)
    operations = [(bdev, bdev.stats.read_ops, bdev.stats.write_ops) for bdev in bdevs]
    moved = [(bdev, bdev.stats.bytes_read, bdev.stats.bytes_written) for bdev in bdevs]
    for name, help_, counts in (
        ("operations", "Reads and writes of a bdev by initiators.", operations),
        ("bytes", "Bytes that initiators read from and wrote to a bdev.", moved),
    ):
        samples = [
            Sample(count, {"bdev": bdev.name, "operation": kind})
            for bdev, *both in counts
            for kind, count in zip(("read", "write"), both)
        ]
        yield Family(f"bdev_{name}_total", "counter", help_, samples)
    yield Family(
        "bdev_errors_total",
        "counter",
        "Operations of a bdev that failed.",
        [Sample(bdev.stats.errors, {"bdev": bdev.name}) for bdev in bdevs],
    )
    yield Family(
        "bdev_size_bytes", "gauge", "Size of a bdev.", [Sample(bdev.size, {"bdev": bdev.name}) for bdev in bdevs]
    )
    yield Family(
        "bdev_latency_seconds",
        "histogram",
        "Time that reads and writes of a bdev took, while its histogram is enabled.",
        [Sample(bdev.tap.histogram, {"bdev": bdev.name}) for bdev in bdevs if bdev.tap and bdev.tap.histogram],
    )


def _of_targets(engine: Engine) -> Iterator[Family]:
    nodes = list(engine.target.nodes.values())
    sessions = list(engine.target.sessions)
    yield Family(
        "lun_info",
        "gauge",
        "The bdev behind each LUN of a target node.",
        [
            Sample(1, {"target": node.name, "lun": str(lun.id), "bdev": lun.bdev.name})
            for node in nodes
            for lun in node.device.luns.values()
        ],
    )
    yield Family(
        "target_enabled",
        "gauge",
        "Whether initiators may log in to a target node.",
        [Sample(int(not node.is_closed), {"target": node.name}) for node in nodes],
    )
    yield Family(
        "target_sessions",
        "gauge",
        "Sessions with a target node.",
        [Sample(sum(each.node is node for each in sessions), {"target": node.name}) for node in nodes],
    )
    yield Family(
        "target_latency_seconds",
        "histogram",
        "Time from a command to its answer, measured since the first request for these metrics.",
        [Sample(node.histogram, {"target": node.name}) for node in nodes if node.histogram is not None],
    )
    totals = [
        ({"target": target, "initiator": initiator}, total)
        for (target, initiator), total in engine.target.accounts.totals(sessions)
    ]
    for name, help_, values in (
        (
            "sessions",
            "Sessions that an initiator began; without a target node, for discovery.",
            [each.sessions for _who, each in totals],
        ),
        ("commands", "Commands of an initiator at a target node.", [each.commands for _who, each in totals]),
        ("received_bytes", "Bytes that an initiator sent.", [each.received for _who, each in totals]),
        ("sent_bytes", "Bytes that an initiator got.", [each.sent for _who, each in totals]),
    ):
        samples = [Sample(value, who) for (who, _total), value in zip(totals, values)]
        yield Family(f"initiator_{name}_total", "counter", help_, samples)
    yield Family(
        "logins_refused_total",
        "counter",
        "Logins that were refused, by the status they were answered (RFC 7143 11.13.5).",
        [
            Sample(count, {"status": f"{status:04x}"})
            for status, count in sorted(engine.target.accounts.refused.items())
        ],
    )
    connections = engine.target.sessions.connections
    yield Family(
        "connections", "gauge", "TCP connections of initiators, those that log in included.", [Sample(len(connections))]
    )


def _of_process(engine: Engine) -> Iterator[Family]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    up = (time.monotonic_ns() - engine.started_ns) / TICK_RATE
    yield Family("info", "gauge", "The engine's version.", [Sample(1, {"version": __version__})])
    yield Family("up_seconds", "gauge", "How long the engine has been running.", [Sample(up)])
    yield Family(
        "unrestored_calls", "gauge", "Saved calls that could not be made yet.", [Sample(len(engine.store.unrestored))]
    )
    yield Family("cpu_seconds_total", "counter", "Processor time used.", [Sample(used.ru_utime + used.ru_stime)])
    yield Family("resident_memory_bytes", "gauge", "Memory in use.", [Sample(_resident())])
    yield Family("open_files", "gauge", "Open file descriptors.", [Sample(len(os.listdir("/proc/self/fd")))])


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def _lines(family: Family) -> Iterator[str]:
    samples = list(family.samples)
    if not samples:
        return
    name = f"openlun_{family.name}"
    yield f"# HELP {name} {family.help}"
    yield f"# TYPE {name} {family.type}"
    for value, labels in samples:
        if isinstance(value, Histogram):
            yield from _histogram(name, value, labels)
        else:
            yield f"{name}{_labels(labels)} {value}"


def _histogram(name: str, histogram: Histogram, labels: Labels) -> Iterator[str]:
    for border, count in zip(_BORDERS, histogram.below(_BORDERS)):
        yield f"{name}_bucket{_labels({**labels, 'le': repr(border / TICK_RATE)})} {count}"
    yield f"{name}_bucket{_labels({**labels, 'le': '+Inf'})} {histogram.count}"
    yield f"{name}_sum{_labels(labels)} {histogram.total / TICK_RATE}"
    yield f"{name}_count{_labels(labels)} {histogram.count}"


def _labels(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""
