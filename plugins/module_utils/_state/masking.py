# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who loses sight of a LUN when it goes or its initiator groups change."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Set

from .base import INITIATOR_GROUP, Ref
from .model import InitiatorGroup, Lun, Object, Session, TargetNode
from .portals import ANY
from .scene import Scene


def losing(live: TargetNode, want: TargetNode, released: Set[object], scene: Scene) -> tuple[Session, ...]:
    """Sessions that see a LUN of ``live`` and do not see it in ``want``, or of which nobody can tell.

    Nobody sees those that are ``released``, even if they come again. A node that is disabled loses all sessions.
    """
    if live.enabled and not want.enabled:
        return scene.sessions_of(live)
    after = {lun.disk: lun.initiator_groups for lun in want.luns}
    narrowed = [
        (lun, () if lun in released else after[lun.disk] or ())
        for lun in live.luns
        if lun in released or after.get(lun.disk, ()) not in ((), lun.initiator_groups)
    ]
    if not narrowed:
        return ()
    return tuple(each for each in scene.sessions_of(live) if _loses(each, live, narrowed, scene))


def _loses(session: Session, node: TargetNode, narrowed: list[tuple[Lun, tuple[int, ...]]], scene: Scene) -> bool:
    group = _came_by(session, node, scene.current.objects)
    return any(
        group is None or (group not in mask and (not lun.initiator_groups or group in lun.initiator_groups))
        for lun, mask in narrowed
    )


def _came_by(session: Session, node: TargetNode, objects: Mapping[Ref, Object]) -> int | None:
    """The initiator group that let the session in: the first that admits it, as at its login. None if none does now."""
    for each in node.maps:
        group = objects.get((INITIATOR_GROUP, each.initiator_group))
        by_portal = session.portal_group in (None, each.portal_group)
        if by_portal and isinstance(group, InitiatorGroup) and _admits(group, session):
            return group.tag
    return None


def _admits(group: InitiatorGroup, session: Session) -> bool:
    """By the name, in the order of the entries, then by the address."""
    if not session.initiator:
        return False
    for entry in group.initiators:
        denied, name = entry.startswith("!"), entry.lstrip("!").lower()
        if name in ("any", "all", session.initiator.lower()):
            return not denied and any(_matches(mask, session.address) for mask in group.netmasks)
    return False


def _matches(mask: str, address: str) -> bool:
    if mask == ANY:
        return True
    network, slash, bits = mask.partition("/")
    try:
        host = ipaddress.ip_address(address.strip("[]"))
        return host in ipaddress.ip_network(network.strip("[]") + slash + bits, strict=False)
    except ValueError:
        return False
