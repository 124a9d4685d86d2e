# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From variables to wishes: every entry checked by itself, every problem kept with its path in the variables."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from .._engine import facts
from .model import BDEV, INITIATOR_GROUP, KINDS, PORTAL_GROUP, TARGET_NODE, Lun, Map, Ref, label
from .names import check_name, full_name, parse_initiator
from .portals import parse_netmask, parse_portal
from .sizes import parse_size

COLLECTIONS: Final[Mapping[str, str]] = {kind: f"{kind}s" for kind in KINDS}
"""Kind -> the option that lists objects of it."""


class Entry(NamedTuple):
    """One object as somebody wrote it: its options, and where they stand (empty for the module's own options)."""

    kind: str
    options: Mapping[str, Any]
    path: str = ""

    def at(self, option: str) -> str:
        return f"{self.path}.{option}" if self.path else option


class Wish(NamedTuple):
    """One declared object. ``given`` holds the options that were given, parsed."""

    ref: Ref
    given: Mapping[str, Any]
    entry: Entry
    present: bool
    remove_file: bool = False

    def at(self, option: str) -> str:
        return self.entry.at(option)


class Problems(list[str]):
    """Sentences, each with the path of the variable it is about."""

    def note(self, path: str, text: str) -> None:
        self.append(f"{path}: {text}" if path else text)


@dataclass(frozen=True)
class Declaration:
    """Everything that was asked for, and what is wrong with it."""

    wishes: Mapping[Ref, Wish] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)


def entries_of(variables: Mapping[str, Any]) -> Iterator[Entry]:
    """The entries of ``{"bdevs": [{"name": …}, …], "portal_groups": None, …}``; None means not given."""
    for kind, collection in COLLECTIONS.items():
        for index, options in enumerate(variables.get(collection) or ()):
            yield Entry(kind, options, f"{collection}[{index}]")


def declare(entries: Iterable[Entry], node_base: str) -> Declaration:
    """The wishes in ``entries``; ``node_base`` completes the short names of target nodes."""
    wishes: dict[Ref, Wish] = {}
    problems = Problems()
    for entry in entries:
        key = KINDS[entry.kind].KEY
        try:
            ref = (entry.kind, _KEYS[entry.kind](entry.options[key], node_base))
        except ValueError as error:
            problems.note(entry.at(key), str(error))
            continue
        if ref in wishes:
            problems.note(entry.at(key), f"{label(ref)} is declared in {wishes[ref].entry.path} already.")
            continue
        wishes[ref] = Wish(
            ref,
            {key: ref[1], **_given(entry, problems)},
            entry,
            present=entry.options.get("state", "present") == "present",
            remove_file=bool(entry.options.get("remove_file")),
        )
    return Declaration(wishes, problems)


def _given(entry: Entry, problems: Problems) -> dict[str, Any]:
    """Option -> parsed value, for the options that were given and that parse."""
    given = {}
    for option, parse in _OPTIONS[entry.kind].items():
        value = entry.options.get(option)
        if value is None:
            continue
        before = len(problems)
        path = entry.at(option)
        try:
            parsed = parse(value, path, problems)
        except ValueError as error:
            problems.note(path, str(error))
        if len(problems) == before:
            given[option] = parsed
    return given


# A parser takes the value, its path and the list for problems of its parts; one of the value itself is a ValueError.
_Parse = Callable[[Any, str, Problems], Any]


def _one(parse: Callable[[Any], Any]) -> _Parse:
    return lambda value, _path, _problems: parse(value)


def _each(parse: Callable[[Any], Any], most: int, identity: Callable[[Any], Any] = lambda item: item) -> _Parse:
    """A list with at least one item and no two that are the same by ``identity``."""

    def parse_list(values: Any, path: str, problems: Problems) -> tuple[Any, ...]:
        if not values:
            raise ValueError("the list is empty. Leave the option out to keep what is there.")
        if len(values) > most:
            raise ValueError(f"{len(values)} entries are more than the {most} an engine takes.")
        seen: dict[Any, int] = {}
        items = []
        for index, value in enumerate(values):
            try:
                item = parse(value)
            except ValueError as error:
                problems.note(f"{path}[{index}]", str(error))
                continue
            first = seen.setdefault(identity(item), index)
            if first != index:
                problems.note(f"{path}[{index}]", f"repeats {path}[{first}].")
            items.append(item)
        return tuple(items)

    return parse_list


def _between(what: str, low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        number = int(value)
        if not low <= number <= high:
            raise ValueError(f"{what} {number} is not between {low} and {high}.")
        return number

    return check


def _text(most_bytes: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        text = str(value)
        if len(text.encode("utf-8", "surrogateescape")) > most_bytes:
            raise ValueError(f"{text!r} is longer than {most_bytes} bytes.")
        if not text.isprintable():
            raise ValueError(f"{text!r} holds characters that cannot be printed.")
        return text

    return check


def _bdev_name(value: Any) -> str:
    name = _text(facts.MAX_BDEV_NAME_BYTES)(value)
    if not name or name != name.strip():
        raise ValueError(f"{name!r} is not a name for a bdev.")
    return name


def _node_name(value: Any, node_base: str) -> str:
    name = full_name(str(value), node_base)
    check_name(name)
    return name


def _size(value: Any) -> int:
    size = parse_size(str(value))
    if size == 0:
        raise ValueError("a disk of size 0 holds nothing.")
    return size


def _uuid(value: Any) -> str:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        raise ValueError(f"{value!r} is not a UUID such as 2b6601ba-eada-44fb-9a83-a20eb9eb9e90.") from None


def _path(value: Any) -> str:
    path = str(value)
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is not an absolute path.")
    return path


def _block_size(value: Any) -> int:
    if int(value) not in facts.BLOCK_SIZES:
        sizes = " and ".join(str(size) for size in facts.BLOCK_SIZES)
        raise ValueError(f"{value} is not a block size the engines serve; those are {sizes}.")
    return int(value)


_PORTAL_GROUP_TAG: Final = _between("tag", 1, facts.MAX_PORTAL_GROUP_TAG)
_INITIATOR_GROUP_TAG: Final = _between("tag", 1, facts.MAX_TAG)
_LUN_ID: Final = _between("LUN", 0, facts.MAX_LUN_ID)


def _lun(value: Mapping[str, Any]) -> Lun:
    return Lun(_LUN_ID(value["id"]), str(value["bdev"]))


def _map(value: Mapping[str, Any]) -> Map:
    return Map(_PORTAL_GROUP_TAG(value["portal_group"]), _INITIATOR_GROUP_TAG(value["initiator_group"]))


_KEYS: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    BDEV: lambda value, _node_base: _bdev_name(value),
    PORTAL_GROUP: lambda value, _node_base: _PORTAL_GROUP_TAG(value),
    INITIATOR_GROUP: lambda value, _node_base: _INITIATOR_GROUP_TAG(value),
    TARGET_NODE: _node_name,
}

_OPTIONS: Final[Mapping[str, Mapping[str, _Parse]]] = {
    BDEV: {
        "type": _one(str),
        "size": _one(_size),
        "block_size": _one(_block_size),
        "uuid": _one(_uuid),
        "path": _one(_path),
        "readonly": _one(bool),
        "sparse": _one(bool),
    },
    PORTAL_GROUP: {
        "portals": _each(parse_portal, facts.MAX_PORTALS_PER_GROUP),
        "private": _one(bool),
    },
    INITIATOR_GROUP: {
        "initiators": _each(parse_initiator, facts.MAX_INITIATORS_PER_GROUP),
        "netmasks": _each(parse_netmask, facts.MAX_NETMASKS_PER_GROUP),
    },
    TARGET_NODE: {
        "alias": _one(_text(facts.MAX_ALIAS_BYTES)),
        "luns": _each(_lun, facts.MAX_LUNS, identity=lambda lun: lun.id),
        "maps": _each(_map, facts.MAX_MAPS_PER_NODE),
        "queue_depth": _one(_between("queue depth", 1, facts.MAX_QUEUE_DEPTH)),
        "header_digest": _one(bool),
        "data_digest": _one(bool),
    },
}
