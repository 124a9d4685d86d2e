# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The login phase (RFC 7143 §6, §11.12): from the first PDU of a connection to full feature phase."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import Busy
from . import pdu
from .auth import Auth
from .keys import RECEIVE_LIMIT, Negotiation, Parameters, our_values
from .names import comparable, is_name
from .node import Redirect, TargetNode
from .session import Session
from .text import TextError, build_text, parse_text

if TYPE_CHECKING:
    from .target import IscsiTarget

_log = logging.getLogger(__name__)

SECURITY, OPERATIONAL, FULL_FEATURE = 0, 1, 3
_MAX_TEXT: Final = 65536
_MAX_PDUS: Final = 64
_TRANSITIONS: Final = frozenset({(0, 1), (0, 3), (1, 3)})


class Refusal(Exception):
    """A login that fails: status class and detail of RFC 7143 §11.13.5."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Redirection(Exception):
    """A login that is to be tried at another address (RFC 7143 §11.13.5)."""

    def __init__(self, node: TargetNode, redirect: Redirect) -> None:
        super().__init__(f"sent from target node {node.name} to {redirect}")
        self.redirect = redirect


_MOVED_TEMPORARILY: Final = 0x0101
_INITIATOR_ERROR: Final = 0x0200
_AUTHENTICATION_FAILED: Final = 0x0201
_NOT_AUTHORIZED: Final = 0x0202
_NOT_FOUND: Final = 0x0203
_REMOVED: Final = 0x0204
_VERSION: Final = 0x0205
_TOO_MANY_CONNECTIONS: Final = 0x0206
_MISSING: Final = 0x0207
_SESSION_TYPE: Final = 0x0209
_NO_SUCH_SESSION: Final = 0x020A
_INVALID_REQUEST: Final = 0x020B
_OUT_OF_RESOURCES: Final = 0x0302


class Request(NamedTuple):
    """The fields of a Login Request, in the order of ``pdu.LOGIN_PDU``."""

    flags: int
    version_max: int
    version_min: int
    isid: bytes
    tsih: int
    itt: int
    cid: int
    cmd_sn: int
    exp_stat_sn: int

    @property
    def stage(self) -> int:
        return self.flags >> 2 & 3

    @property
    def next_stage(self) -> int:
        return self.flags & 3


class Reply(NamedTuple):
    """What to send; when the login is complete also the session, new or one that the connection joins."""

    response: list[bytes]
    session: Session | None = None
    parameters: Parameters | None = None
    """What this connection agreed on. Those of a new session are the same object."""
    failed: bool = False


class Login:
    """One connection's login. ``address`` is the initiator's; ``tag`` that of the portal group it came to."""

    def __init__(self, target: IscsiTarget, tag: int, address: str) -> None:
        self._target = target
        self._tag = tag
        self._address = address
        self._first: Request | None = None
        self._stage = SECURITY
        self._text = b""
        self._pdus = 0
        self._stat_sn = 0
        self._initiator = ""
        self._node: TargetNode | None = None
        self._discovery = False
        self._identified = False
        self._declared = False
        self._agreed = Parameters()
        self._joins: Session | None = None

    @property
    def stat_sn(self) -> int:
        """The next StatSN of the connection."""
        return self._stat_sn

    def handle(self, header: memoryview, at: int, data: memoryview) -> Reply:
        """Take one Login Request; a refusal or a redirection is answered and logged."""
        request = Request(*pdu.LOGIN_PDU.unpack_from(header, at))
        if self._first is None:
            self._stat_sn = request.exp_stat_sn
        try:
            pairs, flags, session = self._step(request, data)
        except Redirection as redirection:
            _log.info("%s from %s is %s", self._initiator, self._address, redirection)
            text = build_text([("TargetAddress", str(redirection.redirect))])
            return Reply(self._response(request, 0, _MOVED_TEMPORARILY, 0, text), failed=True)
        except Refusal as refusal:
            who = self._initiator or "an unnamed initiator"
            _log.warning("login of %s from %s refused: %s", who, self._address, refusal)
            return Reply(self._response(request, 0, refusal.status, 0, b""), failed=True)
        tsih = session.tsih if session is not None else request.tsih
        return Reply(self._response(request, flags, 0, tsih, build_text(pairs)), session, self._agreed)

    def invalid(self, opcode: int) -> Reply:
        """A PDU that is no Login Request came before the login was complete."""
        _log.warning("opcode 0x%02x from %s before the login was complete", opcode, self._address)
        first = self._first or Request(0, 0, 0, bytes(6), 0, pdu.RESERVED_TAG, 0, 0, self._stat_sn)
        return Reply(self._response(first, 0, _INVALID_REQUEST, 0, b""), failed=True)

    def _response(self, request: Request, flags: int, status: int, tsih: int, text: bytes) -> list[bytes]:
        exp_cmd_sn = request.cmd_sn
        depth = self._queue_depth()
        header = pdu.LOGIN_RESPONSE_PDU.pack(
            *(pdu.LOGIN_RESPONSE, flags, 0, 0, len(text), request.isid, tsih, request.itt, self._stat_sn, exp_cmd_sn),
            *((exp_cmd_sn + depth - 1) & 0xFFFFFFFF, status >> 8, status & 0xFF),
        )
        self._stat_sn = (self._stat_sn + 1) & 0xFFFFFFFF
        return [bytes(part) for part in pdu.with_data(header, text)]

    def _queue_depth(self) -> int:
        return self._node.queue_depth if self._node is not None else self._target.options.max_queue_depth

    def _step(self, request: Request, data: memoryview) -> tuple[list[tuple[str, str]], int, Session | None]:
        """The answers, the response's flags and the session if this was the last step.

        Raises Refusal or Redirection.
        """
        self._check(request)
        self._text += bytes(data)
        self._pdus += 1
        if len(self._text) > _MAX_TEXT or self._pdus > _MAX_PDUS:
            raise Refusal(_INITIATOR_ERROR, f"more than {_MAX_TEXT} bytes or {_MAX_PDUS} PDUs of login")
        if request.flags & pdu.CONTINUE:
            return [], request.stage << 2, None
        try:
            pairs = parse_text(self._text)
        except TextError as error:
            raise Refusal(_INITIATOR_ERROR, str(error)) from error
        self._text = b""
        answers: list[tuple[str, str]] = []
        if not self._identified:
            self._identify(dict(pairs), request)
            self._identified = True
            if self._node is not None:
                answers.append(("TargetPortalGroupTag", str(self._tag)))
                if self._node.alias:
                    answers.append(("TargetAlias", self._node.alias))
        answers += self._negotiate(pairs, request.stage)
        flags = request.stage << 2
        session = None
        if request.flags & pdu.FINAL:
            flags |= pdu.FINAL | request.next_stage
            self._stage = request.next_stage
            if request.next_stage == FULL_FEATURE:
                session = self._open_session()
        return answers, flags, session

    def _check(self, request: Request) -> None:
        """Is this request allowed here?"""
        if request.version_min > 0:
            raise Refusal(_VERSION, f"it speaks iSCSI version {request.version_min} and above; this is version 0")
        if self._first is None:
            self._first = request
            self._stage = request.stage
        if (request.isid, request.cid, request.tsih) != (self._first.isid, self._first.cid, self._first.tsih):
            raise Refusal(_INITIATOR_ERROR, "ISID, CID or TSIH changed in the middle of the login")
        if request.stage != self._stage or request.stage not in (SECURITY, OPERATIONAL):
            raise Refusal(_INVALID_REQUEST, f"stage {request.stage} while the login is in stage {self._stage}")
        transit = request.flags & pdu.FINAL
        if transit and request.flags & pdu.CONTINUE:
            raise Refusal(_INITIATOR_ERROR, "T and C bit both set")
        if transit and (request.stage, request.next_stage) not in _TRANSITIONS:
            raise Refusal(_INITIATOR_ERROR, f"no transition from stage {request.stage} to {request.next_stage}")

    def _identify(self, pairs: dict[str, str], request: Request) -> None:
        """Who is it, what does it want, may it have it?"""
        name = pairs.get("InitiatorName", "")
        if not name:
            raise Refusal(_MISSING, "no InitiatorName")
        if not is_name(name):
            raise Refusal(_INITIATOR_ERROR, f"InitiatorName {name!r} is not an iSCSI name")
        self._initiator = name
        session_type = pairs.get("SessionType", "Normal")
        if session_type not in ("Normal", "Discovery"):
            raise Refusal(_SESSION_TYPE, f"SessionType {session_type!r}")
        self._discovery = session_type == "Discovery"
        if self._discovery:
            self._check_auth(self._target.discovery_auth(self._tag), f"discovery through portal group {self._tag}")
        else:
            self._node = self._find_node(pairs.get("TargetName", ""))
            self._check_auth(self._node.auth, f"target node {self._node.name}")
        if request.tsih:
            self._find_session(request)

    def _find_node(self, name: str) -> TargetNode:
        if not name:
            raise Refusal(_MISSING, "no TargetName")
        node = self._target.find_node(name)
        if node is None:
            raise Refusal(_NOT_FOUND, f"there is no target node {name}")
        redirect = node.redirects.get(self._tag)
        if redirect is not None and not node.leaving:
            raise Redirection(node, redirect)
        if not node.admits(self._tag, self._initiator, self._address):
            raise Refusal(
                _NOT_AUTHORIZED,
                f"no initiator group of target node {node.name} admits it through portal group {self._tag}",
            )
        if node.leaving:
            raise Refusal(_REMOVED, f"target node {node.name} is being removed")
        return node

    def _check_auth(self, auth: Auth, what: str) -> None:
        if auth.require_chap:
            raise Refusal(_AUTHENTICATION_FAILED, f"{what} requires CHAP, which this engine cannot do yet")

    def _find_session(self, request: Request) -> None:
        session = self._target.sessions.get(request.tsih)
        if (
            session is None
            or session.isid != request.isid
            or session.node is not self._node
            or comparable(session.initiator) != comparable(self._initiator)
        ):
            raise Refusal(_NO_SUCH_SESSION, f"there is no session with TSIH {request.tsih} of this initiator")
        self._joins = session
        self._agreed = session.parameters.of_further_connection()

    def _negotiate(self, pairs: list[tuple[str, str]], stage: int) -> list[tuple[str, str]]:
        ours = our_values(self._target.options, self._node)
        negotiation = Negotiation(ours, self._agreed, discovery=self._discovery, leading=self._joins is None)
        answers: list[tuple[str, str]] = []
        for name, offered in pairs:
            if name == "AuthMethod":
                if "None" not in offered.split(","):
                    raise Refusal(_AUTHENTICATION_FAILED, f"it offers AuthMethod={offered}; only None is possible")
                answers.append((name, "None"))
                continue
            answered = negotiation.answer(name, offered)
            if answered is not None:
                answers.append((name, answered))
        answers = self._bounded_first_burst(answers)
        if stage == OPERATIONAL and not self._declared:
            self._declared = True
            answers.append(("MaxRecvDataSegmentLength", str(RECEIVE_LIMIT)))
        return answers

    def _bounded_first_burst(self, answers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """FirstBurstLength never exceeds MaxBurstLength, whichever was negotiated first (RFC 7143 §13.14)."""
        values = self._agreed.values
        values["FirstBurstLength"] = first = min(int(values["FirstBurstLength"]), int(values["MaxBurstLength"]))
        return [
            (name, str(first)) if name == "FirstBurstLength" and value.isdigit() else (name, value)
            for name, value in answers
        ]

    def _open_session(self) -> Session:
        if self._first is None:
            raise AssertionError("a login ends after its first request")
        first, target = self._first, self._target
        if self._joins is not None:
            try:
                target.join(self._joins, first.cid)
            except Busy as error:
                raise Refusal(_TOO_MANY_CONNECTIONS, str(error)) from error
            return self._joins
        try:
            tsih = target.sessions.new_tsih()
        except Busy as error:
            raise Refusal(_OUT_OF_RESOURCES, str(error)) from error
        session = Session(
            *(tsih, first.isid, self._initiator, self._node, self._tag),
            *(self._agreed, first.cmd_sn, self._queue_depth()),
        )
        target.reinstate(session)
        if len(target.sessions) >= target.options.max_sessions:
            raise Refusal(_OUT_OF_RESOURCES, f"all {target.options.max_sessions} sessions (max_sessions) are in use")
        return session
