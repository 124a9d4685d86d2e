# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LUN masking: which LUNs of a target node an initiator sees."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..errors import Busy, Invalid, NotFound
from .access import InitiatorGroup
from .node import TargetNode

if TYPE_CHECKING:
    from .connection import Connection
    from .session import Session
    from .target import IscsiTarget


def set_mask(target: IscsiTarget, name: str, lun_id: int, tags: list[int]) -> None:
    """Show a LUN only to initiators that one of these groups admits; to everybody when there is none."""
    node = target.node(name)
    if lun_id not in node.device.luns:
        known = ", ".join(map(str, node.device.luns))
        raise NotFound(f"target node {node.name}: it has no LUN {lun_id}. Its LUNs: {known or 'none'}.")
    groups = mask_of(target, node.name, lun_id, tags)
    if groups:
        node.masks[lun_id] = groups
    else:
        node.masks.pop(lun_id, None)
    show(target, node)


def mask_of(target: IscsiTarget, name: str, lun_id: int, tags: list[int]) -> list[InitiatorGroup]:
    """The groups of these tags. Raises NotFound or Invalid."""
    if len(set(tags)) < len(tags):
        raise Invalid(f"target node {name}: LUN {lun_id}: an initiator group is given twice")
    try:
        return [target.initiator_group(tag) for tag in tags]
    except NotFound as error:
        raise NotFound(f"target node {name}: LUN {lun_id}: {error}") from None


def check_unused(target: IscsiTarget, group: InitiatorGroup) -> None:
    """Without its group a LUN would be seen by everybody or nobody. Raises Busy."""
    for node in target.nodes.values():
        for lun_id, groups in node.masks.items():
            if group in groups:
                raise Busy(
                    f"initiator group {group.tag} decides who sees LUN {lun_id} of target node {node.name}. "
                    "iscsi_target_node_set_lun_mask changes that."
                )


def show(target: IscsiTarget, node: TargetNode) -> None:
    """What the initiators of a node see is to be looked at again; whoever sees something else now learns of it."""
    for session in target.sessions.of_node(node):
        for connection in list(session.connections.values())[:1]:
            restrict(connection, session)
    node.device.look_again()


def restrict(connection: Connection, session: Session) -> None:
    """Say what a session may see, from where its connection comes; ``nexus.look()`` makes it so."""
    node, nexus = session.node, session.nexus
    if node is not None and nexus is not None:
        nexus.sees = partial(_sees, node, session.initiator, connection.peer) if node.masks else None


def _sees(node: TargetNode, initiator: str, address: str, lun_id: int) -> bool:
    groups = node.masks.get(lun_id)
    return groups is None or any(group.verdict(initiator, address) for group in groups)
