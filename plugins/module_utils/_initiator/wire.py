# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""iSCSI PDUs on a TCP connection, as an initiator without digests needs them (RFC 7143 §11)."""

from __future__ import annotations

import socket
import struct
from typing import Final, NamedTuple

from .errors import InitiatorError

BHS_LENGTH: Final = 48
RESERVED_TAG: Final = 0xFFFFFFFF
NO_LUN: Final = bytes(8)

# Initiator opcodes (§11.2.1.2); IMMEDIATE is the I bit of the same byte.
NOP_OUT: Final = 0x00
SCSI_COMMAND: Final = 0x01
LOGIN: Final = 0x03
TEXT: Final = 0x04
DATA_OUT: Final = 0x05
LOGOUT: Final = 0x06
IMMEDIATE: Final = 0x40
# Target opcodes.
NOP_IN: Final = 0x20
SCSI_RESPONSE: Final = 0x21
LOGIN_RESPONSE: Final = 0x23
TEXT_RESPONSE: Final = 0x24
DATA_IN: Final = 0x25
LOGOUT_RESPONSE: Final = 0x26
R2T: Final = 0x31
ASYNC: Final = 0x32
REJECT: Final = 0x3F

FINAL: Final = 0x80

_HEAD: Final = struct.Struct(">B3sB3s8sL")  # opcode, flags and two bytes, AHS length in words, data length, LUN, ITT


class Pdu(NamedTuple):
    """A PDU. ``rest`` holds the bytes 20 to 47 of the header, whose meaning depends on the opcode."""

    opcode: int
    flags: int
    lun: bytes = NO_LUN
    tag: int = RESERVED_TAG
    rest: bytes = b""
    data: bytes = b""
    low: bytes = b"\0\0"  # bytes 2 and 3

    def word(self, offset: int) -> int:
        """The 32-bit number at ``offset`` of the whole header."""
        return int.from_bytes(self.rest[offset - 20 : offset - 16], "big")


class Wire:
    """A TCP connection that carries whole PDUs; every operation ends within ``timeout`` seconds."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), timeout)
        except OSError as error:
            raise InitiatorError(
                f"portal {self.name}: cannot connect ({error.strerror or error}). Is the target up, with this portal?"
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, pdu: Pdu) -> None:
        """Raises InitiatorError."""
        length = len(pdu.data)
        flags = bytes((pdu.flags,)) + pdu.low
        header = _HEAD.pack(pdu.opcode, flags, 0, length.to_bytes(3, "big"), pdu.lun, pdu.tag)
        header += pdu.rest.ljust(BHS_LENGTH - 20, b"\0")
        try:
            self._socket.sendall(header + pdu.data + bytes(-length % 4))
        except OSError as error:
            raise self._lost(error) from error

    def receive(self) -> Pdu:
        """The next PDU of the target. Raises InitiatorError."""
        header = self._read(BHS_LENGTH)
        opcode, flags, ahs_words, _length, lun, tag = _HEAD.unpack_from(header)
        self._read(4 * ahs_words)
        data = self._read(int.from_bytes(header[5:8], "big"))
        self._read(-len(data) % 4)
        return Pdu(opcode & 0x3F, flags[0], lun, tag, header[20:], data, flags[1:])

    def close(self) -> None:
        self._socket.close()

    def _read(self, size: int) -> bytes:
        pieces = []
        while size:
            try:
                piece = self._socket.recv(size)
            except OSError as error:
                raise self._lost(error) from error
            if not piece:
                raise InitiatorError(f"portal {self.name}: the target closed the connection. See its log.")
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _lost(self, error: OSError) -> InitiatorError:
        if isinstance(error, socket.timeout):
            return InitiatorError(
                f"portal {self.name}: no answer in {self._socket.gettimeout():g} s. See the target's log."
            )
        return InitiatorError(
            f"portal {self.name}: the connection broke ({error.strerror or error}). See the target's log."
        )
