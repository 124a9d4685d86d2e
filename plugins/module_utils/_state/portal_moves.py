# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the portals of a group can change while it listens.

A group has a portal at all times. One that keeps some gives up the others first, whoever wants them. One that keeps
none gets the new ones before the old ones go, so nobody else may have the new ones or want the old ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from .model import PortalGroup, TargetNode
from .portals import Portal
from .scene import Scene


def keeps_some(live: PortalGroup, want: PortalGroup) -> bool:
    return not frozenset(live.portals).isdisjoint(want.portals)


def are_possible(live: PortalGroup, want: PortalGroup, scene: Scene) -> bool:
    """For an engine that adds portals to a group and removes them."""
    old, new = frozenset(live.portals) - frozenset(want.portals), frozenset(want.portals) - frozenset(live.portals)
    if any(_sends_to(node, live.tag, old | new) for node in _nodes(live, scene)):
        # No group has a portal to which its own initiators are sent, at no time.
        return False
    if keeps_some(live, want):
        return True
    others = [
        portal
        for objects in (scene.current.objects, scene.goal.objects)
        for each in objects.values()
        if isinstance(each, PortalGroup) and each.tag != live.tag
        for portal in each.portals
    ]
    return not any(each.overlaps(portal) for each in old | new for portal in others) and not any(
        each.overlaps(portal) for each in new for portal in old
    )


def _nodes(group: PortalGroup, scene: Scene) -> Iterator[TargetNode]:
    """The nodes of the group, as they are and as they shall be."""
    yield from scene.users_of(group.ref)
    for each in scene.goal.objects.values():
        if isinstance(each, TargetNode) and each.redirects:
            yield each


def _sends_to(node: TargetNode, tag: int, portals: Set[Portal]) -> bool:
    return any(each.portal_group == tag and each.address in portals for each in node.redirects)
