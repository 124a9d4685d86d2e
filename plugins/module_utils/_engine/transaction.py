# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many changes as one: all of them or none, on disk and live."""

from __future__ import annotations

import asyncio
import copy
import logging
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .bdev.aio import AioBdev
from .bdev.base import Bdev
from .bdev.qos import RateLimits
from .bdev.raid import MirrorBdev
from .bdev.tap import tap_of
from .config import Entry
from .errors import EngineError
from .iscsi.node import TargetNode
from .iscsi.portal import Portal, PortalGroup
from .rpc.dispatch import Reply
from .rpc.method import INVALID_PARAMS, RpcError
from .rpc.methods.bdev import resized
from .scsi.unit import Options as LunOptions

if TYPE_CHECKING:
    from .service import Engine

_LOG = logging.getLogger(__name__)

_KINDS: Final = ("portal_groups", "initiator_groups", "nodes", "auth_groups")
_BEHIND: Final = frozenset({"device", "portals", "leaving"})
"""What of an object is not put back by copying: it has effects elsewhere."""
_APPLY: Final = "engine_apply"
_LOSING: Final = frozenset({"bdev_malloc_delete", "bdev_raid_add_base_bdev", "bdev_raid_remove_base_bdev"})
_HARDWARE: Final = "bdev_nvme_"
_CALLS_PER_TURN: Final = 32
_CONTAINERS: Final = (list, dict, set)


class Call(NamedTuple):
    method: str
    params: dict[str, Any]

    @property
    def loses_data(self) -> bool:
        """It cannot be undone."""
        return self.method in _LOSING or bool(self.params.get("remove_file"))


async def apply(engine: Engine, calls: list[Call]) -> list[Any]:
    """Make the calls in order; gives their results. Raises RpcError, and then nothing is changed."""
    _check(engine, calls)
    results = []
    async with engine.dispatcher.alone():
        with engine.store.frozen(), engine.workers_waiting():
            savepoint = Savepoint(engine, calls)
            try:
                for number, call in enumerate(calls):
                    results.append(await _make(engine, number, call))
                    if number % _CALLS_PER_TURN == 0:
                        await asyncio.sleep(0)  # many of them must not hold up the disks
            except BaseException:
                await asyncio.shield(savepoint.restore())
                raise
    return results


async def _make(engine: Engine, number: int, call: Call) -> Any:
    reply = engine.dispatcher.begin_inside({"id": number, "method": call.method, "params": call.params})
    answer = (reply if isinstance(reply, Reply) else await reply).answer or {}
    if "error" in answer:
        raise _named(number, call, RpcError(answer["error"]["code"], answer["error"]["message"]))
    return answer["result"]


def _check(engine: Engine, calls: Iterable[Call]) -> None:
    """Refuse what can be refused by looking at it."""
    lost = None
    for number, call in enumerate(calls):
        try:
            method = engine.dispatcher.check(call.method, call.params)
        except RpcError as error:
            raise _named(number, call, error) from None
        if not method.mutates or call.method == _APPLY:
            raise _named(number, call, RpcError(INVALID_PARAMS, "Invalid parameters: it is no change of its own"))
        if call.method.startswith(_HARDWARE):
            why = "Invalid parameters: whether a controller can be had again is not known. Call it by itself."
            raise _named(number, call, RpcError(INVALID_PARAMS, why))
        if lost is not None:
            why = f"Invalid parameters: it comes after {lost}, which cannot be undone. Put what deletes data last."
            raise _named(number, call, RpcError(INVALID_PARAMS, why))
        lost = call.method if call.loses_data or _breaks_mirror(engine, call) else None


def _breaks_mirror(engine: Engine, call: Call) -> bool:
    """Whether it takes a disk from a mirror that goes on without, and has changed when the disk comes back."""
    if not call.method.endswith("_delete"):
        return False
    named = {call.params.get(key) for key in ("name", "base_bdev")}
    going = {bdev for bdev in engine.bdevs if bdev.name in named or bdev.uuid in named}
    while True:
        above = {bdev for bdev in engine.bdevs if not going.isdisjoint(bdev.below())} - going
        if any(isinstance(bdev, MirrorBdev) for bdev in above):
            return True
        if not above:
            return False
        going |= above


def _named(number: int, call: Call, error: RpcError) -> RpcError:
    return RpcError(error.code, f"{error.message} (calls[{number}], {call.method[:128]}; nothing was changed)")


class _Lun(NamedTuple):
    bdev_name: str
    options: LunOptions
    mask: tuple[int, ...]

    def is_shown_by(self, other: _Lun) -> bool:
        """The same but for who sees it."""
        return (self.bdev_name, self.options) == (other.bdev_name, other.options)


class Savepoint:
    """The live configuration as it was, to go back to."""

    def __init__(self, engine: Engine, calls: Iterable[Call]) -> None:
        target = engine.target
        self._engine = engine
        self._tables: dict[str, dict[Any, Any]] = {kind: dict(getattr(target, kind)) for kind in _KINDS}
        owners = [target.options, *(each for table in self._tables.values() for each in table.values())]
        self._values = [(owner, _copied(vars(owner))) for owner in owners]
        self._portals: dict[int, list[Portal]] = {
            tag: list(group.portals) for tag, group in target.portal_groups.items()
        }
        self._ports = {name: dict(node.device.ports) for name, node in target.nodes.items()}
        self._set_by = {name: dict(node.device.set_by) for name, node in target.nodes.items()}
        self._histograms = {name: node.device.histogram for name, node in target.nodes.items()}
        self._luns = {name: _luns(node) for name, node in target.nodes.items()}
        self._units = {unit.bdev.name: unit for unit in target.units}
        self._bdevs: dict[str, Bdev] = {bdev.name: bdev for bdev in engine.bdevs}
        self._mirrors = {
            bdev.name: (dict(bdev.added_by), bdev.rebuild.target.name if bdev.rebuild is not None else None)
            for bdev in engine.bdevs
            if isinstance(bdev, MirrorBdev)
        }
        made = {bdev.name: bdev.config() for bdev in engine.bdevs}
        self._recipes = {name: Entry(*call) for name, call in made.items() if call is not None}
        self._limits = {bdev.name: bdev.tap.limits if bdev.tap else RateLimits() for bdev in engine.bdevs}
        self._settings = [(bdev, bdev.settings()) for bdev in engine.bdevs]
        self._rebuild_options = dict(engine.tuning.raid)
        self._unrestored = list(engine.store.unrestored)
        named = {str(call.params.get("filename", "")) for call in calls}
        self._absent_files = {path for path in named if path and not os.path.exists(path)}

    async def restore(self) -> None:
        """What cannot be put back is logged; everything else is."""
        self._restore_portals()
        self._restore_objects()
        await self._restore_bdevs()
        self._restore_luns()
        self._restore_units()
        self._engine.tuning.raid.update(self._rebuild_options)
        self._engine.store.unrestored = self._unrestored

    def _restore_portals(self) -> None:
        target, loop = self._engine.target, asyncio.get_running_loop()
        wanted = {portal for portals in self._portals.values() for portal in portals}
        live = {portal for group in target.portal_groups.values() for portal in group.portals}
        for portal in live - wanted:
            portal.close(loop)
        for tag, portals in self._portals.items():
            group: PortalGroup = self._tables["portal_groups"][tag]
            group.portals = portals
            lost = [portal for portal in portals if portal not in live]
            if lost:
                waits = dict(self._values_of(group))["waiting"]
                _try(target.open_portals, PortalGroup.of(group, lost, waits))

    def _restore_objects(self) -> None:
        target = self._engine.target
        for node in target.nodes.values():
            if self._tables["nodes"].get(node.name) is not node:
                target.request_logout(node.name)
                node.device.close()
        for kind, table in self._tables.items():
            live: dict[Any, Any] = getattr(target, kind)
            live.clear()
            live.update(table)
        for owner, values in self._values:
            vars(owner).update(values)
        for node in target.nodes.values():
            if node.leaving:
                node.leaving = False
                if target.elsewhere is not None:
                    target.elsewhere.stay(node)
            node.device.set_ports(list(self._ports[node.name]))
            node.device.set_access(self._ports[node.name])
            node.device.set_by = self._set_by[node.name]  # nobody else makes this change
            node.device.histogram = self._histograms[node.name]
        target.index_nodes()

    def _values_of(self, owner: Any) -> Mapping[str, Any]:
        return next(values for each, values in self._values if each is owner)

    async def _restore_bdevs(self) -> None:
        engine = self._engine
        for bdev in reversed(list(engine.bdevs)):
            if self._bdevs.get(bdev.name) is not bdev:
                engine.remove_bdev(bdev)
                if isinstance(bdev, AioBdev) and bdev.filename in self._absent_files:
                    _try(bdev.remove_file)
        for name, recipe in self._recipes.items():
            if name not in engine.bdevs:
                try:
                    await engine.attempt(recipe)
                except RpcError as error:
                    _LOG.error("bdev %s could not be put back: %s", name, error)
        self._restore_mirrors()
        live = set(engine.bdevs)
        for bdev, settings in self._settings:
            if bdev in live and bdev.settings() != settings:
                blocks = bdev.num_blocks
                vars(bdev).update(settings)
                resized(engine, bdev, blocks)
        for name, limits in self._limits.items():
            if name in engine.bdevs:
                bdev = engine.bdevs.get(name)
                if (bdev.tap.limits if bdev.tap else RateLimits()) != limits:
                    tap_of(bdev).set_limits(limits)
        engine.bdevs.sort(list(self._bdevs))

    def _restore_mirrors(self) -> None:
        """One that is made anew is still the one that workers have, and tell of."""
        engine = self._engine
        for name, (added_by, target) in self._mirrors.items():
            mirror = engine.bdevs.get(name) if name in engine.bdevs else None
            if mirror is self._bdevs[name] or not isinstance(mirror, MirrorBdev):
                continue
            if target is not None and target in engine.bdevs:
                _try(mirror.add, engine.bdevs.get(target), engine.tuning.raid, engine.is_alone)
            mirror.added_by = added_by

    def _restore_luns(self) -> None:
        for name, luns in self._luns.items():
            node = self._engine.target.nodes[name]
            for lun_id, lun in _luns(node).items():
                if lun_id not in luns or not lun.is_shown_by(luns[lun_id]):
                    self._engine.target.drop_lun(node, lun_id)
            for lun_id, lun in luns.items():
                if lun_id not in node.device.luns:
                    _try(self._engine.target.add_lun, name, lun.bdev_name, lun_id, *lun.options)
            for lun_id, lun in luns.items():
                if lun_id in node.device.luns and node.device.luns[lun_id].mask != lun.mask:
                    node.device.mask(lun_id, lun.mask)
            node.device.sort(luns)

    def _restore_units(self) -> None:
        """A unit that nobody showed for a moment has its reservations and modes back."""
        for unit in self._engine.target.units:
            before = self._units.get(unit.bdev.name)
            if before is not None and before is not unit:
                unit.resume(before)


def _luns(node: TargetNode) -> dict[int, _Lun]:
    return {lun.id: _Lun(lun.bdev.name, lun.options, lun.mask) for lun in node.device.luns.values()}


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    kept = ((name, value) for name, value in values.items() if name not in _BEHIND)
    return {name: copy.copy(value) if isinstance(value, _CONTAINERS) else value for name, value in kept}


def _try(function: Any, *arguments: Any) -> None:
    try:
        function(*arguments)
    except EngineError as error:
        _LOG.error("something could not be put back: %s", error)
