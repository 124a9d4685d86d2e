# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's numbers, as plain data under the names that GET /metrics gives them."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from .. import __version__
from ..bdev.histogram import TICK_RATE
from ..bdev.statistics import BORDERS, Tally
from ..scsi import sense
from .exposition import Buckets, Family, Labels, Sample

if TYPE_CHECKING:
    from ..scsi.use import Use
    from ..service import Engine

BORDERS_SECONDS: Final = tuple(border / TICK_RATE for border in BORDERS)
_STATUSES: Final = {
    sense.CHECK_CONDITION: "check_condition",
    sense.RESERVATION_CONFLICT: "reservation_conflict",
    sense.TASK_ABORTED: "task_aborted",
}
_SENSE_KEYS: Final = {
    sense.NO_SENSE: "no_sense",
    sense.NOT_READY: "not_ready",
    sense.MEDIUM_ERROR: "medium_error",
    sense.HARDWARE_ERROR: "hardware_error",
    sense.ILLEGAL_REQUEST: "illegal_request",
    sense.UNIT_ATTENTION: "unit_attention",
    sense.DATA_PROTECT: "data_protect",
    sense.COPY_ABORTED: "copy_aborted",
    sense.ABORTED_COMMAND: "aborted_command",
    sense.MISCOMPARE: "miscompare",
}


COUNTERS: Final = 5
"""How many there are of a LUN: see :func:`counters`."""


class Counted(NamedTuple):
    """Operations of a kind that something did."""

    labels: Labels
    kind: str
    tally: Tally

    @property
    def all_labels(self) -> Labels:
        return {**self.labels, "operation": self.kind}


def collect(engine: Engine) -> list[Family]:
    """Everything that this process knows; counters begin with it."""
    return [*_of_disks(engine), *_of_luns(engine), *_of_targets(engine), *_of_process(engine)]


def counters(engine: Engine) -> dict[str, list[int]]:
    """By :func:`name_of` LUNs: what all initiators together did with it, READs, WRITEs, the bytes of each, and the
    nanoseconds of both."""
    every = ((node, lun) for node in engine.target.nodes.values() for lun in node.device.luns.values())
    return {name_of(node.name, lun.id): _counters(lun.uses.values()) for node, lun in every}


def name_of(node: str, lun_id: int) -> str:
    return f"{node} {lun_id}"


def _counters(uses: Iterable[Use]) -> list[int]:
    totals = [0] * COUNTERS
    for use in uses:
        read, write = use.read, use.write
        more = (read.operations, write.operations, read.bytes, write.bytes, read.ticks + write.ticks)
        totals = [total + each for total, each in zip(totals, more)]
    return totals


def _of_disks(engine: Engine) -> Iterator[Family]:
    bdevs = list(engine.bdevs)
    counted = [
        Counted({"bdev": bdev.name}, kind, tally)
        for bdev in bdevs
        for kind, tally in (("read", bdev.stats.read), ("write", bdev.stats.write), ("unmap", bdev.stats.unmap))
    ]
    yield from _work("bdev", "a bdev for initiators and for bdevs on top of it", counted)
    yield Family(
        "bdev_errors_total",
        "counter",
        "Operations of a bdev that failed.",
        [Sample(bdev.stats.errors, {"bdev": bdev.name}) for bdev in bdevs],
    )
    yield Family(
        "bdev_size_bytes", "gauge", "Size of a bdev.", [Sample(bdev.size, {"bdev": bdev.name}) for bdev in bdevs]
    )


def _work(what: str, whose: str, counted: list[Counted]) -> Iterator[Family]:
    yield Family(
        f"{what}_operations_total",
        "counter",
        f"Operations of {whose}.",
        [Sample(each.tally.operations, each.all_labels) for each in counted],
    )
    yield Family(
        f"{what}_bytes_total",
        "counter",
        f"Bytes moved by operations of {whose}.",
        [Sample(each.tally.bytes, each.all_labels) for each in counted if each.kind != "other"],
    )
    yield Family(
        f"{what}_latency_seconds",
        "histogram",
        f"Time that operations of {whose} took.",
        [Sample(_buckets(each.tally), each.all_labels) for each in counted if each.tally.operations],
    )


def _buckets(tally: Tally) -> Buckets:
    return Buckets(BORDERS_SECONDS, tuple(tally.buckets), tally.ticks / TICK_RATE)


def _of_luns(engine: Engine) -> Iterator[Family]:
    uses = [
        ({"target": node.name, "lun": str(lun.id), "initiator": use.initiator}, use)
        for node in engine.target.nodes.values()
        for lun in node.device.luns.values()
        for use in lun.uses.values()
    ]
    counted = [
        Counted(labels, kind, tally)
        for labels, use in uses
        for kind, tally in (("read", use.read), ("write", use.write), ("other", use.other))
    ]
    yield from _work("lun", "an initiator with a LUN of a target node", counted)
    yield Family(
        "lun_errors_total",
        "counter",
        "Commands of an initiator for a LUN that failed, by SCSI status and sense key.",
        [
            Sample(count, {**labels, **_outcome(status, key)})
            for labels, use in uses
            for (status, key), count in sorted(use.errors.items())
        ],
    )


def _outcome(status: int, key: int) -> Labels:
    """The sense key is only there for CHECK CONDITION."""
    known = _SENSE_KEYS.get(key, f"{key:x}h") if status == sense.CHECK_CONDITION else ""
    return {"status": _STATUSES.get(status, f"{status:02x}h"), "sense_key": known}


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
