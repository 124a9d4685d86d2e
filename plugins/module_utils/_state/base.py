# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all kinds of objects have in common: a reference, and how two states of one are compared and told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Final, NamedTuple, TypeVar, Union

from .sizes import show_size

BDEV: Final = "bdev"
AUTH_GROUP: Final = "auth_group"
PORTAL_GROUP: Final = "portal_group"
INITIATOR_GROUP: Final = "initiator_group"
TARGET_NODE: Final = "target_node"
DISCOVERY_AUTH: Final = "discovery_auth"
TARGET_OPTIONS: Final = "target_options"

SINGLETONS: Final = (DISCOVERY_AUTH, TARGET_OPTIONS)
"""Kinds of which every engine has exactly one: it is changed, but neither created nor removed. Its key is empty."""

_SIZES: Final = ("size", "strip_size")
"""Properties in bytes, which people read with a unit."""

Ref = tuple[str, Union[str, int]]
"""Kind and key of an object: ``("portal_group", 1)``."""

_Entry = TypeVar("_Entry", bound="BaseObject")


def label(ref: Ref) -> str:
    """``portal group 1``: how messages name an object."""
    kind, key = ref
    return f"{kind.replace('_', ' ')} {key}".rstrip()


@dataclass(frozen=True)
class BaseObject:
    """``kind`` is the name of the module, ``KEY`` the option that identifies; a singleton has none."""

    kind: ClassVar[str]
    KEY: ClassVar[str] = ""

    @property
    def ref(self) -> Ref:
        return (self.kind, getattr(self, self.KEY) if self.KEY else "")

    @classmethod
    def create(cls: type[_Entry], given: Mapping[str, Any]) -> _Entry:
        """A new object: what is given, and defaults for the rest."""
        return cls(**given)

    def edited(self: _Entry, given: Mapping[str, Any]) -> _Entry:
        """This object with what is given; everything else stays. The same object if that makes no difference."""
        different = {name: value for name, value in given.items() if getattr(self, name) != value}
        return replace(self, **different) if different else self

    def comparable(self) -> dict[str, Any]:
        """Property -> value, with equal values for what the engine treats alike."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.compare and each.name != self.KEY}

    def show(self) -> dict[str, Any]:
        """Property -> value as results show it, without secrets."""
        raise NotImplementedError

    def readable(self, earlier: BaseObject | None) -> dict[str, Any]:
        """As a diff shows it, where ``earlier`` is the state before."""
        del earlier
        shown = {name: value for name, value in self.show().items() if value is not None}
        return {name: show_size(value) if name in _SIZES else value for name, value in shown.items()}

    def words(self, name: str, earlier: BaseObject | None) -> str:
        """One property as messages tell it."""
        del earlier
        return words(name, getattr(self, name))

    def needs(self) -> Iterator[Ref]:
        """The objects that must exist before this one."""
        return iter(())


class Change(NamedTuple):
    """One property that differs; ``before`` and ``after`` are texts."""

    property: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.property.replace('_', ' ')} {self.before} → {self.after}"


def changes(before: BaseObject, after: BaseObject) -> list[Change]:
    """What differs between two states of the same object, and what has been asked for (None is never asked for)."""
    if before is after or before == after:
        return []
    old, new = before.comparable(), after.comparable()
    return [
        Change(name, before.words(name, None), after.words(name, before))
        for name in new
        if old[name] != new[name] and new[name] is not None
    ]


def words(name: str, value: Any) -> str:
    """A value of an option as text."""
    if name in _SIZES and isinstance(value, int):
        return show_size(value)
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(each) for each in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return repr(value) if value == "" else str(value)
