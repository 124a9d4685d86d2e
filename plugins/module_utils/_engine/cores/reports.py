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
from .member import Member

if TYPE_CHECKING:
    from ..service import Engine

_LOG = logging.getLogger(__name__)


class Reports:
    """``rebuilds`` tells whether the rebuild of a mirror is at a worker."""

    def __init__(self, engine: Engine, rebuilds: Callable[[Member, MirrorBdev], bool]) -> None:
        self._engine = engine
        self._rebuilds = rebuilds

    def take(self, member: Member, words: Mapping[str, Any]) -> None:
        self._EVENTS[words["event"]](self, member, words)

    def _mirror_changed(self, member: Member, words: Mapping[str, Any]) -> None:
        """A worker's mirror lost a base: ours, and by that those of the other workers, must not come back to it.

        Or it has made one the same as the others: they may.
        """
        mirror, base = self._mirror(words), words["base"]
        if mirror is None:
            return
        if not words["gained"]:
            _LOG.error("%s met an error of bdev %s", member, base)
            mirror.lose_named(base)
        elif self._rebuilds(member, mirror):
            mirror.gain_named(base)

    def _rebuild_got_on(self, member: Member, words: Mapping[str, Any]) -> None:
        mirror = self._mirror(words)
        if mirror is not None and mirror.rebuild is not None and self._rebuilds(member, mirror):
            mirror.rebuild.copied = words["copied"]

    def _mirror(self, words: Mapping[str, Any]) -> MirrorBdev | None:
        """If the base that is told of is, or becomes, one of its; and was so when the worker told."""
        mirror, name = self._bdev(words["mirror"]), words["base"]
        if not isinstance(mirror, MirrorBdev) or all(base.name != name for base in mirror.below()):
            return None
        return mirror if mirror.added_by.get(name, 0) <= words["change"] else None

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

    _EVENTS: Final = {
        "mirror": _mirror_changed,
        "rebuild": _rebuild_got_on,
        "unit": _unit_changed,
        "access": _access_changed,
    }
