# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The types of bdevs that are managed: what engines call them, what they take, and what makes, grows and removes them.

Two types are declared like a bdev but are none, they give bdevs: an NVMe controller one for each of its namespaces,
``NVMe1n1`` for namespace 1 of ``NVMe1``, and a split as many as it has parts, ``disk0p0`` for the first of ``disk0p``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

NVME: Final = "nvme"
SPLIT: Final = "split"
DELAY: Final = "delay"
ERROR: Final = "error"
PASSTHRU: Final = "passthru"
RAID: Final = "raid"
RBD: Final = "rbd"

NAMESPACE: Final = "NVMe disk"
PART: Final = "Split Disk"
"""What bdev_get_bdevs calls the products that are given; these are their types, since nobody can declare them."""

GIVEN: Final[Mapping[str, str]] = {NVME: NAMESPACE, SPLIT: PART}
"""Type that gives bdevs -> the type of those."""

RAID1: Final = "raid1"
RAID_LEVELS: Final = ("raid0", RAID1, "raid5f", "concat")


class Driver(NamedTuple):
    """How the engines make bdevs of a type.

    ``product`` is its product_name in bdev_get_bdevs, ``options`` what it takes beside name, type and qos, ``needs``
    the options without which none is made, with the words that ask for them. ``resize`` makes one larger. ``name`` is
    what an engine calls one on a bdev ``{}``, if nobody can choose.
    """

    product: str
    create: str
    delete: str
    options: frozenset[str]
    needs: tuple[tuple[str, str], ...]
    resize: str | None = None
    loses_data: bool = False
    name: str | None = None


_SIZED: Final = ("size", "a size")
_ON_PATH: Final = ("path", "the path of its file or device")
_ON_ONE: Final = ("base_bdevs", "the bdev that it is made of")
DRIVERS: Final[Mapping[str, Driver]] = {
    "malloc": Driver(
        "Malloc disk",
        "bdev_malloc_create",
        "bdev_malloc_delete",
        frozenset(("size", "block_size", "uuid")),
        (_SIZED,),
        loses_data=True,
    ),
    "aio": Driver(
        "AIO disk",
        "bdev_aio_create",
        "bdev_aio_delete",
        frozenset(("size", "block_size", "uuid", "path", "readonly", "sparse")),
        (_ON_PATH,),
        "bdev_aio_resize",
    ),
    NVME: Driver(
        "",
        "bdev_nvme_attach_controller",
        "bdev_nvme_detach_controller",
        frozenset(("address",)),
        (("address", "the PCI address of its controller"),),
    ),
    "null": Driver(
        "Null disk",
        "bdev_null_create",
        "bdev_null_delete",
        frozenset(("size", "block_size", "uuid")),
        (_SIZED,),
        "bdev_null_resize",
    ),
    "uring": Driver(
        "URING bdev",
        "bdev_uring_create",
        "bdev_uring_delete",
        frozenset(("block_size", "uuid", "path")),
        (_ON_PATH,),
    ),
    SPLIT: Driver(
        "",
        "bdev_split_create",
        "bdev_split_delete",
        frozenset(("base_bdevs", "count", "size")),
        (_ON_ONE, ("count", "the number of its parts")),
        name="{}p",
    ),
    DELAY: Driver(
        "delay",
        "bdev_delay_create",
        "bdev_delay_delete",
        frozenset(("base_bdevs", "latency", "uuid")),
        (_ON_ONE, ("latency", "its latency")),
    ),
    ERROR: Driver(
        "Error Injection Disk",
        "bdev_error_create",
        "bdev_error_delete",
        frozenset(("base_bdevs", "uuid")),
        (_ON_ONE,),
        name="EE_{}",
    ),
    PASSTHRU: Driver(
        "passthru",
        "bdev_passthru_create",
        "bdev_passthru_delete",
        frozenset(("base_bdevs", "uuid")),
        (_ON_ONE,),
    ),
    RAID: Driver(
        "Raid Volume",
        "bdev_raid_create",
        "bdev_raid_delete",
        frozenset(("base_bdevs", "level", "strip_size", "uuid")),
        (("base_bdevs", "the bdevs that it is made of"), ("level", "a level")),
    ),
    RBD: Driver(
        "Ceph Rbd Disk",
        "bdev_rbd_create",
        "bdev_rbd_delete",
        frozenset(("pool", "image", "ceph_user", "cluster", "block_size", "uuid")),
        (("pool", "the pool of its image"), ("image", "the name of its image")),
    ),
}
"""Type -> how it is managed. Bdevs of other types can be served and limited."""

TYPES: Final = tuple(DRIVERS)
OPTIONS: Final = frozenset(option for driver in DRIVERS.values() for option in driver.options)
OPTIONS_OF_A_DEVICE: Final = ("type", "path", "base_bdevs", "pool", "image", "cluster")
"""With another value of one of these, a bdev of the same name is another device."""

_PRODUCTS: Final = {driver.product: name for name, driver in DRIVERS.items() if driver.product}


def type_of(product: str) -> str:
    """The type of a bdev by its product_name; one that is not managed is known by that name."""
    return _PRODUCTS.get(product, product)


_NAME_OF_GIVEN: Final = re.compile(r"(?P<namespace>.+)n[1-9][0-9]*|(?P<part>.+p)(?:0|[1-9][0-9]*)")


def giver_of(bdev: str) -> str | None:
    """The NVMe controller or the split a bdev comes from if it is given, going by its name.

    ``NVMe1n2`` -> ``NVMe1``, ``disk0p1`` -> ``disk0p``.
    """
    match = _NAME_OF_GIVEN.fullmatch(bdev)
    return None if match is None else match["namespace"] or match["part"]
