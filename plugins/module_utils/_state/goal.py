# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state that a declaration aims at: the live objects, with the wishes laid over them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Final

from .base import AUTH_GROUP, BDEV, INITIATOR_GROUP, PORTAL_GROUP, SINGLETONS, TARGET_NODE, Ref, changes, label
from .bdevs import Bdev, Qos
from .declaration import Declaration, Wish
from .drivers import DRIVERS, GIVEN, giver_of
from .model import KINDS, Object, State
from .text import Problems


@dataclass(frozen=True)
class Goal:
    """What shall be there in the end, and why the rest of the live objects shall not."""

    objects: Mapping[Ref, Object]
    doomed: Mapping[Ref, str]
    wishes: Mapping[Ref, Wish]
    coming: Mapping[str, Bdev] = field(default_factory=dict)
    """Name -> NVMe controller or split that is made, or made anew, on the way. What it gives is not there yet."""

    def is_coming(self, bdev: str) -> bool:
        """Whether it may be there once what gives it is made."""
        giver = self.coming.get(giver_of(bdev) or "")
        return giver is not None and giver.may_give(bdev)

    def path(self, ref: Ref, option: str) -> str:
        """Where ``option`` of the object stands in the variables; for an undeclared object its name."""
        return self.wishes[ref].at(option) if ref in self.wishes else label(ref)


def aim(
    current: State, declaration: Declaration, problems: Problems, *, prune: bool = False, ignore: Sequence[str] = ()
) -> Goal:
    """The goal of ``declaration``. New objects that lack something are left out and noted in ``problems``."""
    objects = dict(current.objects)
    doomed: dict[Ref, str] = {}
    late: list[Wish] = []
    for ref, wish in declaration.wishes.items():
        live = current.get(ref)
        if not wish.present:
            if objects.pop(ref, None) is not None:
                doomed[ref] = "declared absent"
        elif live is not None:
            objects[ref] = live.edited(wish.given)
        elif ref[0] == BDEV and "type" not in wish.given and giver_of(str(ref[1])) is not None:
            late.append(wish)
        elif _complete(wish, problems):
            objects[ref] = KINDS[ref[0]].create(wish.given)
    coming = _coming(current, objects)
    for wish in late:
        giver = coming.get(giver_of(str(wish.ref[1])) or "")
        if giver is not None and giver.may_give(str(wish.ref[1])):
            objects[wish.ref] = Bdev.create({"type": GIVEN[giver.type], **wish.given})
        else:
            _complete(wish, problems)
    if prune:
        for ref in _prunable(current, objects, declaration, ignore):
            del objects[ref]
            doomed[ref] = "not declared"
    _end_given(objects, doomed, declaration, coming, problems)
    if prune:
        objects.update((each.ref, replace(each, qos=Qos())) for each in _limited(objects, declaration, ignore))
    return Goal(objects, doomed, declaration.wishes, coming)


def _coming(current: State, objects: Mapping[Ref, Object]) -> dict[str, Bdev]:
    """Controllers and splits that are new, or others than before."""
    givers = (each for each in objects.values() if isinstance(each, Bdev) and each.is_giver)
    return {each.name: each for each in givers if _is_new(each, current.get(each.ref))}


def _is_new(giver: Bdev, live: Object | None) -> bool:
    return live is None or bool(changes(live, giver))


def _end_given(
    objects: dict[Ref, Object],
    doomed: dict[Ref, str],
    declaration: Declaration,
    coming: Mapping[str, Bdev],
    problems: Problems,
) -> None:
    """What is given ends with what gives it, and with a split that has fewer parts or another kind of bdevs."""
    for ref in [ref for ref, each in objects.items() if isinstance(each, Bdev) and each.is_given]:
        giver = next(iter(objects[ref].needs()), ref)
        anew = coming.get(str(giver[1]))
        if giver not in doomed and (anew is None or anew.may_give(str(ref[1]))):
            continue
        del objects[ref]
        doomed[ref] = f"{giver[1]} goes" if giver in doomed else f"{giver[1]} does not give it any more"
        wish = declaration.wishes.get(ref)
        if wish is not None:
            problems.note(wish.at("name"), f"{label(ref)} cannot stay: {doomed[ref]}.")


def _prunable(
    current: State, objects: Mapping[Ref, Object], declaration: Declaration, ignore: Sequence[str]
) -> list[Ref]:
    """Live objects that nobody declared, that are not ignored and that nothing which stays needs."""
    undeclared = [ref for ref in current.objects if ref in objects and ref not in declaration.wishes]
    candidates = {ref for ref in undeclared if not _ignored(ref, ignore) and _is_managed(objects[ref])}
    if not candidates:
        return []
    roots = (
        ref for ref, each in objects.items() if ref not in candidates and not _is_undeclared_gift(each, declaration)
    )
    kept = _closure(roots, objects)
    return [ref for ref in undeclared if ref in candidates and ref not in kept]


def _limited(objects: Mapping[Ref, Object], declaration: Declaration, ignore: Sequence[str]) -> list[Bdev]:
    """What is given goes only with what gives it, but loses limits that nobody declares any more: these are they.

    What is ignored keeps those of what it needs and of what it gives.
    """
    given = [each for each in objects.values() if isinstance(each, Bdev) and each.is_given]
    limited = [each for each in given if any(each.qos or ()) and each.ref not in declaration.wishes]
    if not limited:
        return []
    ignored = {ref for ref in objects if ref not in declaration.wishes and _ignored(ref, ignore)}
    kept = _closure(ignored, objects)
    givers = {each.ref: next(each.needs(), each.ref) for each in limited}
    return [
        each
        for each in limited
        if each.ref not in kept
        and givers[each.ref] not in ignored
        and givers[each.ref] in objects  # else it went while the engine was asked
        and _is_managed(objects[givers[each.ref]])
    ]


def _is_managed(each: Object) -> bool:
    return each.kind not in SINGLETONS and (not isinstance(each, Bdev) or each.managed)


def _is_undeclared_gift(each: Object, declaration: Declaration) -> bool:
    """A bdev that is given does not keep what gives it; whoever uses it does."""
    return isinstance(each, Bdev) and each.is_given and each.ref not in declaration.wishes


def _ignored(ref: Ref, patterns: Iterable[str]) -> bool:
    """A pattern is compared with the key, or with KIND/KEY if it has a slash."""
    kind, key = ref
    return any(fnmatchcase(f"{kind}/{key}" if "/" in pattern else str(key), pattern) for pattern in patterns)


def _closure(refs: Iterable[Ref], objects: Mapping[Ref, Object]) -> set[Ref]:
    """``refs`` and everything they need."""
    found: set[Ref] = set()
    waiting = list(refs)
    while waiting:
        ref = waiting.pop()
        if ref not in found and ref in objects:
            found.add(ref)
            waiting.extend(objects[ref].needs())
    return found


def _complete(wish: Wish, problems: Problems) -> bool:
    lacking = list(_MISSING.get(wish.ref[0], _nothing)(wish))
    for option, text in lacking:
        # An option that was given and did not parse has its problem already.
        if wish.entry.options.get(option) is None:
            problems.note(wish.at(option), f"{label(wish.ref)} does not exist yet and needs {text}.")
    return not lacking


def _missing_of_bdev(wish: Wish) -> Iterator[tuple[str, str]]:
    kind = wish.given.get("type")
    if kind is None:
        yield "type", "a type, such as malloc or aio"
        return
    for option, words in DRIVERS[kind].needs:
        if option not in wish.given:
            yield option, words


def _nothing(_wish: Wish) -> Iterator[tuple[str, str]]:
    return iter(())


def _missing_of_auth_group(wish: Wish) -> Iterator[tuple[str, str]]:
    if "secrets" not in wish.given:
        yield "secrets", "at least one secret"


def _missing_of_portal_group(wish: Wish) -> Iterator[tuple[str, str]]:
    if "portals" not in wish.given:
        yield "portals", "at least one portal"


def _missing_of_initiator_group(wish: Wish) -> Iterator[tuple[str, str]]:
    if not {"initiators", "netmasks"} & set(wish.given):
        yield "initiators", "initiators, netmasks or both; ANY lets everybody in"


def _missing_of_target_node(wish: Wish) -> Iterator[tuple[str, str]]:
    if "luns" not in wish.given:
        yield "luns", "LUN 0"
    if "maps" not in wish.given:
        yield "maps", "at least one map of a portal group to an initiator group"


_MISSING: Final = {
    BDEV: _missing_of_bdev,
    AUTH_GROUP: _missing_of_auth_group,
    PORTAL_GROUP: _missing_of_portal_group,
    INITIATOR_GROUP: _missing_of_initiator_group,
    TARGET_NODE: _missing_of_target_node,
}
