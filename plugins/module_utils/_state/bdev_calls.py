# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How bdevs of every type are made, changed and removed in SPDK's JSON-RPC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from .._rpc import Call
from .bdevs import MIB, Bdev, Latency
from .drivers import DELAY, DRIVERS, ERROR, NVME, PASSTHRU, RAID, RBD, SPLIT
from .mirrors import ADD_BASE, LOST, REMOVE_BASE
from .operations import Operation, as_kind

_Params = dict[str, Any]


def up(operation: Operation) -> Iterator[Call]:
    bdev, before = as_kind(Bdev, operation.after), operation.before
    yield Call(DRIVERS[bdev.type].create, _given(_PARAMS[bdev.type](bdev, before)))
    yield from _set_qos(bdev, None)


def down(operation: Operation) -> Iterator[Call]:
    bdev = as_kind(Bdev, operation.before)
    if not operation.removes:
        yield from (Call(REMOVE_BASE, {"name": base}) for base in bdev.base_bdevs or () if base in operation.released)
        return
    which = {"base_bdev": _base(bdev)} if bdev.type == SPLIT else {"name": bdev.name}
    yield Call(DRIVERS[bdev.type].delete, _given({**which, "remove_file": operation.remove_file or None}))


def change(operation: Operation) -> Iterator[Call]:
    before, bdev = as_kind(Bdev, operation.before), as_kind(Bdev, operation.after)
    if bdev.size is not None and bdev.size != before.size and bdev.type in _NEW_SIZE:
        name, unit = _NEW_SIZE[bdev.type]
        yield Call(DRIVERS[bdev.type].resize or "", {"name": bdev.name, name: bdev.size // unit})
    if bdev.latency is not None and bdev.latency != before.latency:
        yield from _set_latency(bdev.name, bdev.latency, before.latency or Latency())
    for base in bdev.base_bdevs or ():
        if base in operation.released or base not in (*(before.base_bdevs or ()), LOST):
            yield Call(ADD_BASE, {"raid_bdev": bdev.name, "base_bdev": base})
    yield from _set_qos(bdev, before)


def _in_blocks(bdev: Bdev, _before: object) -> _Params:
    size, block_size = bdev.size or 0, bdev.block_size or 1
    return {"name": bdev.name, "num_blocks": size // block_size, "block_size": block_size, "uuid": bdev.uuid}


def _on_path(bdev: Bdev, _before: object) -> _Params:
    return {"name": bdev.name, "filename": bdev.path, "block_size": bdev.block_size, "uuid": bdev.uuid}


def _in_file(bdev: Bdev, before: object) -> _Params:
    same_file = isinstance(before, Bdev) and (before.path, before.size) == (bdev.path, bdev.size)
    ours = {"size": None if same_file else bdev.size, "sparse": bdev.sparse or None}
    return {**_on_path(bdev, before), "readonly": bdev.readonly or None, **ours}


def _at_address(bdev: Bdev, _before: object) -> _Params:
    return {"name": bdev.name, "trtype": "PCIe", "traddr": bdev.address}


def _in_parts(bdev: Bdev, _before: object) -> _Params:
    # Parts that are no whole MiB are what came out when nobody asked for a size.
    size = None if bdev.size is None or bdev.size % MIB else bdev.size // MIB
    return {"base_bdev": _base(bdev), "split_count": bdev.count, "split_size_mb": size}


def _on_base(bdev: Bdev, _before: object) -> _Params:
    return {"base_bdev_name": _base(bdev), "name": bdev.name, "uuid": bdev.uuid}


def _delayed(bdev: Bdev, before: object) -> _Params:
    latency = bdev.latency or Latency()
    return {**_on_base(bdev, before), **{_LATENCIES[name]: value for name, value in latency._asdict().items()}}


def _failing(bdev: Bdev, _before: object) -> _Params:
    return {"base_name": _base(bdev), "uuid": bdev.uuid}


def _on_many(bdev: Bdev, _before: object) -> _Params:
    strip_size = None if bdev.strip_size is None else bdev.strip_size >> 10
    layout = {"raid_level": bdev.level, "strip_size_kb": strip_size, "base_bdevs": list(bdev.base_bdevs or ())}
    return {"name": bdev.name, **layout, "uuid": bdev.uuid}


def _in_ceph(bdev: Bdev, _before: object) -> _Params:
    image = {"pool_name": bdev.pool, "rbd_name": bdev.image, "user_id": bdev.ceph_user, "cluster_name": bdev.cluster}
    return {"name": bdev.name, **image, "block_size": bdev.block_size, "uuid": bdev.uuid}


_PARAMS: Final[dict[str, Callable[[Bdev, object], _Params]]] = {
    "malloc": _in_blocks,
    "null": _in_blocks,
    "aio": _in_file,
    "uring": _on_path,
    NVME: _at_address,
    SPLIT: _in_parts,
    DELAY: _delayed,
    ERROR: _failing,
    PASSTHRU: _on_base,
    RAID: _on_many,
    RBD: _in_ceph,
}
"""Type -> the parameters that make one, with None for what is left out."""

_NEW_SIZE: Final = {"aio": ("size", 1), "null": ("new_size", MIB)}
"""Type -> how its resize wants the size: the parameter, and the bytes it counts in."""

_LATENCIES: Final = {
    "read": "avg_read_latency",
    "read_p99": "p99_read_latency",
    "write": "avg_write_latency",
    "write_p99": "p99_write_latency",
}
_LATENCY_TYPES: Final = {"read": "avg_read", "read_p99": "p99_read", "write": "avg_write", "write_p99": "p99_write"}


def _set_latency(name: str, latency: Latency, before: Latency) -> Iterator[Call]:
    earlier = before._asdict()
    for each, value in latency._asdict().items():
        if value != earlier[each]:
            which = {"delay_bdev_name": name, "latency_type": _LATENCY_TYPES[each]}
            yield Call("bdev_delay_update_latency", {**which, "latency_us": value})


def _set_qos(bdev: Bdev, before: Bdev | None) -> Iterator[Call]:
    limits = {} if bdev.qos is None else bdev.qos.changed(None if before is None else before.qos)
    if limits:
        yield Call("bdev_set_qos_limit", {"name": bdev.name, **limits})


def _base(bdev: Bdev) -> str:
    """The one bdev that it is made of."""
    [base] = bdev.base_bdevs or ("",)
    return base


def _given(params: _Params) -> _Params:
    return {name: value for name, value in params.items() if value is not None}
