# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An initiator that does exactly what a test tells it to: one connection, blocking, no recovery."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import NamedTuple, Self

from pdu import wire
from pdu.wire import RESERVED_TAG, Pdu, parse_text, text_data

ISID = bytes.fromhex("80 12 34 56 00 01")
NAME = "iqn.2026-01.test.openlun:initiator"
TIMEOUT = 3.0
"""Seconds before a missing answer becomes a failed test."""

OPERATIONAL = {
    "HeaderDigest": "None",
    "DataDigest": "None",
    "InitialR2T": "No",
    "ImmediateData": "Yes",
    "MaxBurstLength": "262144",
    "FirstBurstLength": "65536",
    "MaxRecvDataSegmentLength": "262144",
    "MaxConnections": "1",
    "ErrorRecoveryLevel": "0",
    "MaxOutstandingR2T": "1",
    "DefaultTime2Wait": "2",
    "DefaultTime2Retain": "0",
}


class Closed(Exception):
    """The target closed the connection."""


class LoginRefused(Exception):
    """The target answered a login with a status other than success."""

    def __init__(self, status_class: int, status_detail: int) -> None:
        super().__init__(f"login refused with status {status_class:02x}{status_detail:02x}")
        self.status = (status_class, status_detail)


class Outcome(NamedTuple):
    """How a SCSI command ended."""

    response: Pdu
    data: bytes
    pdus: list[Pdu]
    """Every PDU the target sent for this command, in order."""

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def residual(self) -> tuple[int, int]:
        """Residual flags (wire.OVERFLOW, wire.UNDERFLOW or 0) and count."""
        return self.response.flags & (wire.OVERFLOW | wire.UNDERFLOW), self.response.residual


class Initiator:
    """A connection to a portal.

    ``keys`` holds the outcome of the login; ``cmd_sn`` is the next command's number, ``exp_stat_sn`` what the target is
    told it may forget. :meth:`send` fills in neither: the constructors below (:meth:`command`, :meth:`nop_out` …) do.
    """

    def __init__(self, address: tuple[str, int], *, name: str = NAME, isid: bytes = ISID) -> None:
        self.name = name
        self.isid = isid
        self.cmd_sn = 1
        self.exp_stat_sn = 0
        self.exp_cmd_sn = 1
        self.max_cmd_sn = 1
        self.tsih = 0
        self.keys: dict[str, str] = {}
        self.events: list[Pdu] = []
        """Asynchronous messages that came while :meth:`finish` waited for something else."""
        self._tag = 0
        self.socket = socket.create_connection(address, timeout=TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    # -- bytes

    def send(self, *pdus: Pdu | bytes) -> None:
        """Send PDUs, or raw bytes, in one segment."""
        self.socket.sendall(b"".join(bytes(pdu) for pdu in pdus))

    def read_bytes(self, length: int) -> bytes:
        chunks = []
        while length:
            try:
                chunk = self.socket.recv(length)
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                raise Closed
            chunks.append(chunk)
            length -= len(chunk)
        return b"".join(chunks)

    def read_pdu(self) -> Pdu:
        header = self.read_bytes(wire.BHS_LENGTH)
        ahs = self.read_bytes(header[4] * 4)
        length = int.from_bytes(header[5:8], "big")
        return Pdu.parse(header, ahs, self.read_bytes(length + -length % 4)[:length])

    def receive(self) -> Pdu:
        """The next PDU; raises Closed at the end of the stream and TimeoutError after TIMEOUT seconds of silence."""
        pdu = self.read_pdu()
        carries_status = pdu.opcode != wire.R2T and (pdu.opcode != wire.DATA_IN or pdu.flags & wire.STATUS_FOLLOWS)
        if carries_status and not (pdu.opcode == wire.NOP_IN and pdu.itt == RESERVED_TAG):
            self.exp_stat_sn = (pdu.stat_sn + 1) % 2**32
        self.exp_cmd_sn, self.max_cmd_sn = pdu.exp_cmd_sn, pdu.max_cmd_sn
        return pdu

    def is_closed(self) -> bool:
        """Whether the target closes the connection; whatever it still says before is read and dropped."""
        try:
            while True:
                self.receive()
        except Closed:
            return True
        except TimeoutError:
            return False

    def is_rejected_or_closed(self) -> bool:
        """Whether the target refuses what it was sent last: a Reject PDU, or the end of the connection."""
        try:
            return self.receive().opcode == wire.REJECT
        except Closed:
            return True

    # -- PDUs

    def next_tag(self) -> int:
        self._tag += 1
        return self._tag

    def numbered(self, pdu: Pdu, cmd_sn: int | None = None) -> Pdu:
        """Give ``pdu`` the next command number, or ``cmd_sn``; immediate PDUs show the next one without taking it."""
        number = self.cmd_sn if cmd_sn is None else cmd_sn
        if cmd_sn is None and not pdu.header[0] & wire.IMMEDIATE:
            self.cmd_sn = (self.cmd_sn + 1) % 2**32
        return pdu.set(cmd_sn=number % 2**32, exp_stat_sn=self.exp_stat_sn)

    def login_pdu(
        self, pairs: dict[str, str], *, csg: int = 1, nsg: int = 3, transit: bool = True, tag: int = 0, cid: int = 0
    ) -> Pdu:
        flags = (wire.FINAL if transit else 0) | csg << 2 | (nsg if transit else 0)
        return Pdu(
            wire.LOGIN, flags, immediate=True, data=text_data(pairs), isid=self.isid, tsih=self.tsih, itt=tag, cid=cid,
            cmd_sn=self.cmd_sn, exp_stat_sn=self.exp_stat_sn,
        )  # fmt: skip

    def command(
        self,
        cdb: bytes,
        *,
        flags: int = wire.FINAL | wire.SIMPLE,
        length: int = 0,
        data: bytes = b"",
        lun: int = 0,
        immediate: bool = False,
        cmd_sn: int | None = None,
    ) -> Pdu:
        """A SCSI command; ``length`` is the expected data transfer length, ``data`` the immediate data."""
        tag = self.next_tag()
        pdu = Pdu(wire.SCSI_COMMAND, flags, immediate=immediate, data=data, lun=lun, cdb=cdb, itt=tag)
        return self.numbered(pdu.set(expected_length=length), cmd_sn)

    def data_out(self, itt: int, ttt: int, offset: int, data: bytes, *, data_sn: int, final: bool, lun: int = 0) -> Pdu:
        pdu = Pdu(wire.DATA_OUT, wire.FINAL if final else 0, data=data, lun=lun, itt=itt, ttt=ttt)
        return pdu.set(exp_stat_sn=self.exp_stat_sn, data_sn=data_sn, buffer_offset=offset)

    def nop_out(self, data: bytes = b"", *, immediate: bool = True) -> Pdu:
        return self.numbered(Pdu(wire.NOP_OUT, immediate=immediate, data=data, itt=self.next_tag(), ttt=RESERVED_TAG))

    def text(self, pairs: dict[str, str], *, ttt: int = RESERVED_TAG) -> Pdu:
        return self.numbered(Pdu(wire.TEXT, data=text_data(pairs), itt=self.next_tag(), ttt=ttt))

    def logout(self, reason: int = 0, cid: int = 0) -> Pdu:
        return self.numbered(Pdu(wire.LOGOUT, wire.FINAL | reason, immediate=True, itt=self.next_tag(), cid=cid))

    def task_request(self, function: int, *, ref_task_tag: int = RESERVED_TAG, lun: int = 0) -> Pdu:
        pdu = Pdu(wire.TASK_REQUEST, wire.FINAL | function, immediate=True, lun=lun, itt=self.next_tag())
        return self.numbered(pdu.set(ref_task_tag=ref_task_tag))

    # -- dialogues

    def login(self, target: str | None = None, **keys: str) -> Initiator:
        """Log in to ``target``, without one to discovery; ``keys`` override OPERATIONAL, "" leaves a key out."""
        identity = {"InitiatorName": self.name, "SessionType": "Normal", "TargetName": target} if target else None
        pairs = {**(identity or {"InitiatorName": self.name, "SessionType": "Discovery"}), **OPERATIONAL, **keys}
        self.send(self.login_pdu({key: value for key, value in pairs.items() if value}))
        answers = self.receive_login()
        declared = {key: value for key, value in pairs.items() if key not in ("MaxRecvDataSegmentLength",)}
        self.keys = {**declared, **answers}
        return self

    def receive_login(self) -> dict[str, str]:
        """The target's keys from here to the end of the login; raises LoginRefused."""
        answers: list[tuple[str, str]] = []
        while True:
            response = self.receive()
            if response.opcode != wire.LOGIN_RESPONSE:
                raise AssertionError(f"expected a login response, got {response}")
            if response.status_class:
                raise LoginRefused(response.status_class, response.status_detail)
            answers += parse_text(response.data)
            if response.flags & wire.FINAL and response.flags & 3 == 3:
                self.tsih = response.tsih
                return dict(answers)
            self.send(self.login_pdu({}))

    def number(self, key: str) -> int:
        """A negotiated number. MaxRecvDataSegmentLength is what the target said it takes (8192 unless declared)."""
        return int(self.keys.get(key, "8192"))

    def finish(self, command: Pdu, source: bytes = b"") -> Outcome:
        """Collect what the target sends for ``command``, answering its R2Ts from ``source``."""
        pdus: list[Pdu] = []
        data = bytearray()
        while True:
            pdu = self.receive()
            if pdu.opcode == wire.NOP_IN and pdu.itt == RESERVED_TAG:
                continue
            if pdu.opcode == wire.ASYNC:
                self.events.append(pdu)
                continue
            pdus.append(pdu)
            if pdu.itt != command.itt:
                raise AssertionError(f"unexpected {pdu} while waiting for the answer to {command}")
            if pdu.opcode == wire.DATA_IN:
                end = pdu.buffer_offset + len(pdu.data)
                data.extend(bytes(max(0, end - len(data))))
                data[pdu.buffer_offset : end] = pdu.data
                if pdu.flags & wire.STATUS_FOLLOWS:
                    return Outcome(pdu, bytes(data), pdus)
            elif pdu.opcode == wire.R2T:
                self.answer_r2t(pdu, source)
            elif pdu.opcode == wire.SCSI_RESPONSE:
                return Outcome(pdu, bytes(data), pdus)
            else:
                raise AssertionError(f"unexpected {pdu} while waiting for the answer to {command}")

    def answer_r2t(self, r2t: Pdu, source: bytes) -> None:
        """Send the burst an R2T asks for, in PDUs as long as the target takes."""
        self.send(*self.burst(r2t.itt, r2t.ttt, source[: r2t.buffer_offset + r2t.desired_length], r2t.buffer_offset))

    def burst(self, itt: int, ttt: int, source: bytes, start: int) -> list[Pdu]:
        """Data-Out PDUs for ``source[start:]``."""
        step = self.number("MaxRecvDataSegmentLength")
        offsets = range(start, len(source), step)
        return [
            self.data_out(
                itt, ttt, offset, source[offset : offset + step], data_sn=number, final=offset + step >= len(source)
            )
            for number, offset in enumerate(offsets)
        ]

    def read(self, cdb: bytes, length: int, *, lun: int = 0) -> Outcome:
        """Run a command that reads up to ``length`` bytes."""
        command = self.command(cdb, flags=wire.FINAL | wire.READ | wire.SIMPLE, length=length, lun=lun)
        self.send(command)
        return self.finish(command)

    def write(
        self,
        cdb: bytes,
        data: bytes,
        *,
        length: int | None = None,
        immediate: int = 0,
        unsolicited: int = 0,
        lun: int = 0,
    ) -> Outcome:
        """Write ``data``: ``immediate`` bytes with the command, ``unsolicited`` more after it, the rest when asked."""
        flags = wire.WRITE | wire.SIMPLE | (0 if unsolicited else wire.FINAL)
        command = self.command(
            cdb, flags=flags, length=len(data) if length is None else length, data=data[:immediate], lun=lun
        )
        sent = immediate + unsolicited
        self.send(command, *(self.burst(command.itt, RESERVED_TAG, data[:sent], immediate) if unsolicited else ()))
        return self.finish(command, data)

    def execute(self, cdb: bytes, *, lun: int = 0) -> Outcome:
        """Run a command that moves no data."""
        command = self.command(cdb, lun=lun)
        self.send(command)
        return self.finish(command)
