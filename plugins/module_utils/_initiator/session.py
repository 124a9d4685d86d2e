# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One session of one connection with an iSCSI target: login, text, SCSI commands, logout.

RFC 7143. Nothing is optimised: one command at a time, written data only when the target asks for it (InitialR2T=Yes).
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from . import wire
from .chap import Credentials, Proof
from .errors import InitiatorError, parse_sense
from .wire import FINAL, IMMEDIATE, Pdu

if TYPE_CHECKING:
    from collections.abc import Mapping

_RECEIVES: Final = 262144
_KEYS: Final = {
    "HeaderDigest": "None",
    "DataDigest": "None",
    "MaxRecvDataSegmentLength": str(_RECEIVES),
    "DefaultTime2Wait": "2",
    "DefaultTime2Retain": "0",
    "ErrorRecoveryLevel": "0",
}
_NORMAL_KEYS: Final = {
    "InitialR2T": "Yes",
    "ImmediateData": "No",
    "MaxBurstLength": "262144",
    "FirstBurstLength": "65536",
    "MaxOutstandingR2T": "1",
    "MaxConnections": "1",
    "DataPDUInOrder": "Yes",
    "DataSequenceInOrder": "Yes",
}
# CSG and NSG of a login (§11.12.3); FINAL is its T bit.
_SECURITY_TO_OPERATIONAL: Final = 0 << 2 | 1
_OPERATIONAL_TO_FULL_FEATURE: Final = 1 << 2 | 3
_DEFAULT_SEGMENT: Final = 8192  # MaxRecvDataSegmentLength, §13.12
_MOST_LOGIN_STEPS: Final = 16

_LOGIN_STATUS: Final = {  # class and detail, §11.13.5
    0x0101: "moved to another portal for a while",
    0x0102: "moved to another portal",
    0x0201: "refuses the user or the secret, or wants one: compare chap with its auth group",
    0x0202: "does not let this initiator in",
    0x0203: "does not exist there",
    0x0204: "was removed",
    0x0206: "has as many sessions as it takes",
    0x0207: "misses a parameter",
    0x0301: "is out of service",
    0x0302: "is out of resources",
}

_READ: Final = 0x40
_WRITE: Final = 0x20
_STATUS_IN_DATA: Final = 0x01  # S bit of Data-In, §11.7.1
_CONTINUES: Final = 0x40  # C bit of text and login PDUs

_CHECK_CONDITION: Final = 0x02


class _Login(NamedTuple):
    """What all requests of one login have in common."""

    isid: bytes
    tag: int


class Session:
    """A logged-in session; a context manager that logs out."""

    def __init__(
        self,
        host: str,
        port: int,
        initiator: str,
        target: str | None,
        timeout: float,
        credentials: Credentials | None = None,
    ) -> None:
        """Connect and log in; no ``target`` means a discovery session. Raises InitiatorError."""
        self._wire = wire.Wire(host, port, timeout)
        self._target = target
        self._tag = 0
        self._cmd_sn = 1
        self._exp_stat_sn = 0
        self._sends = _DEFAULT_SEGMENT
        try:
            self._login(initiator, credentials)
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
        self._wire.send(Pdu(wire.TEXT, FINAL, tag=tag, rest=self._numbers(wire.RESERVED_TAG), data=_encoded(keys)))
        self._cmd_sn += 1
        collected = b""
        while True:
            answer = self._receive(wire.TEXT_RESPONSE)
            collected += answer.data
            transfer_tag = answer.word(20)
            if answer.flags & FINAL or transfer_tag == wire.RESERVED_TAG:
                return _decoded(collected)
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

    def _login(self, initiator: str, credentials: Credentials | None) -> None:
        names = {"InitiatorName": initiator, "SessionType": "Discovery"}
        keys = dict(_KEYS)
        if self._target is not None:
            names.update({"SessionType": "Normal", "TargetName": self._target})
            keys.update(_NORMAL_KEYS)
        # A random ISID (§11.12.5): another session of the same name is not taken over.
        login = _Login(b"\x80" + os.urandom(3) + b"\0\0", self._next_tag())
        if credentials is not None:
            self._prove(login, names, credentials)
            names = {}
        self._negotiate(login, {**names, **keys})

    def _prove(self, login: _Login, names: Mapping[str, str], credentials: Credentials) -> None:
        """The stage of security, which ends in the next one."""
        proof = Proof(credentials, self._place())
        said, _flags = self._step(login, _SECURITY_TO_OPERATIONAL & ~3, {**names, "AuthMethod": "CHAP"})
        if said.get("AuthMethod") != "CHAP":
            raise InitiatorError(f"{self._place()}: does not do CHAP. Leave chap out, or require CHAP on the target.")
        said, _flags = self._step(login, _SECURITY_TO_OPERATIONAL & ~3, proof.offer())
        answer = proof.respond(said)
        said, flags = self._step(login, FINAL | _SECURITY_TO_OPERATIONAL, answer)
        proof.check(said)
        if not flags & FINAL:
            raise InitiatorError(f"{self._place()}: the login does not come to an end.")

    def _negotiate(self, login: _Login, keys: Mapping[str, str]) -> None:
        for _step in range(_MOST_LOGIN_STEPS):
            said, flags = self._step(login, FINAL | _OPERATIONAL_TO_FULL_FEATURE, keys)
            if "MaxRecvDataSegmentLength" in said:
                self._sends = int(said["MaxRecvDataSegmentLength"])
            if flags & FINAL and flags & 3 == 3:
                return
            keys = {}
        raise InitiatorError(f"{self._place()}: the login does not come to an end.")

    def _step(self, login: _Login, flags: int, keys: Mapping[str, str]) -> tuple[dict[str, str], int]:
        """One request and the whole answer: its keys and the flags of its last PDU."""
        data, collected = _encoded(keys), b""
        for _part in range(_MOST_LOGIN_STEPS):
            rest = struct.pack(">HHLL", 1, 0, self._cmd_sn, self._exp_stat_sn)
            self._wire.send(Pdu(wire.LOGIN | IMMEDIATE, flags, login.isid + b"\0\0", login.tag, rest, data))
            answer = self._receive(wire.LOGIN_RESPONSE)
            status = answer.word(36) >> 16
            if status:
                told = _LOGIN_STATUS.get(status, f"refused the login ({status:#06x})")
                raise InitiatorError(f"{self._place()}: {told}.")
            collected += answer.data
            if not answer.flags & _CONTINUES:
                return dict(_decoded(collected)), answer.flags
            data = b""
        raise InitiatorError(f"{self._place()}: the login does not come to an end.")

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


def _encoded(keys: Mapping[str, str]) -> bytes:
    return "".join(f"{key}={value}\0" for key, value in keys.items()).encode()


def _decoded(data: bytes) -> list[tuple[str, str]]:
    pairs = (item.partition("=") for item in data.decode(errors="replace").split("\0") if item)
    return [(key, value) for key, _equals, value in pairs]
