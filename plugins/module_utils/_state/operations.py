# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan consists of: operations, as data that print well."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from .base import PORTAL_GROUP, Ref, label
from .bdevs import Bdev
from .model import Lun, Map, Object, PortalGroup, Session, TargetNode
from .portals import Portal

CREATE: Final = "create"
EDIT: Final = "edit"
REPLACE: Final = "replace"
DELETE: Final = "delete"


@dataclass(frozen=True)
class Operation:
    """One object to create, edit while it serves, replace (remove and create again) or delete.

    ``risks`` say what it costs (``loses …``) and ``sessions`` whom it hits: either needs force. So does a replacement
    without them, because who logs in meanwhile finds nothing.
    ``detached`` are maps of a target node that end because their portal group goes away before the node is edited,
    ``released`` what an edit takes away first, LUNs of a target node, portals of a portal group or base bdevs of a
    mirror, so that others can have it or it can come again, and ``expects`` the bdevs that an NVMe controller or a
    split has to give.
    """

    action: str
    before: Object | None
    after: Object | None
    why: str
    risks: tuple[str, ...] = ()
    sessions: tuple[Session, ...] = ()
    detached: frozenset[Map] = frozenset()
    released: frozenset[Lun | Portal | str] = frozenset()
    remove_file: bool = False
    expects: tuple[str, ...] = ()
    ref: Ref = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        each = self.after or self.before
        if each is None:
            raise ValueError("an operation has an object before or after it")
        object.__setattr__(self, "ref", each.ref)

    @property
    def removes(self) -> bool:
        return self.action in (REPLACE, DELETE)

    @property
    def creates(self) -> bool:
        return self.action in (CREATE, REPLACE)

    @property
    def needs_force(self) -> bool:
        return bool(self.risks or self.sessions) or self.action == REPLACE

    def of_before(self, *, released: bool) -> Object | None:
        """The object before, with nothing but what is ``released``, or with all that is not."""
        before = self.before
        if isinstance(before, TargetNode):
            return replace(before, luns=tuple(lun for lun in before.luns if (lun in self.released) == released))
        if isinstance(before, PortalGroup):
            portals = tuple(portal for portal in before.portals if (portal in self.released) == released)
            return replace(before, portals=portals)
        if isinstance(before, Bdev):
            bases = tuple(base for base in before.base_bdevs or () if (base in self.released) == released)
            return replace(before, base_bdevs=bases)
        return before

    def __str__(self) -> str:
        text = f"{self.action} {label(self.ref)}"
        if self.action != CREATE:
            text += f": {self.why}"
        return ", ".join([text, *self.risks, *self._hits()])

    def _hits(self) -> list[str]:
        """What happens to the sessions. Those that came by a portal group outlive it, but cannot come back."""
        if not self.sessions:
            return []
        count = len(self.sessions)
        return [f"{self._hit()} {count} session{'' if count == 1 else 's'}"]

    def _hit(self) -> str:
        if self.ref[0] == PORTAL_GROUP:
            return "closes the portal of"
        if self.action != EDIT:
            return "drops"
        before, after = self.before, self.after
        if isinstance(before, TargetNode) and isinstance(after, TargetNode) and before.enabled and not after.enabled:
            return "logs out"
        return "takes a LUN from" if self.released else "hides a LUN from"

    def refusal(self) -> str:
        """Why this is not done without force, with the initiators it would hit."""
        who = ", ".join(str(session) for session in self.sessions)
        named = f": {who}" if who else ""
        away = "" if self.risks or self.sessions else ", which is away meanwhile"
        return f"{self}{away}{named}. Nothing was changed. Set force: true to allow it."


_Kind = TypeVar("_Kind")


def as_kind(kind: type[_Kind], each: object) -> _Kind:
    """``each``, which this kind of step always has."""
    if not isinstance(each, kind):
        raise TypeError(f"a step on {each!r}, not on a {kind.__name__}")
    return each
