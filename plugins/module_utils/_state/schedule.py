# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order the steps of a plan happen.

Every operation is one step, or two: down and up for a replacement, down and change for an edit that takes something
away first. Edges say which step has to wait for which; steps that wait for the same are one level and travel together.
What is new serves before what is old goes: removals that nothing waits for come last, and the down of a replacement or
an edit as late as its other step allows.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from .base import BDEV, PORTAL_GROUP, Ref
from .bdevs import Bdev
from .drivers import giver_of
from .model import Object, PortalGroup, TargetNode
from .operations import CREATE, DELETE, EDIT, REPLACE, Operation

UP: Final = "up"
DOWN: Final = "down"
CHANGE: Final = "change"

_PARTS: Final = {CREATE: (UP,), EDIT: (CHANGE,), REPLACE: (DOWN, UP), DELETE: (DOWN,)}


def _parts(operation: Operation) -> tuple[str, ...]:
    return (DOWN, CHANGE) if operation.released else _PARTS[operation.action]


class Step(NamedTuple):
    """One of the two halves, or the whole of an operation."""

    part: str
    operation: Operation

    @property
    def completes(self) -> bool:
        """Whether the operation is done with this step; a down that is no removal only begins it."""
        return self.part != DOWN or self.operation.action == DELETE


_Key = tuple[str, Ref]
"""Identifies a step in the graph: its part, and the object it belongs to."""

_Graph = dict[_Key, list[_Key]]
"""Step -> the steps that wait for it."""


def levels(operations: Iterable[Operation]) -> list[list[Step]]:
    """The steps, level by level: every level needs only what the levels before it have done."""
    by_ref = {each.ref: each for each in operations}
    ranks = _ranks(_graph(by_ref))
    result: list[list[Step]] = [[] for _level in range(max(ranks.values(), default=-1) + 1)]
    for (part, ref), level in ranks.items():
        result[level].append(Step(part, by_ref[ref]))
    return [level for level in result if level]


def in_order(operations: Iterable[Operation]) -> list[Operation]:
    """The operations in the order in which they are complete."""
    steps = (step for level in levels(operations) for step in level)
    return [step.operation for step in steps if step.completes]


def removed_early(operations: Collection[Operation]) -> list[Operation]:
    """The portal groups that go before their nodes are edited: replaced ones, and those whose portal another wants."""
    groups = [each for each in operations if each.ref[0] == PORTAL_GROUP and each.removes]
    losers = _conflicts(operations) if groups else {}
    return [each for each in groups if each.action == REPLACE or each.ref in losers]


def _graph(by_ref: Mapping[Ref, Operation]) -> _Graph:
    graph: _Graph = {(part, ref): [] for ref, each in by_ref.items() for part in _parts(each)}
    conflicts = _conflicts(by_ref.values())
    givers = {each.ref[1] for each in by_ref.values() if _is_giver(each)}
    late = _late(by_ref, {ref for winners in conflicts.values() for _part, ref in winners}, givers)
    early = {each.ref for each in removed_early(by_ref.values())}
    for ref, each in by_ref.items():
        comes_again = each.action == REPLACE or bool(each.released)
        if comes_again:
            graph[DOWN, ref].append((UP if each.creates else CHANGE, ref))
        for other in _planned(each.after, by_ref, givers):
            if other.creates:
                graph[UP, other.ref].append((UP if each.creates else CHANGE, ref))
            # What comes again stays until what it needs newly is there.
            if other.action == CREATE and comes_again and other.ref not in late:
                graph[UP, other.ref].append((DOWN, ref))
        for other in _planned(each.before, by_ref, givers):
            # A bdev that is edited beside one that goes is given by it, and it is edited when that is back.
            is_bdev = other.ref[0] == BDEV
            if not other.removes or (is_bdev and (DOWN, ref) not in graph):
                continue
            if each.removes or is_bdev:
                graph[DOWN, ref].append((DOWN, other.ref))
            elif other.ref in early:
                graph[DOWN, other.ref].append((CHANGE, ref))
            else:
                graph[CHANGE, ref].append((DOWN, other.ref))
    for loser, winners in conflicts.items():
        graph[DOWN, loser].extend(winners)
    return graph


def _late(by_ref: Mapping[Ref, Operation], waiting: Collection[Ref], givers: Collection[object]) -> set[Ref]:
    """What comes only after something has gone: who takes something over, and bdevs that are made of such bdevs."""
    late = set(waiting)
    bdevs = [each for each in by_ref.values() if each.creates and isinstance(each.after, Bdev)]
    stacked = [each for each in bdevs if isinstance(each.after, Bdev) and each.after.base_bdevs]
    if stacked:
        late |= {each.ref for each in bdevs if each.action == REPLACE}
    before = -1
    while before != len(late):
        before = len(late)
        late |= {
            each.ref for each in stacked if any(other.ref in late for other in _planned(each.after, by_ref, givers))
        }
    return late


def _planned(each: Object | None, by_ref: Mapping[Ref, Operation], givers: Collection[object]) -> Collection[Operation]:
    """The operations on what an object needs; who needs a bdev that is given needs what gives it."""
    if each is None:
        return ()
    found: dict[Ref, Operation] = {}
    for ref in each.needs():
        if ref in by_ref:
            found[ref] = by_ref[ref]
        giver = giver_of(str(ref[1])) if givers and ref[0] == BDEV else None
        if giver in givers:
            found[BDEV, str(giver)] = by_ref[BDEV, str(giver)]
    return found.values()


def _is_giver(operation: Operation) -> bool:
    each = operation.after or operation.before
    return isinstance(each, Bdev) and each.is_giver


def _conflicts(operations: Collection[Operation]) -> dict[Ref, list[_Key]]:
    """Object that goes -> the steps that take over what only one can have."""
    holders: defaultdict[tuple[object, ...], set[Ref]] = defaultdict(set)
    for each in operations:
        if each.removes or each.released:
            for resource, _wanted in _exclusive(each.of_before(released=True) if each.released else each.before):
                holders[resource].add(each.ref)
    conflicts: defaultdict[Ref, list[_Key]] = defaultdict(list)
    for each in operations if holders else ():
        step = UP if each.creates else CHANGE if each.action == EDIT else None
        if step is not None:
            rivals = {ref for _held, wanted in _exclusive(each.after) for key in wanted for ref in holders.get(key, ())}
            for loser in rivals - {each.ref}:
                conflicts[loser].append((step, each.ref))
    return dict(conflicts)


def _exclusive(each: Object | None) -> Iterator[tuple[tuple[object, ...], list[tuple[object, ...]]]]:
    """What only one object can have, as keys: the one it holds, and the ones that must be free for it.

    A bdev is served by any number of target nodes, or is the base of one bdev.
    """
    if isinstance(each, Bdev):
        for key in (("uuid", each.uuid), ("path", each.path), ("address", each.address)):
            if key[1] is not None:
                yield key, [key]
        for base in each.base_bdevs or ():
            yield ("base", base), [("base", base), ("served", base)]
    elif isinstance(each, TargetNode):
        for lun in each.luns:
            yield ("served", lun.bdev), [("base", lun.bdev)]
    elif isinstance(each, PortalGroup):
        for portal in each.portals:
            on_port = ("port", portal.port, portal.is_ipv6)
            # A wildcard wants the whole port; anything wants that no wildcard holds it.
            held = ("wildcard", *on_port) if portal.is_wildcard else ("portal", *portal)
            yield held, [held, ("wildcard", *on_port), *([on_port] if portal.is_wildcard else [])]
            yield on_port, []


def _ranks(graph: _Graph) -> dict[_Key, int]:
    """Step -> level. Raises RuntimeError if steps wait for each other in a circle, which is a fault of the graph."""
    order = _topological(graph)
    ranks = dict.fromkeys(graph, 0)
    for step in order:
        for follower in graph[step]:
            ranks[follower] = max(ranks[follower], ranks[step] + 1)
    if all(part != DOWN for part, _ref in graph):
        return ranks
    awaited = dict.fromkeys(graph, False)
    for step in reversed(order):
        part, _ref = step
        awaited[step] = part != DOWN or any(awaited[follower] for follower in graph[step])
        if part == DOWN and awaited[step]:
            ranks[step] = min(ranks[follower] for follower in graph[step] if awaited[follower]) - 1
    last = max((ranks[step] for step in graph if awaited[step]), default=-1)
    late = [step for step in order if not awaited[step]]
    for step in late:
        ranks[step] = last + 1
    for step in late:
        for follower in graph[step]:
            ranks[follower] = max(ranks[follower], ranks[step] + 1)
    return ranks


def _topological(graph: _Graph) -> list[_Key]:
    waits = dict.fromkeys(graph, 0)
    for followers in graph.values():
        for follower in followers:
            waits[follower] += 1
    ready = deque(step for step, count in waits.items() if count == 0)
    order = []
    while ready:
        step = ready.popleft()
        order.append(step)
        for follower in graph[step]:
            waits[follower] -= 1
            if waits[follower] == 0:
                ready.append(follower)
    if len(order) < len(graph):
        stuck = ", ".join(f"{part} {ref}" for (part, ref), count in waits.items() if count)
        raise RuntimeError(f"these steps wait for each other: {stuck}")
    return order
