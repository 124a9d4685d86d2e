# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who serves the target nodes of an engine now, and who has to after a change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Final

from ..bdev.base import Bdev
from ..iscsi.node import TargetNode
from . import ownership, rebuilds
from .ownership import MAIN

if TYPE_CHECKING:
    from ..service import Engine

_CREATE: Final = "iscsi_create_target_node"
SHARING: Final = frozenset({_CREATE, "iscsi_target_node_add_lun", "bdev_raid_add_base_bdev"})
"""Only these can make nodes share what they did not share before."""

Moves = dict[str, "tuple[int, int]"]
"""By target node, the worker it leaves and the one it goes to."""


class Places:
    """``owners`` has the number of the worker of each target node, MAIN for the main process.

    Rebuilds (see :mod:`rebuilds`) are among the target nodes.
    """

    def __init__(self, engine: Engine, workers: int) -> None:
        self.owners: dict[str, int] = {}
        self._engine = engine
        self._workers = workers
        self.disks: dict[str, frozenset[str]] = {}
        """Bdevs at the bottom of each target node, when some came to be shared last."""
        self.disks_before: dict[str, frozenset[str]] = {}
        """The same before that."""
        self.begun: list[str] = []
        self._rebuilds: dict[str, str] = {}
        """By mirror the last rebuild of it, which may be over."""
        self._used: set[str] = set()
        """Bdevs at the bottom of target nodes, and perhaps of some that are gone."""

    def count(self, worker: int) -> int:
        """The nodes of a worker."""
        return sum(self.owners.get(name) == worker for name in self._engine.target.nodes)

    def after(self, methods: Sequence[str]) -> Moves:
        """Take note of a change made by these methods; ``begun`` are the rebuilds that are new then."""
        self.begun = []
        if not any(method in SHARING for method in methods):
            return {}
        if list(methods) == [_CREATE] and self._is_simple():
            return {}
        return self.assign()

    def concerned_by(self, method: str, params: Mapping[str, Any]) -> Iterator[int]:
        """Who serves the target node, or nodes on the disk, that a call names; nobody does so yet when it is new."""
        target, bdevs, name = self._engine.target, self._engine.bdevs, params.get("name")
        if method == _CREATE or not isinstance(name, str):
            return
        node = target.find_node(name) or target.find_node(f"{target.options.node_base}:{name}")
        shown = {node.name} if node is not None else set()
        if name in bdevs:
            bdev = bdevs.get(name)
            unit = target.units.get(bdev)
            if unit is not None:
                shown |= {lun.device.name for lun in unit.luns}
            name = bdev.name
        if name in self._used:
            shown |= {each for each, disks in self.disks.items() if name in disks}
        if name in self._rebuilds:  # a mirror that is gone, but perhaps not what is copied to its bases
            shown.add(self._rebuilds[name])
        yield from (self.owners[each] for each in shown if each in self.owners)

    def _is_simple(self) -> bool:
        """Give the newest node, if it is alone on its disks, to somebody, without a look at thousands of others."""
        nodes = self._engine.target.nodes
        node = next(reversed(nodes.values()))
        bases = _bases_of(node, {})
        if len(self.owners) >= len(nodes) or bases & self._used or bases & self._of_main():
            return False  # among them when owners has nodes that are gone
        loads = Counter(self.owners.values())
        self.owners[node.name] = min(range(1, self._workers + 1), key=lambda worker: loads[worker])
        node.moved = True
        self._used |= bases
        self.disks[node.name] = bases
        return True

    def assign(self) -> Moves:
        nodes = self._bases_of_all()
        before, self.disks_before, self.disks = self.owners, self.disks, nodes
        self.owners = ownership.assign(nodes, before, self._workers, self._of_main())
        self.begun = [name for name in nodes if rebuilds.is_rebuild(name) and name not in before]
        self._rebuilds = {name.partition(" of ")[2]: name for name in nodes if rebuilds.is_rebuild(name)}
        self._used = set().union(*nodes.values())
        for node in self._engine.target.nodes.values():
            node.moved = self.owners[node.name] != MAIN
        return ownership.moves(before, self.owners)

    def showing(self, disks: Set[str]) -> set[str]:
        """The target nodes on any of these bdevs at the bottom."""
        return {name for name, bases in self._bases_of_all().items() if not bases.isdisjoint(disks)} if disks else set()

    def open_units(self, closed: Set[str]) -> None:
        """Units of the main process's nodes are served here, but those on bdevs at the bottom that are ``closed``."""
        if MAIN not in self.owners.values():
            return
        known: dict[Bdev, frozenset[str]] = {}
        for unit in self._engine.target.units:
            is_mine = any(self.owners.get(lun.device.name) == MAIN for lun in unit.luns)
            if unit.is_away and is_mine and closed.isdisjoint(_bases(unit.bdev, known)):
                unit.is_away = False
                unit.refresh()

    def _bases_of_all(self) -> dict[str, frozenset[str]]:
        known: dict[Bdev, frozenset[str]] = {}
        nodes = {node.name: _bases_of(node, known) for node in self._engine.target.nodes.values()}
        return {**nodes, **{name: _bases(mirror, known) for name, mirror in rebuilds.under_way(self._engine)}}

    def _of_main(self) -> set[str]:
        return {bdev.name for attached in self._engine.nvme for bdev in attached.bdevs}


def _bases_of(node: TargetNode, known: dict[Bdev, frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*(_bases(lun.bdev, known) for lun in node.device.luns.values()))


def _bases(bdev: Bdev, known: dict[Bdev, frozenset[str]]) -> frozenset[str]:
    """Names of the bdevs at the bottom of what a bdev is stacked on."""
    found = known.get(bdev)
    if found is None:
        below = bdev.below()
        found = frozenset().union(*(_bases(each, known) for each in below)) if below else frozenset((bdev.name,))
        known[bdev] = found
    return found
