# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes to what exists that SPDK cannot make: portals of a group, and what a target node is like."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..errors import Exists, Invalid, NotFound
from ..facts import MAX_ALIAS_BYTES, MAX_PORTALS_PER_GROUP
from ..scsi.alua import State
from ..scsi.sense import AccessStateChanged
from .portal import Portal, PortalGroup

if TYPE_CHECKING:
    from .node import TargetNode
    from .target import IscsiTarget


def add_portals(target: IscsiTarget, tag: int, addresses: list[tuple[str, str]]) -> None:
    """Serve the group's target nodes at more addresses (host, port); all of them or, when one is refused, none."""
    group = target.portal_group(tag)
    if len(group.portals) + len(addresses) > MAX_PORTALS_PER_GROUP:
        raise Invalid(f"portal group {tag}: it would have more than {MAX_PORTALS_PER_GROUP} portals")
    more = PortalGroup.of(group, [Portal(host, port, tag) for host, port in addresses], group.waiting)
    taken = {portal.key: other.tag for other in target.portal_groups.values() for portal in other.portals}
    for portal in more.portals:
        if portal.key in taken:
            raise Exists(f"portal group {tag}: portal {portal} belongs to portal group {taken[portal.key]}")
        taken[portal.key] = tag
        _refuse_circle(target, group, portal)
    target.open_portals(more)
    group.portals = [*group.portals, *more.portals]


def remove_portals(target: IscsiTarget, tag: int, addresses: list[tuple[str, str]]) -> None:
    """Serve no longer at these addresses; sessions that came there go on. All or none of them."""
    group = target.portal_group(tag)
    gone = []
    for host, port in addresses:
        key = Portal(host, port, tag).key
        portal = next((each for each in group.portals if each.key == key and each not in gone), None)
        if portal is None:
            has = ", ".join(map(str, group.portals))
            raise NotFound(f"portal group {tag}: it has no portal {host}:{port}. It has {has}.")
        gone.append(portal)
    left = [portal for portal in group.portals if portal not in gone]
    if not left:
        raise Invalid(f"portal group {tag}: it would have no portal left. iscsi_delete_portal_group deletes the group.")
    group.portals = left
    for portal in gone:
        portal.close(asyncio.get_running_loop())


def _refuse_circle(target: IscsiTarget, group: PortalGroup, portal: Portal) -> None:
    for node in target.nodes.values():
        redirect = node.redirects.get(group.tag)
        if redirect is not None and (redirect.host, redirect.port) == portal.key:
            raise Invalid(
                f"portal group {group.tag}: target node {node.name} sends its initiators from there to {portal}: "
                "they would go in circles"
            )


def remove_lun(target: IscsiTarget, name: str, lun_id: int) -> None:
    """Take a LUN away; initiators learn of it by a unit attention. The bdev stays."""
    node = target.node(name)
    if lun_id not in node.device.luns:
        known = ", ".join(map(str, node.device.luns))
        raise NotFound(f"target node {node.name}: it has no LUN {lun_id}. Its LUNs: {known or 'none'}.")
    target.drop_lun(node, lun_id)


def set_access_state(target: IscsiTarget, name: str, tag: int, state: State) -> None:
    """What may be done through one portal group (ALUA); initiators learn of it by a unit attention."""
    node = target.node(name)
    if node.set_access_state(target.portal_group(tag), state):
        for lun_id in node.device.luns:
            target.sessions.tell_event(node, lun_id, AccessStateChanged)


def set_options(
    target: IscsiTarget,
    name: str,
    alias: str | None,
    queue_depth: int | None,
    header_digest: bool | None,
    data_digest: bool | None,
) -> None:
    """What is None stays. Sessions that exist keep what they negotiated."""
    node = target.node(name)
    if alias is not None and len(alias.encode()) > MAX_ALIAS_BYTES:
        raise Invalid(f"target node {node.name}: the alias is longer than {MAX_ALIAS_BYTES} bytes")
    if queue_depth is not None:
        most = target.options.max_queue_depth
        node.queue_depth = queue_depth if 1 <= queue_depth <= most else most
    node.alias = node.alias if alias is None else alias
    node.header_digest = node.header_digest if header_digest is None else header_digest
    node.data_digest = node.data_digest if data_digest is None else data_digest


def enable(target: IscsiTarget, name: str) -> TargetNode:
    node = target.node(name)
    node.enabled = True
    return node


def disable(target: IscsiTarget, name: str) -> TargetNode:
    """Let nobody log in any more and ask those who are to log out; who stays is dropped after a while."""
    node = target.node(name)
    if node.enabled:
        node.enabled = False
        target.request_logout(node.name)
    return node
