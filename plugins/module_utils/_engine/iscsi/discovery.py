# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text requests: SendTargets and what may be negotiated after login (RFC 7143 §11.10, Appendix C)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .addresses import bracketed, family
from .keys import REJECT, Negotiation, our_values
from .node import TargetNode
from .text import Pairs, build_text, parse_text

if TYPE_CHECKING:
    from .connection import Connection


def answer_text(connection: Connection, data: bytes) -> bytes:
    """The text that answers a complete text request. Raises TextError."""
    answers: Pairs = []
    for name, value in parse_text(data):
        if name == "SendTargets":
            answers += send_targets(connection, value)
        else:
            answers += _redeclare(connection, name, value)
    return build_text(answers)


def send_targets(connection: Connection, value: str) -> Pairs:
    """The target nodes that this initiator may log in to, each with its addresses.

    ``All`` is for discovery sessions, a name or nothing (the session's own node) for normal ones too.
    """
    session = connection.open_session
    if value == "All":
        if session.node is not None:
            return [("SendTargets", REJECT)]
        nodes = list(connection.target.nodes.values())
    else:
        node = session.node if not value else connection.target.find_node(value)
        nodes = [node] if node is not None and session.node in (None, node) else []
    answers: Pairs = []
    for node in nodes:
        if node.is_closed:
            continue
        addresses = list(dict.fromkeys(_addresses(connection, node)))
        if addresses:
            answers.append(("TargetName", node.name))
            answers += [("TargetAddress", each) for each in addresses]
    return answers


def _addresses(connection: Connection, node: TargetNode) -> Iterator[str]:
    """Portals that listen, of public portal groups that admit the initiator; a wildcard is the address it came to."""
    initiator = connection.open_session.initiator
    for group in node.portal_groups():
        if group.private or group.waiting or not node.admits(group.tag, initiator, connection.peer):
            continue
        for portal in group.portals:
            address = portal.key[0]
            if portal.is_wildcard:
                if family(address) != family(connection.local):
                    continue  # whoever comes by the other family cannot be told an address of this one
                address = connection.local
            yield f"{bracketed(address)}:{portal.key[1]},{group.tag}"


def _redeclare(connection: Connection, name: str, value: str) -> Pairs:
    agreed, node = connection.parameters, connection.open_session.node
    ours = our_values(connection.target.options, node)
    answered = Negotiation(ours, agreed, discovery=node is None, login=False).answer(name, value)
    connection.limit_output(agreed.peer_receive_limit)
    return [(name, answered)] if answered is not None else []
