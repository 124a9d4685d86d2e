# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the engine's answers about bdevs to the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from .bdevs import Bdev, Latency, Qos
from .drivers import DELAY, ERROR, NVME, PART, PASSTHRU, RAID, RBD, SPLIT, giver_of, type_of
from .mirrors import LOST

_Details = Mapping[str, Any]


def read_bdev(answer: Mapping[str, Any]) -> Bdev:
    kind, details = type_of(answer["product_name"]), answer.get("driver_specific") or {}
    limits = answer.get("assigned_rate_limits")
    read_details = _DETAILS.get(kind)
    return Bdev(
        name=answer["name"],
        type=kind,
        size=answer["num_blocks"] * answer["block_size"],
        block_size=answer["block_size"],
        uuid=str(answer.get("uuid", "")).lower() or None,
        qos=None if limits is None else Qos(*(limits.get(name, 0) for name in Qos._fields)),
        claimed=bool(answer.get("claimed")),
        **(read_details(details) if read_details is not None else {}),
    )


def read_controller(answer: Mapping[str, Any]) -> Bdev:
    """One that is not of this host, or that is reached in more ways than one, is known but not managed."""
    ways = [each["trid"] for each in answer["ctrlrs"]]
    types = {str(way["trtype"]) for way in ways}
    if len(ways) != 1 or types != {"PCIe"}:
        return Bdev(answer["name"], f"{NVME} over {', '.join(sorted(types)) or 'nothing'}")
    return Bdev(answer["name"], NVME, address=str(ways[0]["traddr"]).lower())


def read_splits(bdevs: Iterable[Bdev]) -> Iterable[Bdev]:
    """The splits behind the parts among ``bdevs``: no engine tells of a split itself."""
    splits: dict[str, Bdev] = {}
    for part in bdevs:
        giver = giver_of(part.name) if part.type == PART else None
        if giver is not None:
            before = splits.get(giver)
            count = 1 if before is None else (before.count or 0) + 1
            splits[giver] = Bdev(giver, SPLIT, size=part.size, base_bdevs=(giver[: -len("p")],), count=count)
    return splits.values()


def _file(details: _Details, kind: str) -> dict[str, Any]:
    file = details.get(kind, {})
    return {"path": file.get("filename"), "readonly": bool(file.get("readonly"))}


def _base(details: _Details, kind: str, name: str) -> dict[str, Any]:
    return {"base_bdevs": (str(details[kind][name]),)}


def _delay(details: _Details) -> dict[str, Any]:
    delay = details["delay"]
    names = ("avg_read_latency", "p99_read_latency", "avg_write_latency", "p99_write_latency")
    return {**_base(details, "delay", "base_bdev_name"), "latency": Latency(*(int(delay[name]) for name in names))}


def _raid(details: _Details) -> dict[str, Any]:
    """A disk that is lost has no name; SPDK before 23.05 gives names instead of objects."""
    raid = details["raid"]
    bases = (each["name"] if isinstance(each, dict) else each for each in raid["base_bdevs_list"])
    strip_size = int(raid.get("strip_size_kb", 0)) << 10
    return {
        "base_bdevs": tuple(name or LOST for name in bases),
        "level": str(raid["raid_level"]),
        "strip_size": strip_size or None,
        "rebuilding": (raid.get("process") or {}).get("target"),
    }


def _rbd(details: _Details) -> dict[str, Any]:
    """The user of an image in a registered cluster is the cluster's."""
    rbd = details["rbd"]
    cluster = rbd.get("cluster_name")
    user = rbd.get("user_id") if cluster is None else None
    return {"pool": rbd["pool_name"], "image": rbd["rbd_name"], "ceph_user": user, "cluster": cluster}


_DETAILS: Final[Mapping[str, Callable[[_Details], dict[str, Any]]]] = {
    "aio": lambda details: _file(details, "aio"),
    "uring": lambda details: _file(details, "uring"),
    DELAY: _delay,
    ERROR: lambda details: _base(details, "error_disk", "base_bdev"),
    PASSTHRU: lambda details: _base(details, "passthru", "base_bdev_name"),
    RAID: _raid,
    RBD: _rbd,
}
"""Type -> what its driver_specific tells, as properties of the model."""
