# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bdev_raid_*: devices made of several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ...bdev.raid import LEVELS, RaidBdev, make
from ...errors import Busy, Invalid, NoDevice, Unsupported
from ...facts import MAX_BDEV_NAME_BYTES
from ..method import DECODE_FAILED, Errors, Method, Subject
from ..schema import UINT32_MAX, UINT64_MAX, array, boolean, integer, optional, required, string
from .bdev import made_again, register, unregister

if TYPE_CHECKING:
    from ...bdev.base import Bdev
    from ...service import Engine

_MAX_BASES: Final = 255
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
) -> bool:
    """``base_blocks`` is ours, and for concat: how much of each base is used, which may have grown since."""
    engine.bdevs.check_free(name)
    if superblock or delta_bitmap or raid_level not in LEVELS:
        what = "a superblock" if superblock else "a delta bitmap" if delta_bitmap else f"raid level {raid_level!r}"
        raise Unsupported(f"bdev {name}: {what} is not supported. Levels: raid0, raid1, concat.")
    bases = [engine.bdevs.get(each) for each in base_bdevs]
    if len(set(bases)) < len(bases):
        raise Invalid(f"bdev {name}: a base bdev is given twice")
    for base in bases:
        _check_unused(engine, name, base)
    register(engine, make(name, LEVELS[raid_level], bases, strip_size_kb, uuid, engine.changed, base_blocks))
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
        "bdev_raid_get_bdevs",
        get_bdevs,
        {"category": required(string())},
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
    ),
)
