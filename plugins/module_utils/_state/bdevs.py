# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block devices and what gives them: an NVMe controller its namespaces, a split its parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, NamedTuple

from .._engine.facts import DEFAULT_BLOCK_SIZE
from .base import BDEV, BaseObject, Ref
from .drivers import (
    DRIVERS,
    GIVEN,
    NVME,
    OPTIONS_OF_A_DEVICE,
    RAID,
    RAID1,
    SPLIT,
    giver_of,
)
from .mirrors import Exchange, exchange

DEFAULT_STRIP_SIZE: Final = 64 << 10

MIB: Final = 1 << 20
"""What bdev_null_resize, bdev_split_create and limits count in."""


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


class Latency(NamedTuple):
    """What a delay bdev adds, in microseconds: to reads and writes, and to one in a hundred of them (p99)."""

    read: int = 0
    read_p99: int = 0
    write: int = 0
    write_p99: int = 0

    def __str__(self) -> str:
        return f"read {self.read} (p99 {self.read_p99}), write {self.write} (p99 {self.write_p99}) microseconds"

    def edited(self, given: Mapping[str, int]) -> Latency:
        """With what is given. A p99 that is not given is at least the average, which an engine insists on."""
        wanted = self._replace(**given)
        for name, most in (("read", "read_p99"), ("write", "write_p99")):
            if most not in given:
                wanted = wanted._replace(**{most: max(getattr(wanted, name), getattr(wanted, most))})
        return wanted

    def is_made_of(self, wanted: Latency | None) -> bool:
        """Whether an engine that was told ``wanted`` tells this.

        SPDK counts in ticks of the processor and rounds down on the way there and back, by a microsecond and less than
        a thousandth (vbdev_delay.c).
        """
        return wanted is not None and all(0 <= want - live <= 1 + want // 1000 for live, want in zip(self, wanted))


@dataclass(frozen=True)
class Bdev(BaseObject):
    """A block device of the engine, or what gives some: an NVMe controller, a split.

    ``size`` is None for a new one whose size its file or its base bdevs decide, ``block_size`` where the engine asks
    the device, ``qos`` where nobody asked for limits and the engine does not tell them.
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
    base_bdevs: tuple[str, ...] | None = None
    count: int | None = None
    latency: Latency | None = None
    level: str | None = None
    strip_size: int | None = None
    pool: str | None = None
    image: str | None = None
    ceph_user: str | None = None
    cluster: str | None = None
    claimed: bool = field(default=False, compare=False)  # by something in the engine, known here or not
    rebuilding: str | None = field(default=None, compare=False)  # the base of a mirror that is not like the others yet

    @classmethod
    def create(cls, given: Mapping[str, Any]) -> Bdev:
        options = dict(given)
        # A device knows its own block size; a file has none.
        takes_block_size = given["type"] in DRIVERS and "block_size" in DRIVERS[given["type"]].options
        if takes_block_size and not str(given.get("path", "")).startswith("/dev/"):
            options.setdefault("block_size", DEFAULT_BLOCK_SIZE)
        if given["type"] == RAID and given.get("level") != RAID1:
            options.setdefault("strip_size", DEFAULT_STRIP_SIZE)
        if "latency" in given:
            options["latency"] = Latency().edited(given["latency"])
        if "qos" in given:
            options["qos"] = Qos(**given["qos"])
        return cls(**options)

    @property
    def managed(self) -> bool:
        return self.type in DRIVERS

    @property
    def is_giver(self) -> bool:
        """Whether it is no bdev itself."""
        return self.type in GIVEN

    @property
    def is_given(self) -> bool:
        return self.type in GIVEN.values()

    @property
    def parts(self) -> Sequence[str]:
        """The bdevs that a split gives."""
        return [f"{self.name}{number}" for number in range(self.count or 0)] if self.type == SPLIT else ()

    def may_give(self, name: str) -> bool:
        """Whether there can be such a bdev as soon as this is there: nobody knows the namespaces of a controller."""
        return giver_of(name) == self.name and (self.type == NVME or name in self.parts)

    def edited(self, given: Mapping[str, Any]) -> Bdev:
        """As another device it has nothing of the old one. A mirror is the same as long as one of its disks stays."""
        device = set(OPTIONS_OF_A_DEVICE)
        mirror = self.exchange(given.get("base_bdevs", ()), given.get("level"))
        if mirror is not None:
            given = {**given, "base_bdevs": mirror.bases}
            device.discard("base_bdevs")
        if any(given.get(option, getattr(self, option)) != getattr(self, option) for option in device):
            return Bdev.create({"name": self.name, "type": self.type, **given})
        changed = dict(given)
        if "qos" in given:
            changed["qos"] = (self.qos or Qos())._replace(**given["qos"])
        if "latency" in given:
            changed["latency"] = (self.latency or Latency()).edited(given["latency"])
        if given.get("count", self.count) != self.count:
            changed.setdefault("size", None)
        if given.get("level", self.level) != self.level:
            changed.setdefault("strip_size", None if given["level"] == RAID1 else self.strip_size or DEFAULT_STRIP_SIZE)
        return super().edited(changed)

    def exchange(self, base_bdevs: Sequence[str], level: str | None = None) -> Exchange | None:
        """How a mirror comes to these base bdevs; None for other bdevs, and for what is another mirror then."""
        is_mirror = self.level == RAID1 and level in (None, RAID1)
        return exchange(self.base_bdevs or (), base_bdevs) if is_mirror else None

    def made_again(self) -> Bdev:
        """What is made of other bdevs, to be made once more: what those decide is not known any more."""
        sized = self.base_bdevs is None or self.type == SPLIT
        return self if sized else replace(self, size=None, block_size=None)

    def fills(self, base: Bdev) -> bool:
        """Whether the parts of a split take all of its base, as they do when nobody gives their size."""
        left = (base.size or 0) - (self.size or 0) * (self.count or 1)
        return left < (self.count or 1) * (base.block_size or 1)

    def show(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"name": self.name, "type": self.type}
        if not self.is_giver:
            shown.update(size=self.size, block_size=self.block_size, uuid=self.uuid)
        if self.type == SPLIT:
            shown.update(size=self.size)
        if self.type == "aio":
            shown.update(readonly=self.readonly)
        for name in _SHOWN_IF_THERE:
            value = getattr(self, name)
            if value is not None:
                shown[name] = list(value) if name == "base_bdevs" else value
        for name in ("latency", "qos"):
            numbers = getattr(self, name)
            if numbers is not None:
                shown[name] = numbers._asdict()
        return shown

    def readable(self, earlier: BaseObject | None) -> dict[str, Any]:
        """With the latency as a line, and the limits if there are any."""
        shown = super().readable(earlier)
        lines = {"latency": self.latency, "qos": self.qos if self.qos and any(self.qos) else None}
        for name, line in lines.items():
            shown.pop(name, None)
            if line is not None:
                shown[name] = str(line)
        return shown

    def words(self, name: str, earlier: BaseObject | None) -> str:
        if name == "qos":
            return str(self.qos or Qos())
        return str(self.latency or "none") if name == "latency" else super().words(name, earlier)

    def needs(self) -> Iterator[Ref]:
        giver = giver_of(self.name) if self.is_given else None
        if giver is not None:
            yield (BDEV, giver)
        for base in self.base_bdevs or ():
            yield (BDEV, base)


_SHOWN_IF_THERE: Final = (
    "path",
    "address",
    "base_bdevs",
    "count",
    "level",
    "strip_size",
    "pool",
    "image",
    "ceph_user",
    "cluster",
)
