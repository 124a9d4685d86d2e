# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which worker serves which target node. Pure.

Nodes whose LUNs stand on a common base bdev, directly or through what is stacked on it, share a worker: only one
process at a time knows the reservations, the order and the lent memory of a logical unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from typing import Final

MAIN: Final = 0
"""The main process, in the place of a worker's number. It alone drives what one process has to own."""


def assign(
    nodes: Mapping[str, Iterable[str]], before: Mapping[str, int], workers: int, of_main: Container[str] = ()
) -> dict[str, int]:
    """The worker, 1 to ``workers``, of each node; MAIN for nodes on a base bdev that is ``of_main``.

    ``nodes`` are names with their base bdevs. A node stays where it was ``before``, unless nodes of other workers share
    a base bdev with it now: then all go where most of them are. From the main process none goes: it cannot be ended to
    be sure that it is done with their disks, so that the others come to it. New ones go where the fewest are.
    """
    groups = _groups(nodes)
    owners: dict[str, int] = {}
    load = dict.fromkeys(range(1, workers + 1), 0)
    homeless = []
    for members in groups:
        owner = _owner(members, nodes, before, of_main, workers)
        if owner is None:
            homeless.append(members)
            continue
        owners.update(dict.fromkeys(members, owner))
        if owner != MAIN:
            load[owner] += len(members)
    for members in homeless:
        owner = min(load, key=lambda worker: (load[worker], worker))
        owners.update(dict.fromkeys(members, owner))
        load[owner] += len(members)
    return {name: owners[name] for name in nodes}


def moves(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """The nodes that go from one worker to another."""
    return {name: (before[name], owner) for name, owner in after.items() if before.get(name, owner) != owner}


def _owner(
    members: list[str],
    nodes: Mapping[str, Iterable[str]],
    before: Mapping[str, int],
    of_main: Container[str],
    workers: int,
) -> int | None:
    """None for a group that nobody serves yet."""
    if any(base in of_main for name in members for base in nodes[name]):
        return MAIN
    if any(before.get(name) == MAIN for name in members):
        return MAIN
    homes = Counter(before[name] for name in members if before.get(name) in range(1, workers + 1))
    if not homes:
        return None
    return min(homes, key=lambda worker: (-homes[worker], worker))


def _groups(nodes: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Nodes that share base bdevs, in the order of the first of each group."""
    first_on: dict[str, str] = {}
    leader = {name: name for name in nodes}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for name, bases in nodes.items():
        for base in bases:
            leader[find(name)] = find(first_on.setdefault(base, name))
    groups: dict[str, list[str]] = {}
    for name in nodes:
        groups.setdefault(find(name), []).append(name)
    return list(groups.values())
