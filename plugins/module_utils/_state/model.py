# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects of an iSCSI target, as the engine has them or as they shall be.

Every kind of object is a frozen dataclass that knows its key, the defaults of a new one (``create``), which of its
properties are compared (``comparable``), how it is shown to people (``show``) and which other objects it needs. What
they have in common is in ``base``, those of CHAP are in ``auth``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, NamedTuple, Union

from .._engine.facts import DEFAULT_BLOCK_SIZE, DEFAULT_NODE_BASE, DEFAULT_QUEUE_DEPTH
from .auth import NONE, AuthGroup, DiscoveryAuth, with_policy
from .base import (
    AUTH_GROUP,
    BDEV,
    INITIATOR_GROUP,
    PORTAL_GROUP,
    TARGET_NODE,
    BaseObject,
    Ref,
)
from .portals import ANY, Portal, known_netmask
from .target_options import TargetOptions


@dataclass(frozen=True)
class Bdev(BaseObject):
    """A block device of the engine.

    ``size`` is None for a new one whose size its file decides, ``block_size`` where the engine asks the device.
    A ``type`` other than malloc and aio is known by name only: it can be served, not managed.
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

    @classmethod
    def create(cls, given: Mapping[str, Any]) -> Bdev:
        # A device under /dev knows its own block size; a file has none.
        from_device = str(given.get("path", "")).startswith("/dev/")
        return cls(**{"block_size": None if from_device else DEFAULT_BLOCK_SIZE, **given})

    @property
    def managed(self) -> bool:
        return self.type in ("malloc", "aio")

    def edited(self, given: Mapping[str, Any]) -> Bdev:
        """With another type or path it is another device: then nothing of the old one carries over."""
        if given.get("type", self.type) != self.type or given.get("path", self.path) != self.path:
            return Bdev.create({"name": self.name, "type": self.type, **given})
        return super().edited(given)

    def show(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"name": self.name, "type": self.type, "size": self.size, "block_size": self.block_size}
        shown["uuid"] = self.uuid
        if self.type == "aio":
            shown.update(path=self.path, readonly=self.readonly)
        return shown


@dataclass(frozen=True)
class PortalGroup(BaseObject):
    """Addresses the target listens on."""

    kind: ClassVar[str] = PORTAL_GROUP
    KEY: ClassVar[str] = "tag"

    tag: int
    portals: tuple[Portal, ...]
    private: bool = False
    chap: str | None = None
    """A policy for discovery of its own, which survives when the group is replaced; None: that of the target."""
    auth_group: int | None = None

    def comparable(self) -> dict[str, Any]:
        return {"portals": frozenset(self.portals), "private": self.private}

    def show(self) -> dict[str, Any]:
        return {"tag": self.tag, "portals": [str(portal) for portal in self.portals], "private": self.private}

    def needs(self) -> Iterator[Ref]:
        if self.auth_group is not None:
            yield (AUTH_GROUP, self.auth_group)


@dataclass(frozen=True)
class InitiatorGroup(BaseObject):
    """Who may log in, by name and by address. The order of the names counts: a ``!name`` denies at once."""

    kind: ClassVar[str] = INITIATOR_GROUP
    KEY: ClassVar[str] = "tag"

    tag: int
    initiators: tuple[str, ...] = (ANY,)
    netmasks: tuple[str, ...] = (ANY,)

    @property
    def denies(self) -> bool:
        return any(entry.startswith("!") for entry in self.initiators)

    def edited(self, given: Mapping[str, Any]) -> InitiatorGroup:
        """In the spelling of the live group, which another tool may have written, and in its order if that is free."""
        names = respelled(given.get("initiators", self.initiators), self.initiators, str.lower)
        masks = respelled(given.get("netmasks", self.netmasks), self.netmasks, known_netmask)
        edited = replace(self, initiators=names, netmasks=masks)
        if edited.denies:
            return edited
        kept = tuple(name for name in self.initiators if name in names)
        return replace(edited, initiators=(*kept, *(name for name in names if name not in kept)))

    def comparable(self) -> dict[str, Any]:
        initiators = self.initiators if self.denies else frozenset(self.initiators)
        return {"initiators": initiators, "netmasks": frozenset(self.netmasks)}

    def show(self) -> dict[str, Any]:
        return {"tag": self.tag, "initiators": list(self.initiators), "netmasks": list(self.netmasks)}


def respelled(wanted: Sequence[str], live: Sequence[str], canonical: Callable[[str], str]) -> tuple[str, ...]:
    """``wanted`` with every entry written as in ``live`` where both mean the same."""
    spelling = {canonical(entry): entry for entry in live}
    return tuple(spelling.get(canonical(entry), entry) for entry in wanted)


class Lun(NamedTuple):
    id: int
    bdev: str

    def __str__(self) -> str:
        return f"{self.id}={self.bdev}"


class Map(NamedTuple):
    """Who (initiator group) may reach a target node through which addresses (portal group)."""

    portal_group: int
    initiator_group: int

    @property
    def refs(self) -> tuple[Ref, Ref]:
        return (PORTAL_GROUP, self.portal_group), (INITIATOR_GROUP, self.initiator_group)

    def __str__(self) -> str:
        return f"{self.portal_group}:{self.initiator_group}"


class Redirect(NamedTuple):
    """Initiators that come by the portal group are sent to the address."""

    portal_group: int
    address: Portal

    def __str__(self) -> str:
        return f"{self.portal_group} to {self.address}"


@dataclass(frozen=True)
class TargetNode(BaseObject):
    """What an initiator logs in to: LUNs, and the maps that let it in. ``name`` is complete."""

    kind: ClassVar[str] = TARGET_NODE
    KEY: ClassVar[str] = "name"

    name: str
    luns: tuple[Lun, ...]
    maps: tuple[Map, ...]
    alias: str = ""
    queue_depth: int = DEFAULT_QUEUE_DEPTH
    header_digest: bool = False
    data_digest: bool = False
    chap: str = NONE
    auth_group: int | None = None
    redirects: tuple[Redirect, ...] = ()

    @classmethod
    def create(cls, given: Mapping[str, Any]) -> TargetNode:
        return cls(**with_policy(given, NONE, None))

    def edited(self, given: Mapping[str, Any]) -> TargetNode:
        """A redirect that is not asked for ends with the last map of its portal group."""
        edited = super().edited(with_policy(given, self.chap, self.auth_group))
        return edited if "redirects" in given or not edited.redirects else edited.with_maps(edited.maps)

    def with_maps(self, maps: tuple[Map, ...]) -> TargetNode:
        """This node with other maps, and the redirects that can be there with them."""
        mapped = {each.portal_group for each in maps}
        return replace(self, maps=maps, redirects=tuple(each for each in self.redirects if each.portal_group in mapped))

    def comparable(self) -> dict[str, Any]:
        return {
            **super().comparable(),
            "luns": frozenset(self.luns),
            "maps": self.groups_by_portal_group(),
            "redirects": frozenset(self.redirects),
        }

    def groups_by_portal_group(self) -> dict[int, tuple[int, ...]]:
        """Portal group -> initiator groups. Only the order within a portal group decides who gets in."""
        groups: dict[int, tuple[int, ...]] = {}
        for portal_group, initiator_group in self.maps:
            groups[portal_group] = (*groups.get(portal_group, ()), initiator_group)
        return groups

    def show(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "alias": self.alias,
            "luns": [lun._asdict() for lun in sorted(self.luns)],
            "maps": [each._asdict() for each in self.maps],
            "queue_depth": self.queue_depth,
            "header_digest": self.header_digest,
            "data_digest": self.data_digest,
            "chap": self.chap,
            "auth_group": self.auth_group,
            "redirects": [{**each._asdict(), "address": str(each.address)} for each in self.redirects],
        }

    def readable(self, earlier: BaseObject | None) -> dict[str, Any]:
        """With the lists as lines, and without redirects where there are none."""
        shown = super().readable(earlier)
        lists = {"luns": sorted(self.luns), "maps": self.maps, "redirects": self.redirects}
        shown.update({name: [str(each) for each in entries] for name, entries in lists.items()})
        return shown if self.redirects else {name: value for name, value in shown.items() if name != "redirects"}

    def words(self, name: str, earlier: BaseObject | None) -> str:
        return super().words(name, earlier) if name != "luns" else ", ".join(map(str, sorted(self.luns))) or "none"

    def needs(self) -> Iterator[Ref]:
        for lun in self.luns:
            yield (BDEV, lun.bdev)
        for each in self.maps:
            yield from each.refs
        if self.auth_group is not None:
            yield (AUTH_GROUP, self.auth_group)


Object = Union[Bdev, AuthGroup, PortalGroup, InitiatorGroup, TargetNode, DiscoveryAuth, TargetOptions]
KINDS: Final[Mapping[str, type[Object]]] = {
    each.kind: each for each in (Bdev, AuthGroup, PortalGroup, InitiatorGroup, TargetNode, DiscoveryAuth, TargetOptions)
}
"""Kind -> class, in the order in which objects need each other."""


class Session(NamedTuple):
    """An initiator that is logged in: ``node`` is the part of the target's name after the first colon."""

    initiator: str
    address: str
    node: str
    portal_host: str
    portal_group: int | None

    def __str__(self) -> str:
        return f"{self.initiator} ({self.address})" if self.initiator else self.address


@dataclass(frozen=True)
class Capabilities:
    """What the engine is and what it can do while it runs; by default what ours can, before it is asked."""

    engine: str = "builtin"
    version: str = ""
    methods: frozenset[str] = frozenset()
    node_base: str = DEFAULT_NODE_BASE
    max_queue_depth: int = DEFAULT_QUEUE_DEPTH
    adds_luns_with_sessions: bool = True
    makes_files: bool = True
    grows_files: bool = True
    removes_files: bool = True
    matches_every_address: bool = True
    """A netmask of /0 means all addresses of its family; for SPDK it means none."""
    tells_redirects: bool = True


@dataclass(frozen=True)
class State:
    """Everything a target consists of. Objects keep the order in which the engine or the user named them."""

    objects: Mapping[Ref, Object] = field(default_factory=dict)
    sessions: Sequence[Session] = ()

    def of_kind(self, kind: str) -> list[Object]:
        return [each for (each_kind, _key), each in self.objects.items() if each_kind == kind]

    def nodes(self) -> list[TargetNode]:
        return [each for each in self.objects.values() if isinstance(each, TargetNode)]

    def get(self, ref: Ref) -> Object | None:
        return self.objects.get(ref)
