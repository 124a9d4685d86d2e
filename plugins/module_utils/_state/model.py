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

from .._engine.facts import DEFAULT_NODE_BASE, DEFAULT_QUEUE_DEPTH
from .auth import INHERIT, NONE, AuthGroup, DiscoveryAuth, with_policy
from .base import (
    AUTH_GROUP,
    BDEV,
    INITIATOR_GROUP,
    PORTAL_GROUP,
    TARGET_NODE,
    BaseObject,
    Ref,
)
from .bdevs import Bdev
from .mirrors import ADD_BASE, REMOVE_BASE
from .portals import ANY, Portal, known_netmask
from .target_options import TargetOptions


@dataclass(frozen=True)
class PortalGroup(BaseObject):
    """Addresses the target listens on."""

    kind: ClassVar[str] = PORTAL_GROUP
    KEY: ClassVar[str] = "tag"

    tag: int
    portals: tuple[Portal, ...]
    private: bool = False
    chap: str = INHERIT
    """Who has to prove themselves for discovery there; by default as DiscoveryAuth says."""
    auth_group: int | None = None

    @classmethod
    def create(cls, given: Mapping[str, Any]) -> PortalGroup:
        return cls(**with_policy(given, INHERIT, None))

    def edited(self, given: Mapping[str, Any]) -> PortalGroup:
        return super().edited(with_policy(given, self.chap, self.auth_group))

    def comparable(self) -> dict[str, Any]:
        return {**super().comparable(), "portals": frozenset(self.portals)}

    def show(self) -> dict[str, Any]:
        return {
            "tag": self.tag,
            "portals": [str(portal) for portal in self.portals],
            "private": self.private,
            "chap": self.chap,
            "auth_group": self.auth_group,
        }

    def readable(self, earlier: BaseObject | None) -> dict[str, Any]:
        """Without the policy where the group has none of its own."""
        shown = super().readable(earlier)
        return shown if self.chap != INHERIT else {name: value for name, value in shown.items() if name != "chap"}

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
    """``initiator_groups`` are the tags of those who see it, in order; all see it if there are none.

    None, in a wish, is what it is now.
    """

    id: int
    bdev: str
    initiator_groups: tuple[int, ...] | None = ()
    readonly: bool | None = False
    removable: bool | None = False

    @property
    def disk(self) -> tuple[int, str]:
        """What makes it the same disk to whoever uses it."""
        return self.id, self.bdev

    @property
    def fixed(self) -> Lun:
        """What does not change as long as it is there: all but who sees it."""
        return self._replace(initiator_groups=())

    def with_rest_of(self, live: Lun) -> Lun:
        """This wish with what ``live`` is where nothing is said."""
        return self._replace(
            **{name: of_live for name, of_live in live._asdict().items() if getattr(self, name) is None}
        )

    @property
    def flags(self) -> dict[str, bool]:
        """Those of ``readonly`` and ``removable`` that are set."""
        return {name: True for name, value in (("readonly", self.readonly), ("removable", self.removable)) if value}

    def show(self) -> dict[str, Any]:
        mask = {"initiator_groups": list(self.initiator_groups)} if self.initiator_groups else {}
        return {"id": self.id, "bdev": self.bdev, **mask, **self.flags}

    def __str__(self) -> str:
        mask = f" for {'+'.join(map(str, self.initiator_groups))}" if self.initiator_groups else ""
        return " ".join([f"{self.id}={self.bdev}", *self.flags]) + mask


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
    permanent: bool = False

    def __str__(self) -> str:
        return f"{self.portal_group} to {self.address}{' for good' if self.permanent else ''}"


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
    enabled: bool = True
    """Otherwise nobody may log in."""

    @classmethod
    def create(cls, given: Mapping[str, Any]) -> TargetNode:
        return cls(**with_policy(_completed(given, ()), NONE, None))

    def edited(self, given: Mapping[str, Any]) -> TargetNode:
        """A redirect that is not asked for ends with the last map of its portal group."""
        edited = super().edited(with_policy(_completed(given, self.luns), self.chap, self.auth_group))
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
            "luns": [lun.show() for lun in sorted(self.luns)],
            "maps": [each._asdict() for each in self.maps],
            "queue_depth": self.queue_depth,
            "header_digest": self.header_digest,
            "data_digest": self.data_digest,
            "chap": self.chap,
            "auth_group": self.auth_group,
            "redirects": [{**each._asdict(), "address": str(each.address)} for each in self.redirects],
            "enabled": self.enabled,
        }

    def readable(self, earlier: BaseObject | None) -> dict[str, Any]:
        """With the lists as lines, and without what few nodes are: redirected or disabled."""
        shown = super().readable(earlier)
        lists = {"luns": sorted(self.luns), "maps": self.maps, "redirects": self.redirects}
        shown.update({name: [str(each) for each in entries] for name, entries in lists.items()})
        usual = {name for name, is_so in (("redirects", not self.redirects), ("enabled", self.enabled)) if is_so}
        return {name: value for name, value in shown.items() if name not in usual}

    def words(self, name: str, earlier: BaseObject | None) -> str:
        return super().words(name, earlier) if name != "luns" else ", ".join(map(str, sorted(self.luns))) or "none"

    def needs(self) -> Iterator[Ref]:
        for lun in self.luns:
            yield (BDEV, lun.bdev)
            for tag in lun.initiator_groups or ():
                yield (INITIATOR_GROUP, tag)
        for each in self.maps:
            yield from each.refs
        if self.auth_group is not None:
            yield (AUTH_GROUP, self.auth_group)


def _completed(given: Mapping[str, Any], live: Sequence[Lun]) -> Mapping[str, Any]:
    """``given`` with what the LUNs are now where nobody says what they shall be."""
    if all(None not in lun for lun in given.get("luns", ())):
        return given
    known = {lun.disk: lun for lun in live}
    luns = (lun.with_rest_of(known.get(lun.disk) or Lun(*lun.disk)) for lun in given["luns"])
    return {**given, "luns": tuple(luns)}


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


REMOVE_LUN: Final = "iscsi_target_node_remove_lun"
SET_OPTIONS: Final = "iscsi_target_node_set_options"
DISABLE: Final = "iscsi_target_node_disable"
"""Methods that not every engine has, and that decide what is changed while it serves."""


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
    tells_portal_auth: bool = True
    drops_portal_auth: bool = True
    """A portal group goes back to the policy for discovery in general without being made again."""
    masks_luns: bool = True
    flags_luns: bool = True
    """A target node shows a LUN as read-only or removable."""

    def has(self, method: str) -> bool:
        """Whether there is such a method; an engine that has not been asked has all."""
        return not self.methods or method in self.methods

    @property
    def exchanges_bases(self) -> bool:
        """Whether base bdevs of mirrors go and come while these are used."""
        return self.has(ADD_BASE) and self.has(REMOVE_BASE)


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
