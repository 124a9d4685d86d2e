# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What workers tell unasked, so that it does not end with them: the main process changes as they did."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable, Final

from ..bdev.base import Bdev
from ..bdev.raid import MirrorBdev
from ..iscsi import luggage
from ..rpc.methods.worker import LOSE_MIRROR
from .member import Call, Member

if TYPE_CHECKING:
    from ..service import Engine

_LOG = logging.getLogger(__name__)


class Reports:
    """``follow`` lets all workers make calls."""

    def __init__(self, engine: Engine, follow: Callable[[list[Call]], object]) -> None:
        self._engine = engine
        self._follow = follow

    def take(self, member: Member, words: Mapping[str, Any]) -> None:
        self._EVENTS[words["event"]](self, member, words)

    def _bases_lost(self, member: Member, words: Mapping[str, Any]) -> None:
        """A worker's mirrors lost bases: ours and those of the other workers must not come back to them."""
        for uuid, bases in words["mirrors"].items():
            mirror = self._bdev(uuid)
            if isinstance(mirror, MirrorBdev):
                for lost in [base.name for base in mirror.bases if base.name not in bases]:
                    _LOG.error("%s met an error of bdev %s", member, lost)
                    mirror.lose_named(lost)
                    self._follow([Call(LOSE_MIRROR, {"name": mirror.name, "base": lost})])

    def _unit_changed(self, _member: Member, words: Mapping[str, Any]) -> None:
        """Ours is as the one that is served: whoever serves it next gets it from here.

        Unless it was made anew meanwhile, which the worker has yet to do.
        """
        bdev = self._bdev(words["uuid"])
        unit = self._engine.target.units.get(bdev) if bdev is not None else None
        if unit is not None and unit.made_by <= words["change"]:
            luggage.unpack_unit(unit, words["unit"])

    def _access_changed(self, _member: Member, words: Mapping[str, Any]) -> None:
        node = self._engine.target.find_node(words["node"])
        if node is None or node.device.made_by > words["change"]:
            return
        ours = luggage.pack_access(node.device)
        later = {str(tag) for tag, change in node.device.set_by.items() if change > words["change"]}
        kept = {tag: ours[tag] for tag in later & ours.keys()}
        luggage.unpack_access(node.device, {**words["access"], **kept})

    def _bdev(self, uuid: str) -> Bdev | None:
        return self._engine.bdevs.get(uuid) if uuid in self._engine.bdevs else None

    _EVENTS: Final = {"mirrors": _bases_lost, "unit": _unit_changed, "access": _access_changed}
