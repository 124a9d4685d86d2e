# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The login phase (RFC 7143 §6.3, §11.12): from the first PDU of a connection to full feature phase."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import Busy
from . import pdu, refusal
from .chap import AuthenticationError
from .identity import Origin, Wish, understand
from .keys import CRC32C, DEFAULT_RECEIVE_LIMIT, RECEIVE_LIMIT, Negotiation, Parameters, our_values
from .login_request import FULL_FEATURE, NO_REQUEST, OPERATIONAL, SECURITY, Request
from .names import may_be_initiator
from .refusal import Redirection, Refusal
from .security import Security, reject_out_of_place
from .session import Session
from .text import Pairs, TextError, build_text, parse_text

if TYPE_CHECKING:
    from .target import IscsiTarget

_log = logging.getLogger(__name__)

LOGIN_SECONDS: Final = 30
"""How long a connection may take from its beginning to full feature phase."""
_MAX_TEXT: Final = 65536
"""Bytes of text in all requests of a login."""
_MAX_PDUS: Final = 64
_REPEATABLE: Final = frozenset(
    {"InitiatorName", "InitiatorAlias", "TargetName", "SessionType", "MaxRecvDataSegmentLength"}
)
"""Declarations that initiators make again, with the same value, at the beginning of each stage."""


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
        self._origin = Origin(address, tag)
        self._first: Request | None = None
        self._stage = SECURITY
        self._initiator = ""
        self._wish: Wish | None = None
        self._negotiation: Negotiation | None = None
        self._agreed = Parameters()
        self._text = b""
        self._unsent = b""
        """What one response had no room for."""
        self._received = 0
        self._pdus = 0
        self._stat_sn = 0
        self._seen: dict[str, str] = {}
        self._offered: frozenset[str] = frozenset()
        """Digests that we proposed and the initiator has not answered yet."""
        self._declared = False

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
            text, flags, session = self._step(request, data)
        except Redirection as redirection:
            _log.info("%s from %s is %s", self._initiator, self._origin.address, redirection)
            text = build_text([("TargetAddress", redirection.address)])
            return Reply(self._response(request, 0, redirection.status, 0, text), failed=True)
        except Refusal as why:
            return self._refused(request, why)
        except Exception:  # pylint: disable=broad-except
            _log.exception("login of %s from %s failed: bug in the engine", self._who(), self._origin.address)
            return Reply(self._response(request, 0, refusal.TARGET_ERROR, 0, b""), failed=True)
        tsih = session.tsih if session is not None else request.tsih
        return Reply(self._response(request, flags, 0, tsih, text), session, self._agreed)

    def invalid(self, opcode: int) -> Reply:
        """A PDU that is no Login Request came before the login was complete."""
        _log.warning("opcode 0x%02x from %s before the login was complete", opcode, self._origin.address)
        return Reply(self._response(self._first or NO_REQUEST, 0, refusal.INVALID_REQUEST, 0, b""), failed=True)

    def _refused(self, request: Request, why: Refusal) -> Reply:
        _log.warning("login of %s from %s refused: %s", self._who(), self._origin.address, why)
        self._target.accounts.refused[why.status] += 1
        return Reply(self._response(request, 0, why.status, 0, b""), failed=True)

    def _who(self) -> str:
        return self._initiator or "an unnamed initiator"

    def _response(self, request: Request, flags: int, status: int, tsih: int, text: bytes) -> list[bytes]:
        header = pdu.LOGIN_RESPONSE_PDU.pack(
            *(pdu.LOGIN_RESPONSE, flags, 0, 0, len(text), request.isid, tsih, request.itt, self._stat_sn),
            *(*self._window(request), status >> 8, status & 0xFF),
        )
        self._stat_sn = (self._stat_sn + 1) & 0xFFFFFFFF
        return [bytes(part) for part in pdu.with_data(header, text)]

    def _window(self, request: Request) -> tuple[int, int]:
        """ExpCmdSN and MaxCmdSN: a new session begins with the CmdSN of its login (RFC 7143 §4.2.2.1)."""
        joined = self._wish.joins if self._wish is not None else None
        if joined is not None:
            return joined.exp_cmd_sn, joined.max_cmd_sn
        return request.cmd_sn, (request.cmd_sn + self._queue_depth() - 1) & 0xFFFFFFFF

    def _queue_depth(self) -> int:
        node = self._wish.node if self._wish is not None else None
        return node.queue_depth if node is not None else self._target.options.max_queue_depth

    # -- requests ----------------------------------------------------------------------------------------------------

    def _step(self, request: Request, data: memoryview) -> tuple[bytes, int, Session | None]:
        """The answer's text and flags, and the session if this was the last step. Raises Refusal or Redirection."""
        self._check(request, len(data))
        if self._unsent:
            if data or request.continues:
                raise Refusal(refusal.INITIATOR_ERROR, "more text, while it has not yet seen all of the answer")
        else:
            self._text += bytes(data)
            if request.continues:
                return b"", request.stage << 2, None
            try:
                pairs = parse_text(self._text)
            except TextError as error:
                raise Refusal(refusal.INITIATOR_ERROR, str(error)) from error
            self._text = b""
            self._unsent = build_text(self._answer(request, self._news(pairs)))
        limit = min(self._agreed.peer_receive_limit, DEFAULT_RECEIVE_LIMIT)
        text, self._unsent = self._unsent[:limit], self._unsent[limit:]
        if self._unsent:
            return text, pdu.CONTINUE | request.stage << 2, None
        return (text, *self._transit(request))

    def _check(self, request: Request, length: int) -> None:
        """Is this request allowed here?"""
        if self._first is None:
            self._first = request
            self._stage = request.stage
        request.check(self._first, self._stage)
        if length > DEFAULT_RECEIVE_LIMIT:
            why = f"{length} bytes in a login PDU; {DEFAULT_RECEIVE_LIMIT} are allowed"
            raise Refusal(refusal.INITIATOR_ERROR, why)
        self._received += length
        self._pdus += 1
        if self._received > _MAX_TEXT or self._pdus > _MAX_PDUS:
            raise Refusal(refusal.INITIATOR_ERROR, f"more than {_MAX_TEXT} bytes or {_MAX_PDUS} PDUs of login")
        if not self._target.serving:
            raise Refusal(refusal.SERVICE_UNAVAILABLE, "the target is shutting down")

    def _news(self, pairs: Pairs) -> Pairs:
        """Without declarations that are only repeated. No key is negotiated twice (RFC 7143 §6.3)."""
        news = [(name, value) for name, value in pairs if name not in _REPEATABLE or self._seen.get(name) != value]
        for name, _value in news:
            if name in self._seen and name not in self._offered:
                raise Refusal(refusal.INITIATOR_ERROR, f"key {name!r} given twice")
        self._seen.update(news)
        return news

    # -- keys --------------------------------------------------------------------------------------------------------

    def _answer(self, request: Request, pairs: Pairs) -> Pairs:
        answers: Pairs = []
        if self._wish is None:
            wish = self._identify(request, dict(pairs))
            answers += self._introduction(wish)
        else:
            wish = self._wish
        of_security = [pair for pair in pairs if Security.owns(pair[0])]
        if request.stage == SECURITY:
            try:
                answers += wish.security.answer(of_security)
            except AuthenticationError as error:
                raise Refusal(refusal.AUTHENTICATION_FAILED, str(error)) from error
        else:
            answers += reject_out_of_place(of_security)
        answers += self._negotiate(wish, [pair for pair in pairs if not Security.owns(pair[0])])
        if request.stage == OPERATIONAL and not self._declared:
            self._declared = True
            answers.append(("MaxRecvDataSegmentLength", str(RECEIVE_LIMIT)))
        return answers + (self._offer(wish) if request.stage == OPERATIONAL and request.transits else [])

    def _identify(self, request: Request, keys: dict[str, str]) -> Wish:
        """Who is it, what does it want, may it have it?"""
        name = keys.get("InitiatorName", "")
        if may_be_initiator(name):
            self._initiator = name
        self._wish = wish = understand(self._target, self._origin, keys, request.isid, request.tsih)
        if request.stage == OPERATIONAL and not wish.security.is_satisfied:
            raise Refusal(refusal.AUTHENTICATION_FAILED, "it skips the security stage, and CHAP is required")
        if wish.joins is not None:
            self._agreed = wish.joins.parameters.of_further_connection()
        ours = our_values(self._target.options, wish.node)
        self._negotiation = Negotiation(ours, self._agreed, discovery=wish.node is None, leading=wish.joins is None)
        return wish

    def _introduction(self, wish: Wish) -> Pairs:
        """What a normal session is told first (RFC 7143 §13.9)."""
        if wish.node is None:
            return []
        alias = [("TargetAlias", wish.node.alias)] if wish.node.alias else []
        return [("TargetPortalGroupTag", str(self._origin.tag)), *alias]

    def _negotiate(self, wish: Wish, pairs: Pairs) -> Pairs:
        if self._negotiation is None:
            raise AssertionError("keys are negotiated with somebody who is known")
        answers: Pairs = []
        offered, self._offered = self._offered, frozenset()
        for name, value in pairs:
            if name in offered:
                if value == CRC32C:
                    self._agreed.values[name] = value
                continue
            answered = self._negotiation.answer(name, value)
            if answered is not None:
                answers.append((name, answered))
        return answers if wish.joins is not None else self._bounded_first_burst(answers)

    def _offer(self, wish: Wish) -> Pairs:
        """Propose the digests that the node requires and the initiator did not mention."""
        self._offered = frozenset(name for name in _required_digests(wish) if name not in self._seen)
        self._seen.update(dict.fromkeys(self._offered, CRC32C))
        return [(name, CRC32C) for name in sorted(self._offered)]

    def _bounded_first_burst(self, answers: Pairs) -> Pairs:
        """FirstBurstLength never exceeds MaxBurstLength, whichever was negotiated first (RFC 7143 §13.14)."""
        values = self._agreed.values
        values["FirstBurstLength"] = first = min(int(values["FirstBurstLength"]), int(values["MaxBurstLength"]))
        return [
            (name, str(first)) if name == "FirstBurstLength" and value.isdigit() else (name, value)
            for name, value in answers
        ]

    # -- stages ------------------------------------------------------------------------------------------------------

    def _transit(self, request: Request) -> tuple[int, Session | None]:
        """The flags that answer the request, and the session when it leads to full feature phase."""
        flags = request.stage << 2
        wish = self._wish
        if not request.transits or wish is None:
            return flags, None
        if request.stage == SECURITY:
            if wish.security.is_under_way:
                return flags, None
            if not wish.security.is_satisfied:
                raise Refusal(refusal.AUTHENTICATION_FAILED, "it offers no AuthMethod, and CHAP is required")
        if self._offered:
            return flags, None
        return self._arrive(request, wish, flags | pdu.FINAL | request.next_stage)

    def _arrive(self, request: Request, wish: Wish, flags: int) -> tuple[int, Session | None]:
        self._stage = request.next_stage
        if request.next_stage != FULL_FEATURE:
            return flags, None
        for name in _required_digests(wish):
            if self._agreed.values[name] != CRC32C:
                raise Refusal(refusal.INITIATOR_ERROR, f"the target node requires {name}={CRC32C}")
        if wish.node is not None and wish.node.leaving:
            raise Refusal(refusal.REMOVED, f"target node {wish.node.name} is being removed")
        if wish.node is not None and not wish.node.enabled:
            raise Refusal(refusal.SERVICE_UNAVAILABLE, f"target node {wish.node.name} is disabled")
        if wish.node is not None and wish.node.moved:
            raise Refusal(refusal.SERVICE_UNAVAILABLE, f"target node {wish.node.name} goes to another process")
        return flags, self._join(wish.joins, request.cid) if wish.joins is not None else self._open_session(wish)

    def _join(self, session: Session, cid: int) -> Session:
        """One more connection of a session that was there when the login began."""
        if self._target.sessions.get(session.tsih) is not session:
            raise Refusal(refusal.NO_SUCH_SESSION, f"session {session.tsih} ended while the connection logged in")
        try:
            self._target.join(session, cid)
        except Busy as error:
            raise Refusal(refusal.TOO_MANY_CONNECTIONS, str(error)) from error
        return session

    def _open_session(self, wish: Wish) -> Session:
        if self._first is None:
            raise AssertionError("a login ends after its first request")
        first, target = self._first, self._target
        try:
            tsih = target.sessions.new_tsih()
        except Busy as error:
            raise Refusal(refusal.OUT_OF_RESOURCES, str(error)) from error
        session = Session(
            *(tsih, first.isid, wish.initiator, wish.node, self._origin.tag),
            *(self._agreed, first.cmd_sn, self._queue_depth()),
        )
        if session.nexus is not None and wish.node is not None:
            group = wish.node.admitting(self._origin.tag, wish.initiator, self._origin.address)
            session.nexus.group = group.tag if group is not None else None
        target.reinstate(session)
        if target.sessions.are_all:
            raise Refusal(
                refusal.OUT_OF_RESOURCES, f"all {target.options.max_sessions} sessions (max_sessions) are in use"
            )
        if wish.security.user is not None:
            _log.info("%s from %s is user %s", self._initiator, self._origin.address, wish.security.user)
        return session


def _required_digests(wish: Wish) -> list[str]:
    """A node that requires digests lets nobody in without."""
    node = wish.node
    required = {"HeaderDigest": node.header_digest, "DataDigest": node.data_digest} if node is not None else {}
    return [name for name, is_required in required.items() if is_required]
