# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One session of one connection with an iSCSI target: login, text, SCSI commands, logout.

RFC 7143. Nothing is optimised: one command at a time, written data only when the target asks for it (InitialR2T=Yes).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from . import wire
from .errors import InitiatorError, parse_sense
from .login import Login, Who
from .text import decoded, encoded
from .wire import FINAL, IMMEDIATE, Pdu

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULT_SEGMENT: Final = 8192  # MaxRecvDataSegmentLength, §13.12
_READ: Final = 0x40
_WRITE: Final = 0x20
_STATUS_IN_DATA: Final = 0x01  # S bit of Data-In, §11.7.1

_CHECK_CONDITION: Final = 0x02


class Session:
    """A logged-in session; a context manager that logs out."""

    def __init__(self, host: str, port: int, who: Who, timeout: float) -> None:
        """Connect and log in; each answer may take ``timeout`` seconds. Raises InitiatorError."""
        self._wire = wire.Wire(host, port, timeout)
        self._target = who.target
        self._tag = self._login_tag = 1
        self._cmd_sn = 1
        self._exp_stat_sn = 0
        self._sends = _DEFAULT_SEGMENT
        try:
            self._login(who)
        except BaseException:
            self._wire.close()
            raise

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        try:
            if kind is None:
                self._logout()
        finally:
            self._wire.close()

    def text(self, keys: Mapping[str, str]) -> list[tuple[str, str]]:
        """Keys and values that the target answers; SendTargets repeats keys. Raises InitiatorError."""
        tag = self._next_tag()
        self._wire.send(Pdu(wire.TEXT, FINAL, tag=tag, rest=self._numbers(wire.RESERVED_TAG), data=encoded(keys)))
        self._cmd_sn += 1
        collected = b""
        while True:
            answer = self._receive(wire.TEXT_RESPONSE)
            collected += answer.data
            transfer_tag = answer.word(20)
            if answer.flags & FINAL or transfer_tag == wire.RESERVED_TAG:
                return decoded(collected)
            # The answer goes on: an empty request with the target's tag asks for the rest (§11.10.4).
            self._wire.send(Pdu(wire.TEXT, FINAL, answer.lun, tag, self._numbers(transfer_tag)))
            self._cmd_sn += 1

    def command(self, what: str, cdb: bytes, *, lun: bytes = wire.NO_LUN, reads: int = 0, data: bytes = b"") -> bytes:
        """Run a SCSI command that reads at most ``reads`` bytes or writes ``data``; gives what was read.

        Raises CheckCondition for a refusal with sense data and InitiatorError for everything else.
        """
        tag = self._next_tag()
        flags = FINAL | (_READ if reads else 0) | (_WRITE if data else 0) | 1  # 1: simple task
        rest = struct.pack(">LLL16s", reads or len(data), self._cmd_sn, self._exp_stat_sn, cdb)
        self._wire.send(Pdu(wire.SCSI_COMMAND, flags, lun, tag, rest))
        self._cmd_sn += 1
        buffer = bytearray(reads)
        filled = 0
        while True:
            pdu = self._receive(wire.DATA_IN, wire.SCSI_RESPONSE, wire.R2T)
            if pdu.opcode == wire.R2T:
                self._send_solicited(pdu, lun, tag, data)
                continue
            if pdu.opcode == wire.DATA_IN:
                offset = pdu.word(40)
                if offset + len(pdu.data) > reads:
                    raise InitiatorError(f"{self._place()}: {what}: the target sent more data than was asked for.")
                buffer[offset : offset + len(pdu.data)] = pdu.data
                filled = max(filled, offset + len(pdu.data))
                if not pdu.flags & _STATUS_IN_DATA:
                    continue
            self._check(what, pdu)
            return bytes(buffer[:filled])

    def _check(self, what: str, pdu: Pdu) -> None:
        """Raise for everything but GOOD; status is byte 3 of both Data-In and SCSI Response."""
        response = pdu.low[0] if pdu.opcode == wire.SCSI_RESPONSE else 0
        status = pdu.low[1]
        name = f"{self._place()}: {what}"
        if response:
            raise InitiatorError(f"{name}: the target failed (iSCSI response {response:#04x}). See its log.")
        if status == _CHECK_CONDITION and len(pdu.data) > 15:
            raise parse_sense(name, pdu.data[2:])  # two bytes of length come first (§11.4.7.2)
        if status:
            raise InitiatorError(f"{name}: ended with SCSI status {status:#04x}.")

    def _send_solicited(self, r2t: Pdu, lun: bytes, tag: int, data: bytes) -> None:
        """Data-Out PDUs for one R2T (§11.7, §11.8)."""
        transfer_tag = r2t.word(20)
        begin, length = r2t.word(40), r2t.word(44)
        end = begin + length
        if not length or end > len(data):
            raise InitiatorError(f"{self._place()}: the target asked for data that the command does not have.")
        for number, offset in enumerate(range(begin, end, self._sends)):
            piece = data[offset : min(offset + self._sends, end)]
            last = FINAL if offset + len(piece) == end else 0
            rest = struct.pack(">LLLLLLL", transfer_tag, 0, self._exp_stat_sn, 0, number, offset, 0)
            self._wire.send(Pdu(wire.DATA_OUT, last, lun, tag, rest, piece))

    def _login(self, who: Who) -> None:
        answers = Login(who, self._exchange_login, self._place()).run()
        segment = answers.get("MaxRecvDataSegmentLength")
        if segment is not None:
            self._sends = int(segment)

    def _exchange_login(self, request: Pdu) -> Pdu:
        rest = request.rest + struct.pack(">LL", self._cmd_sn, self._exp_stat_sn)
        self._wire.send(request._replace(tag=self._login_tag, rest=rest))
        return self._receive(wire.LOGIN_RESPONSE)

    def _logout(self) -> None:
        rest = struct.pack(">LLL", 0, self._cmd_sn, self._exp_stat_sn)
        self._wire.send(Pdu(wire.LOGOUT | IMMEDIATE, FINAL, tag=self._next_tag(), rest=rest))  # reason 0: the session
        self._receive(wire.LOGOUT_RESPONSE)

    def _receive(self, *opcodes: int) -> Pdu:
        """The next PDU with one of these opcodes; pings in between are answered (§11.18, §11.19)."""
        while True:
            pdu = self._wire.receive()
            counts = pdu.opcode != wire.DATA_IN or pdu.flags & _STATUS_IN_DATA
            solicits = pdu.opcode == wire.R2T or (pdu.opcode == wire.NOP_IN and pdu.tag == wire.RESERVED_TAG)
            if counts and not solicits:
                self._exp_stat_sn = (pdu.word(24) + 1) & 0xFFFFFFFF
            if pdu.opcode in opcodes:
                return pdu
            if pdu.opcode == wire.NOP_IN:
                if pdu.word(20) != wire.RESERVED_TAG:
                    rest = self._numbers(pdu.word(20))
                    self._wire.send(Pdu(wire.NOP_OUT | IMMEDIATE, FINAL, pdu.lun, wire.RESERVED_TAG, rest))
                continue
            if pdu.opcode == wire.ASYNC:
                continue
            if pdu.opcode == wire.REJECT:
                raise InitiatorError(
                    f"{self._place()}: the target rejected a PDU (reason {pdu.low[0]:#04x}). See its log."
                )
            raise InitiatorError(f"{self._place()}: the target sent an unexpected PDU (opcode {pdu.opcode:#04x}).")

    def _numbers(self, transfer_tag: int) -> bytes:
        return struct.pack(">LLL", transfer_tag, self._cmd_sn, self._exp_stat_sn)

    def _next_tag(self) -> int:
        self._tag += 1
        return self._tag

    def _place(self) -> str:
        portal = f"portal {self._wire.name}"
        return portal if self._target is None else f"target {self._target} at {portal}"
