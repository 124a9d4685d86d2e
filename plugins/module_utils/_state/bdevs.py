# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block devices: the types that are managed, their limits, and NVMe controllers with what they give.

A controller is declared like a bdev but is none: it gives one for each of its namespaces, ``NVMe1n1`` for namespace 1
of ``NVMe1``. Those come and go with it; which ones there are is known once it is attached.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, NamedTuple

from .._engine.facts import DEFAULT_BLOCK_SIZE
from .base import BDEV, BaseObject, Ref

NVME: Final = "nvme"
NAMESPACE: Final = "NVMe disk"
"""What bdev_get_bdevs calls the product of a namespace; it is its type, since nobody can declare it."""


class Driver(NamedTuple):
    """How the engines make bdevs of a type.

    ``product`` is its product_name in bdev_get_bdevs, ``options`` what it takes beside name, type and qos, ``needs``
    the option without which none is made, with the words that ask for it. ``resize`` makes one larger.
    """

    product: str
    create: str
    delete: str
    options: frozenset[str]
    needs: tuple[str, str]
    resize: str | None = None
    loses_data: bool = False


_SIZED: Final = ("size", "a size")
_ON_PATH: Final = ("path", "the path of its file or device")
DRIVERS: Final[Mapping[str, Driver]] = {
    "malloc": Driver(
        "Malloc disk",
        "bdev_malloc_create",
        "bdev_malloc_delete",
        frozenset(("size", "block_size", "uuid")),
        _SIZED,
        loses_data=True,
    ),
    "aio": Driver(
        "AIO disk",
        "bdev_aio_create",
        "bdev_aio_delete",
        frozenset(("size", "block_size", "uuid", "path", "readonly", "sparse")),
        _ON_PATH,
        "bdev_aio_resize",
    ),
    NVME: Driver(
        "",
        "bdev_nvme_attach_controller",
        "bdev_nvme_detach_controller",
        frozenset(("address",)),
        ("address", "the PCI address of its controller"),
    ),
    "null": Driver(
        "Null disk",
        "bdev_null_create",
        "bdev_null_delete",
        frozenset(("size", "block_size", "uuid")),
        _SIZED,
        "bdev_null_resize",
    ),
    "uring": Driver(
        "URING bdev",
        "bdev_uring_create",
        "bdev_uring_delete",
        frozenset(("block_size", "uuid", "path")),
        _ON_PATH,
    ),
}
"""Type -> how it is managed. Bdevs of other types can be served and limited."""

TYPES: Final = tuple(DRIVERS)
MIB: Final = 1 << 20
"""What bdev_null_resize counts in."""

_PRODUCTS: Final = {driver.product: name for name, driver in DRIVERS.items() if driver.product}


def type_of(product: str) -> str:
    """The type of a bdev by its product_name; one that is not managed is known by that name."""
    return _PRODUCTS.get(product, product)


_NAMESPACE: Final = re.compile(r"(?P<controller>.+)n[1-9][0-9]*")


def controller_of(bdev: str) -> str | None:
    """The controller a bdev comes from if it is a namespace, going by its name: ``NVMe1n2`` -> ``NVMe1``."""
    match = _NAMESPACE.fullmatch(bdev)
    return match["controller"] if match else None


class Qos(NamedTuple):
    """Limits of a bdev, in operations or MiB per second; 0 is no limit."""

    rw_ios_per_sec: int = 0
    rw_mbytes_per_sec: int = 0
    r_mbytes_per_sec: int = 0
    w_mbytes_per_sec: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self._asdict().items() if value) or "none"

    def changed(self, before: Qos | None) -> dict[str, int]:
        """The limits that are others than before; before there were none for None."""
        earlier = (before or Qos())._asdict()
        return {name: value for name, value in self._asdict().items() if earlier[name] != value}


IOS_STEP: Final = 1000
"""SPDK rounds rw_ios_per_sec up to multiples of this (SPDK_BDEV_QOS_MIN_IOS_PER_SEC)."""


@dataclass(frozen=True)
class Bdev(BaseObject):
    """A block device of the engine, or an NVMe controller.

    ``size`` is None for a new one whose size its file decides, ``block_size`` where the engine asks the device, ``qos``
    where nobody asked for limits and the engine does not tell them.
    """

    kind: ClassVar[str] = BDEV
    KEY: ClassVar[str] = "name"

    name: str
    type: str
    size: int | None = None
    block_size: int | None = None
    uuid: str | None = None
    path: str | None = None
    readonly: bool = False
    sparse: bool = field(default=False, compare=False)  # asked for at creation, not kept by the engine
    address: str | None = None
    qos: Qos | None = None

    @classmethod
    def create(cls, given: Mapping[str, Any]) -> Bdev:
        # A device knows its own block size; a file has none.
        knows = given["type"] in (NVME, NAMESPACE) or str(given.get("path", "")).startswith("/dev/")
        options = {"block_size": None if knows else DEFAULT_BLOCK_SIZE, **given}
        if "qos" in given:
            options["qos"] = Qos(**given["qos"])
        return cls(**options)

    @property
    def managed(self) -> bool:
        return self.type in DRIVERS

    @property
    def is_controller(self) -> bool:
        return self.type == NVME

    @property
    def is_namespace(self) -> bool:
        return self.type == NAMESPACE

    def edited(self, given: Mapping[str, Any]) -> Bdev:
        """With another type or path it is another device: then nothing of the old one carries over."""
        if given.get("type", self.type) != self.type or given.get("path", self.path) != self.path:
            return Bdev.create({"name": self.name, "type": self.type, **given})
        if "qos" in given:
            given = {**given, "qos": (self.qos or Qos())._replace(**given["qos"])}
        return super().edited(given)

    def show(self) -> dict[str, Any]:
        if self.is_controller:
            return {"name": self.name, "type": self.type, "address": self.address}
        shown: dict[str, Any] = {"name": self.name, "type": self.type, "size": self.size, "block_size": self.block_size}
        shown["uuid"] = self.uuid
        if self.path is not None:
            shown["path"] = self.path
        if self.type == "aio":
            shown["readonly"] = self.readonly
        if self.qos is not None:
            shown["qos"] = self.qos._asdict()
        return shown

    def readable(self, earlier: BaseObject | None) -> dict[str, Any]:
        """With the limits as a line, if there are any."""
        shown = super().readable(earlier)
        shown.pop("qos", None)
        return {**shown, "qos": str(self.qos)} if self.qos and any(self.qos) else shown

    def words(self, name: str, earlier: BaseObject | None) -> str:
        return str(self.qos or Qos()) if name == "qos" else super().words(name, earlier)

    def needs(self) -> Iterator[Ref]:
        controller = controller_of(self.name) if self.is_namespace else None
        if controller is not None:
            yield (BDEV, controller)
