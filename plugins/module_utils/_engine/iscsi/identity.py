# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who logs in, to what, and may it: the keys of a login's first request (RFC 7143 §6.3, §11.12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from . import refusal
from .names import comparable, may_be_initiator
from .node import TargetNode
from .refusal import Redirection, Refusal
from .security import Security
from .session import Session

if TYPE_CHECKING:
    from .target import IscsiTarget


class Origin(NamedTuple):
    """Where a connection comes from: the initiator's address, and the tag of the portal group it came to."""

    address: str
    tag: int


class Wish(NamedTuple):
    """What an initiator may have: a session with ``node`` or, without one, a discovery session."""

    initiator: str
    node: TargetNode | None
    security: Security
    joins: Session | None = None
    """The session that gets one more connection; None for a session of its own."""


def understand(target: IscsiTarget, origin: Origin, keys: Mapping[str, str], isid: bytes, tsih: int) -> Wish:
    """Raises Refusal or Redirection."""
    initiator = keys.get("InitiatorName", "")
    if not initiator:
        raise Refusal(refusal.MISSING, "no InitiatorName")
    if not may_be_initiator(initiator):
        raise Refusal(refusal.INITIATOR_ERROR, f"InitiatorName {initiator[:255]!r} is not an iSCSI name")
    session_type = keys.get("SessionType", "Normal")
    if session_type not in ("Normal", "Discovery"):
        raise Refusal(refusal.SESSION_TYPE, f"SessionType {session_type[:80]!r}")
    if session_type == "Discovery":
        node = None
        auth, what = target.discovery_auth(origin.tag), f"discovery through portal group {origin.tag}"
    else:
        node = _find_node(target, origin, initiator, keys.get("TargetName", ""))
        auth, what = node.auth, f"target node {node.name}"
    security = Security(auth, target.auth_groups.get(auth.chap_group), what)
    joins = _find_session(target, origin, initiator, node, isid, tsih) if tsih else None
    return Wish(initiator, node, security, joins)


def _find_node(target: IscsiTarget, origin: Origin, initiator: str, name: str) -> TargetNode:
    if not name:
        raise Refusal(refusal.MISSING, "no TargetName")
    node = target.find_node(name)
    if node is None:
        raise Refusal(refusal.NOT_FOUND, f"there is no target node {name[:255]!r}")
    redirect = node.redirects.get(origin.tag)
    if redirect is not None and not node.is_closed:
        raise Redirection(node, redirect)
    if not node.admits(origin.tag, initiator, origin.address):
        raise Refusal(
            refusal.NOT_AUTHORIZED,
            f"no initiator group of target node {node.name} admits it through portal group {origin.tag}",
        )
    if node.leaving:
        raise Refusal(refusal.REMOVED, f"target node {node.name} is being removed")
    if not node.enabled:
        raise Refusal(refusal.SERVICE_UNAVAILABLE, f"target node {node.name} is disabled")
    return node


def _find_session(
    target: IscsiTarget, origin: Origin, initiator: str, node: TargetNode | None, isid: bytes, tsih: int
) -> Session:
    """The session that the initiator wants to add a connection to (RFC 7143 §6.3.1)."""
    session = target.sessions.get(tsih)
    if (
        session is None
        or session.isid != isid
        or session.node is not node
        or comparable(session.initiator) != comparable(initiator)
    ):
        raise Refusal(refusal.NO_SUCH_SESSION, f"there is no session with TSIH {tsih} of this initiator and target")
    if session.tag != origin.tag:
        raise Refusal(
            refusal.NOT_IN_THIS_SESSION,
            f"the session came through portal group {session.tag}, this connection through {origin.tag}",
        )
    if node is None:
        raise Refusal(refusal.TOO_MANY_CONNECTIONS, "a discovery session has one connection")
    return session
