# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From variables to wishes: every entry checked by itself, every problem kept with its path in the variables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from .base import SINGLETONS, Ref, label
from .model import KINDS
from .options import KEYS, OPTIONS
from .text import Problems

COLLECTIONS: Final[Mapping[str, str]] = {kind: f"{kind}s" for kind in KINDS if kind not in SINGLETONS}
"""Kind -> the option that lists objects of it. The option of a singleton is called like its kind."""


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


@dataclass(frozen=True)
class Declaration:
    """Everything that was asked for, and what is wrong with it."""

    wishes: Mapping[Ref, Wish] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)


def entries_of(variables: Mapping[str, Any]) -> Iterator[Entry]:
    """The entries of ``{"bdevs": [{"name": …}, …], "portal_groups": None, "discovery_auth": {…}, …}``.

    None means not given.
    """
    for kind in KINDS:
        if kind in SINGLETONS:
            if variables.get(kind):
                yield Entry(kind, variables[kind], kind)
            continue
        collection = COLLECTIONS[kind]
        for index, options in enumerate(variables.get(collection) or ()):
            yield Entry(kind, options, f"{collection}[{index}]")


def declare(entries: Iterable[Entry], node_base: str) -> Declaration:
    """The wishes in ``entries``; ``node_base`` completes the short names of target nodes."""
    wishes: dict[Ref, Wish] = {}
    problems = Problems()
    for entry in entries:
        key = KINDS[entry.kind].KEY
        try:
            ref = (entry.kind, KEYS[entry.kind](entry.options[key], node_base) if key else "")
        except ValueError as error:
            problems.note(entry.at(key), str(error))
            continue
        if ref in wishes:
            problems.note(entry.at(key), f"{label(ref)} is declared in {wishes[ref].entry.path} already.")
            continue
        wishes[ref] = Wish(
            ref,
            {**({key: ref[1]} if key else {}), **_given(entry, problems)},
            entry,
            present=entry.options.get("state", "present") == "present",
            remove_file=bool(entry.options.get("remove_file")),
        )
    return Declaration(wishes, problems)


def _given(entry: Entry, problems: Problems) -> dict[str, Any]:
    """Option -> parsed value, for the options that were given and that parse."""
    given = {}
    for option, parse in OPTIONS[entry.kind].items():
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
