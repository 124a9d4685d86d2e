# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""engine_worker_*: what only the main process calls, and only in its workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ...bdev.raid import MirrorBdev
from ...bdev.stand_in import StandInBdev
from ..method import Calls, Errors, Method
from ..metrics import collect, counters
from ..metrics_merging import to_plain
from ..schema import UINT32_MAX, UINT64_MAX, integer, required, string
from .bdev import register, unregister

if TYPE_CHECKING:
    from ...service import Engine

STAND_IN: Final = "engine_worker_stand_in"
DROP_STAND_INS: Final = "engine_worker_drop_stand_ins"
DELETE_NODE: Final = "engine_worker_delete_node"
LOSE_MIRROR: Final = "engine_worker_lose_mirror"
GAIN_MIRROR: Final = "engine_worker_gain_mirror"
METRICS: Final = "engine_worker_metrics"
COUNTERS: Final = "engine_worker_counters"


def stand_ins(engine: Engine, controller: str) -> Calls:
    """For the bdevs of an NVMe controller."""
    for bdev in engine.nvme.get(controller).bdevs:
        size = {"block_size": bdev.block_size, "num_blocks": bdev.num_blocks}
        yield STAND_IN, {"name": bdev.name, **size, "uuid": bdev.uuid, "controller": controller}


def make_stand_in(engine: Engine, name: str, block_size: int, num_blocks: int, uuid: str, controller: str) -> str:
    return register(engine, StandInBdev(name, block_size, num_blocks, uuid, controller))


def drop_stand_ins(engine: Engine, controller: str) -> bool:
    for bdev in engine.bdevs:
        if isinstance(bdev, StandInBdev) and bdev.controller == controller:
            unregister(engine, bdev)
    return True


async def delete_node(engine: Engine, name: str) -> bool:
    """Its sessions are seen off already."""
    await engine.target.delete_node(name)
    return True


def lose_mirror(engine: Engine, name: str, base: str) -> bool:
    """Another process gave that base up; where that is known already, or the mirror is gone, nothing happens."""
    mirror = engine.bdevs.get(name) if name in engine.bdevs else None
    if isinstance(mirror, MirrorBdev):
        mirror.lose_named(base)
    return True


def gain_mirror(engine: Engine, name: str, base: str) -> bool:
    """Another process has made that base the same as the others; as :func:`lose_mirror`."""
    mirror = engine.bdevs.get(name) if name in engine.bdevs else None
    if isinstance(mirror, MirrorBdev):
        mirror.gain_named(base)
    return True


def get_metrics(engine: Engine) -> list[Any]:
    return to_plain(collect(engine))


_NAME: Final = {"name": required(string())}
_CONTROLLER: Final = {"controller": required(string())}

METHODS: Final = (
    Method(
        STAND_IN,
        make_stand_in,
        {
            **_NAME,
            "block_size": required(integer(0, UINT32_MAX)),
            "num_blocks": required(integer(0, UINT64_MAX)),
            "uuid": required(string()),
            **_CONTROLLER,
        },
        errors=Errors.AS_ERRNO,
    ),
    Method(DROP_STAND_INS, drop_stand_ins, _CONTROLLER),
    Method(DELETE_NODE, delete_node, _NAME),
    Method(LOSE_MIRROR, lose_mirror, {**_NAME, "base": required(string())}),
    Method(GAIN_MIRROR, gain_mirror, {**_NAME, "base": required(string())}),
    Method(METRICS, get_metrics),
    Method(COUNTERS, counters),
)
