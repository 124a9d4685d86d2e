# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bdev_*_histogram and iscsi_*_histogram: how long operations of a device and commands of a target node take."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, Final

from ...bdev.base import IO_TYPES
from ...bdev.histogram import DEFAULT_GRANULARITY, TICK_RATE, Histogram
from ...bdev.tap import tap_of
from ...errors import Invalid
from ...facts import MAX_NAME_BYTES
from .. import merging
from ..method import DECODE_FAILED, INTERNAL_ERROR, Errors, Method, RpcError, Spread, Subject, worded
from ..schema import UINT32_MAX, UINT64_MAX, array, boolean, integer, optional, required, string

if TYPE_CHECKING:
    from ...service import Engine


def enable_bdev_histogram(
    engine: Engine, name: str, enable: bool, opc: str | None, granularity: int, min_nsec: int, max_nsec: int
) -> bool:
    """``opc`` measures one type of operation instead of all. Only reads and writes are measured."""
    bdev = engine.bdevs.get(name)
    if opc is not None and opc not in IO_TYPES:
        raise RpcError(INTERNAL_ERROR, f"Invalid Io type: {opc!r} is none of {', '.join(IO_TYPES)}")
    histogram = Histogram(granularity, min_nsec, max_nsec) if enable else None
    tap_of(bdev).set_histogram(histogram, frozenset(("read", "write") if opc is None else (opc,)))
    return True


def get_bdev_histogram(engine: Engine, name: str) -> dict[str, Any]:
    return _histogram_of(engine, name).to_rpc()


def get_bdev_histogram_borders(engine: Engine, name: str, borders: list[int]) -> dict[str, Any]:
    """``borders`` in microseconds; without any it is bdev_get_histogram, as with SPDK."""
    histogram = _histogram_of(engine, name)
    if not borders:
        return histogram.to_rpc()
    return {"borders_count": histogram.up_to(border * _MICROSECOND for border in borders)}


def _histogram_of(engine: Engine, name: str) -> Histogram:
    bdev = engine.bdevs.get(name)
    histogram = bdev.tap.histogram if bdev.tap is not None else None
    if histogram is None:
        reason = os.strerror(errno.EFAULT)
        raise RpcError(INTERNAL_ERROR, f"{reason}: bdev {name} has no histogram. bdev_enable_histogram starts one.")
    return histogram


def enable_node_histogram(engine: Engine, name: str, enable: bool) -> bool:
    engine.target.node(name).device.histogram = Histogram() if enable else None
    return True


def get_node_histogram(engine: Engine, name: str) -> dict[str, Any]:
    with worded("target not found"):
        node = engine.target.node(name)
    with worded("target's histogram function is not enabled"):
        histogram = node.device.histogram
        if histogram is None:
            raise Invalid(f"target node {node.name}: iscsi_enable_histogram starts it")
    return histogram.to_rpc()


_BDEV: Final = {"name": required(string())}
_NODE: Final = {"name": required(string(MAX_NAME_BYTES, least=1))}
_ENABLE: Final = {"enable": required(boolean)}
_UINT64: Final = integer(0, UINT64_MAX)
_MICROSECOND: Final = TICK_RATE // 10**6
_MAX_BORDERS: Final = 256

METHODS: Final = (
    Method(
        "bdev_enable_histogram",
        enable_bdev_histogram,
        {
            **_BDEV,
            **_ENABLE,
            "opc": optional(string()),
            "granularity": optional(integer(0, UINT32_MAX), DEFAULT_GRANULARITY),
            "min_nsec": optional(_UINT64, 0),
            "max_nsec": optional(_UINT64, UINT64_MAX),
        },
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        spread=Spread.EVERYWHERE,
    ),
    Method(
        "bdev_get_histogram",
        get_bdev_histogram,
        _BDEV,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        spread=Spread.GATHERED,
        merge=merging.histogram,
    ),
    Method(
        "bdev_get_histogram_borders",
        get_bdev_histogram_borders,
        {**_BDEV, "borders": required(array(_UINT64, _MAX_BORDERS))},
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        spread=Spread.GATHERED,
        merge=merging.borders,
    ),
    Method(
        "iscsi_enable_histogram",
        enable_node_histogram,
        {**_NODE, **_ENABLE},
        mutates=True,
        refusal=DECODE_FAILED,
        subject=Subject("target node", "name", part="histogram"),
    ),
    Method(
        "iscsi_get_histogram",
        get_node_histogram,
        _NODE,
        refusal=DECODE_FAILED,
        spread=Spread.GATHERED,
        merge=merging.histogram,
    ),
)
