# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the planner looks at: the live state, the goal, and who would notice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set

from .base import Ref
from .bdevs import Bdev
from .goal import Goal
from .model import Capabilities, Object, PortalGroup, Session, State, TargetNode
from .portals import Portal, canonical_host


class Scene:
    """The live state and the goal, with the two questions the planner asks often answered by an index."""

    def __init__(self, current: State, goal: Goal, can: Capabilities) -> None:
        self.current = current
        self.goal = goal
        self.can = can
        self._sessions: defaultdict[str, list[Session]] = defaultdict(list)
        for session in current.sessions:
            self._sessions[session.node].append(session)
        self._users: defaultdict[Ref, dict[str, TargetNode]] = defaultdict(dict)
        self._built: defaultdict[Ref, list[Bdev]] = defaultdict(list)
        for each in current.objects.values():
            if isinstance(each, TargetNode):
                for ref in each.needs():
                    for used in (ref, *self._giver(ref)):
                        self._users[used][each.name] = each
            elif isinstance(each, Bdev) and each.base_bdevs:
                for ref in each.needs():
                    for used in (ref, *self._giver(ref)):
                        self._built[used].append(each)

    def _giver(self, ref: Ref) -> tuple[Ref, ...]:
        """Who uses a bdev that is given uses what gives it."""
        each = self.current.objects.get(ref)
        return tuple(each.needs()) if isinstance(each, Bdev) and each.is_given else ()

    def users_of(self, ref: Ref) -> list[TargetNode]:
        """The live target nodes that use a bdev or a group."""
        return list(self._users[ref].values()) if ref in self._users else []

    def built_on(self, ref: Ref) -> list[Bdev]:
        """The live bdevs that are made of a bdev, or of what it gives."""
        return self._built.get(ref, [])

    def sessions_of(self, node: TargetNode) -> tuple[Session, ...]:
        # The engine tells sessions the part of the name after the first colon.
        _prefix, colon, rest = node.name.partition(":")
        return tuple(self._sessions.get(rest if colon else node.name, ()))

    def sessions_by(self, portals: Set[Portal], group: PortalGroup) -> tuple[Session, ...]:
        """Sessions of the group's nodes that came in, as far as the engine tells, by one of these portals of it."""
        return tuple(
            session
            for node in self.users_of(group.ref)
            for session in self.sessions_of(node)
            if session.portal_group in (None, group.tag) and _may_have_come_by(session, portals)
        )

    def sessions_hit_by_removing(self, each: Object) -> tuple[Session, ...]:
        if isinstance(each, TargetNode):
            return self.sessions_of(each)
        if isinstance(each, PortalGroup):
            return self.sessions_by(frozenset(each.portals), each)
        return ()


def _may_have_come_by(session: Session, portals: Set[Portal]) -> bool:
    """By the address alone: no engine tells the port."""
    try:
        host = canonical_host(session.portal_host)
    except ValueError:
        return bool(portals)
    return any(portal.is_wildcard or portal.host == host for portal in portals)
