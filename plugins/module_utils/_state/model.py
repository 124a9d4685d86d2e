# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects of an iSCSI target, as the engine has them or as they shall be.

Every kind of object is a frozen dataclass that knows its key, the defaults of a new one (``create``), which of its
properties are compared (``comparable``), how it is shown to people (``show``) and which other objects it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Final, NamedTuple, TypeVar, Union

from .._engine.facts import DEFAULT_BLOCK_SIZE, DEFAULT_NODE_BASE, DEFAULT_QUEUE_DEPTH
from .portals import ANY, Portal, known_netmask
from .sizes import show_size

BDEV: Final = "bdev"
PORTAL_GROUP: Final = "portal_group"
INITIATOR_GROUP: Final = "initiator_group"
TARGET_NODE: Final = "target_node"

Ref = tuple[str, Union[str, int]]
"""Kind and key of an object: ``("portal_group", 1)``."""

_Entry = TypeVar("_Entry", bound="_Object")


def label(ref: Ref) -> str:
    """``portal group 1``: how messages name an object."""
    kind, key = ref
    return f"{kind.replace('_', ' ')} {key}"


@dataclass(frozen=True)
class _Object:
    """What the kinds have in common. ``kind`` is the name of the module, ``KEY`` the option that identifies."""

    kind: ClassVar[str]
    KEY: ClassVar[str]

    @cached_property
    def ref(self) -> Ref:
        return (self.kind, getattr(self, self.KEY))

    @classmethod
    def create(cls: type[_Entry], given: Mapping[str, Any]) -> _Entry:
        """A new object: what is given, and defaults for the rest."""
        return cls(**given)

    def edited(self: _Entry, given: Mapping[str, Any]) -> _Entry:
        """This object with what is given; everything else stays."""
        return replace(self, **given)

    def comparable(self) -> dict[str, Any]:
        """Property -> value, with equal values for what the engine treats alike."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.compare and each.name != self.KEY}

    def show(self) -> dict[str, Any]:
        """Property -> value as results and diffs show it."""
        raise NotImplementedError

    def needs(self) -> Iterator[Ref]:
        """The objects that must exist before this one."""
        return iter(())


@dataclass(frozen=True)
class Bdev(_Object):
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
        return replace(self, **given)

    def show(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"name": self.name, "type": self.type, "size": self.size, "block_size": self.block_size}
        shown["uuid"] = self.uuid
        if self.type == "aio":
            shown.update(path=self.path, readonly=self.readonly)
        return shown


@dataclass(frozen=True)
class PortalGroup(_Object):
    """Addresses the target listens on."""

    kind: ClassVar[str] = PORTAL_GROUP
    KEY: ClassVar[str] = "tag"

    tag: int
    portals: tuple[Portal, ...]
    private: bool = False

    def comparable(self) -> dict[str, Any]:
        return {"portals": frozenset(self.portals), "private": self.private}

    def show(self) -> dict[str, Any]:
        return {"tag": self.tag, "portals": [str(portal) for portal in self.portals], "private": self.private}


@dataclass(frozen=True)
class InitiatorGroup(_Object):
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


class Map(NamedTuple):
    """Who (initiator group) may reach a target node through which addresses (portal group)."""

    portal_group: int
    initiator_group: int


class Auth(NamedTuple):
    """How a target node authenticates; kept as it is when a node has to be replaced."""

    disable_chap: bool = True
    require_chap: bool = False
    mutual_chap: bool = False
    chap_group: int = 0


_OPEN: Final = Auth()


@dataclass(frozen=True)
class TargetNode(_Object):
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
    auth: Auth = _OPEN

    def comparable(self) -> dict[str, Any]:
        return {**super().comparable(), "luns": frozenset(self.luns), "maps": self.groups_by_portal_group()}

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
        }

    def needs(self) -> Iterator[Ref]:
        for lun in self.luns:
            yield (BDEV, lun.bdev)
        for portal_group, initiator_group in self.maps:
            yield (PORTAL_GROUP, portal_group)
            yield (INITIATOR_GROUP, initiator_group)


Object = Union[Bdev, PortalGroup, InitiatorGroup, TargetNode]
KINDS: Final[Mapping[str, type[Object]]] = {each.kind: each for each in (Bdev, PortalGroup, InitiatorGroup, TargetNode)}
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


class Change(NamedTuple):
    """One property that differs; ``before`` and ``after`` are texts."""

    property: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.property.replace('_', ' ')} {self.before} → {self.after}"


def changes(before: Object, after: Object) -> list[Change]:
    """What differs between two states of the same object, and what has been asked for (None is never asked for)."""
    if before == after:
        return []
    old, new = before.comparable(), after.comparable()
    return [
        Change(name, _text(name, getattr(before, name)), _text(name, getattr(after, name)))
        for name in new
        if old[name] != new[name] and new[name] is not None
    ]


def _text(name: str, value: Any) -> str:
    if name == "size" and isinstance(value, int):
        return show_size(value)
    if name == "luns":
        return ", ".join(f"{lun.id}={lun.bdev}" for lun in sorted(value)) or "none"
    if name == "maps":
        return ", ".join(f"{each.portal_group}:{each.initiator_group}" for each in value) or "none"
    if isinstance(value, tuple) and not isinstance(value, Auth):
        return ", ".join(str(each) for each in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return repr(value) if value == "" else str(value)
