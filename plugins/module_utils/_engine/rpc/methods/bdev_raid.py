# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bdev_raid_*: devices made of several."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from ...bdev.mirror import MirrorBdev
from ...bdev.raid import LEVELS, RaidBdev, make
from ...bdev.rebuild import RATE, WINDOW
from ...errors import Busy, Invalid, NoDevice, Unsupported
from ...facts import MAX_BDEV_NAME_BYTES
from ..method import DECODE_FAILED, PARSE_ERROR, Errors, Method, Refusal, State, Subject, worded
from ..schema import UINT32_MAX, UINT64_MAX, array, boolean, integer, optional, required, string
from .bdev import made_again, register, unregister

if TYPE_CHECKING:
    from ...bdev.base import Bdev
    from ...service import Engine

_LOG = logging.getLogger(__name__)

_MAX_BASES: Final = 255
_PATIENCE: Final = 20
"""Seconds for a disk to do what it was asked for before it was removed; fewer than a worker has for a change."""
_UINT32: Final = integer(0, UINT32_MAX)
_CATEGORIES: Final = {"all": True, "online": True, "configuring": False, "offline": False}
"""Whether raids of a category exist here: one that is not whole is not made."""


def create(
    engine: Engine,
    name: str,
    raid_level: str,
    base_bdevs: list[str],
    strip_size_kb: int | None,
    uuid: str | None,
    superblock: bool,
    delta_bitmap: bool,
    base_blocks: list[int] | None,
    num_base_bdevs: int | None,
) -> bool:
    """Ours: ``base_blocks``, for concat, how much of each base is used, which may have grown since; ``num_base_bdevs``,
    for raid1, how many there were before some were lost."""
    engine.bdevs.check_free(name)
    if superblock or delta_bitmap or raid_level not in LEVELS:
        what = "a superblock" if superblock else "a delta bitmap" if delta_bitmap else f"raid level {raid_level!r}"
        raise Unsupported(f"bdev {name}: {what} is not supported. Levels: raid0, raid1, concat.")
    bases = [engine.bdevs.get(each) for each in base_bdevs]
    if len(set(bases)) < len(bases):
        raise Invalid(f"bdev {name}: a base bdev is given twice")
    for base in bases:
        _check_unused(engine, name, base)
    level = LEVELS[raid_level]
    raid = make(name, level, bases, strip_size_kb, uuid, engine.changed, base_blocks, num_base_bdevs)
    if isinstance(raid, MirrorBdev):
        raid.watcher = engine.watcher
        raid.added_by = {base.name: engine.target.units.change for base in bases}
    register(engine, raid)
    return True


def _check_unused(engine: Engine, name: str, base: Bdev) -> None:
    above = next((each for each in engine.bdevs if base in each.below()), None)
    users = engine.target.users_of(base)
    if above is not None or users:
        user = f"bdev {above.name}" if above is not None else f"target node {users[0]}"
        raise Busy(f"bdev {name}: bdev {base.name} is used by {user}")


def delete(engine: Engine, name: str, clear_sb: bool) -> bool:
    """The bases stay as they are; there is no superblock to clear."""
    del clear_sb
    bdev = engine.bdevs.get(name)
    if not isinstance(bdev, RaidBdev):
        raise NoDevice(f"bdev {name} is of another kind: {bdev.product_name}")
    unregister(engine, bdev)
    return True


def add_base_bdev(engine: Engine, raid_bdev: str, base_bdev: str) -> bool:
    """What the base holds is overwritten; the answer does not wait for that."""
    raid = engine.bdevs.get(raid_bdev) if raid_bdev in engine.bdevs else None
    if not isinstance(raid, RaidBdev):
        raise NoDevice(f"raid bdev {raid_bdev} is not found in config")
    with worded(f"Failed to add base bdev {base_bdev} to RAID bdev {raid_bdev}: {{reason}}"):
        if not isinstance(raid, MirrorBdev):
            raise Invalid(f"bdev {raid.name}: only to a raid1 bdevs can be added, and this one is {raid.level}")
        base = engine.bdevs.get(base_bdev)
        _check_unused(engine, raid.name, base)
        raid.add(base, engine.tuning.raid, at_once=engine.is_alone)
        raid.added_by[base.name] = engine.target.units.change
    engine.bdevs.put_before(base)  # and so it is when the configuration is loaded
    return True


async def remove_base_bdev(engine: Engine, name: str) -> bool:
    """It is nobody's when this is answered: what was on its way to it has arrived, if the disk does not hang."""
    with worded("Failed to remove base bdev from raid bdev"):
        base = engine.bdevs.get(name)
        raid = next((each for each in engine.bdevs if isinstance(each, RaidBdev) and base in each.below()), None)
        if raid is None:
            if engine.settings.worker is not None:
                return True  # its mirror, or that of another process, met an error of it meanwhile
            raise NoDevice(f"bdev {base.name} is no base of a raid")
        if not isinstance(raid, MirrorBdev):
            raise Invalid(f"bdev {raid.name}: it is {raid.level} and needs all of its base bdevs")
        if not raid.remove(base, "it is removed from it"):
            raise Invalid(f"bdev {raid.name}: {base.name} is the last of its base bdevs. bdev_raid_delete deletes it")
    try:
        await asyncio.wait_for(raid.at_rest(0, raid.size), _PATIENCE)
    except asyncio.TimeoutError:
        _LOG.error("bdev %s: what was on its way to %s has not arrived in %d s", raid.name, base.name, _PATIENCE)
    return True


def set_options(engine: Engine, process_window_size_kb: int | None, process_max_bandwidth_mb_sec: int | None) -> bool:
    """How mirrors are rebuilt, beginning with the next window."""
    if process_window_size_kb == 0:
        raise Invalid("process_window_size_kb 0: at least one KiB is copied at a time")
    given = {WINDOW: process_window_size_kb, RATE: process_max_bandwidth_mb_sec}
    engine.tuning.raid.update((name, value) for name, value in given.items() if value is not None)
    return True


def get_bdevs(engine: Engine, category: str) -> list[dict[str, Any]]:
    if category not in _CATEGORIES:
        raise Invalid(f"category {category[:80]!r} is none of {', '.join(_CATEGORIES)}")
    raids = [bdev for bdev in engine.bdevs if isinstance(bdev, RaidBdev)]
    return [{"name": raid.name, **raid.details()} for raid in raids if _CATEGORIES[category]]


METHODS: Final = (
    Method(
        "bdev_raid_create",
        create,
        {
            "name": required(string(MAX_BDEV_NAME_BYTES, least=1)),
            "raid_level": required(string()),
            "base_bdevs": required(array(string(), _MAX_BASES, least=1)),
            "strip_size_kb": optional(integer(0, UINT32_MAX)),
            "uuid": optional(string()),
            "superblock": optional(boolean, False),
            "delta_bitmap": optional(boolean, False),
            "base_blocks": optional(array(integer(1, UINT64_MAX), _MAX_BASES, least=1)),
            "num_base_bdevs": optional(integer(1, _MAX_BASES)),
        },
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        subject=Subject("bdev", "name"),
        followed_by=made_again,
    ),
    Method(
        "bdev_raid_delete",
        delete,
        {"name": required(string()), "clear_sb": optional(boolean, False)},
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        subject=Subject("bdev", "name", removes=True),
    ),
    Method(
        "bdev_raid_add_base_bdev",
        add_base_bdev,
        {"raid_bdev": required(string()), "base_bdev": required(string())},
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        subject=Subject("bdev", "raid_bdev", part="base bdev", which="base_bdev"),
    ),
    Method(
        "bdev_raid_remove_base_bdev",
        remove_base_bdev,
        {"name": required(string())},
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=Refusal(PARSE_ERROR, "spdk_json_decode_object failed"),
    ),
    Method(
        "bdev_raid_set_options",
        set_options,
        {WINDOW: optional(_UINT32), RATE: optional(_UINT32)},
        state=State.BOTH,
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=Refusal(PARSE_ERROR, "spdk_json_decode_object failed"),
    ),
    Method(
        "bdev_raid_get_bdevs",
        get_bdevs,
        {"category": required(string())},
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
    ),
)
