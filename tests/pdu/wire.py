# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""iSCSI PDUs as bytes, for tests that must send what no well-behaved client would. Shares nothing with the engine.

A :class:`Pdu` is a basic header segment whose fields have names, and its data; any field may be set to anything.
"""

from __future__ import annotations

import struct
from typing import Final

RESERVED_TAG: Final = 0xFFFFFFFF
BHS_LENGTH: Final = 48

NOP_OUT, SCSI_COMMAND, TASK_REQUEST, LOGIN, TEXT, DATA_OUT, LOGOUT, SNACK = (
    0x00,
    0x01,
    0x02,
    0x03,
    0x04,
    0x05,
    0x06,
    0x10,
)
NOP_IN, SCSI_RESPONSE, TASK_RESPONSE, LOGIN_RESPONSE, TEXT_RESPONSE, DATA_IN, LOGOUT_RESPONSE = (
    0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26,
)  # fmt: skip
R2T, ASYNC, REJECT = 0x31, 0x32, 0x3F

IMMEDIATE: Final = 0x40
FINAL: Final = 0x80
CONTINUE: Final = 0x40
READ: Final = 0x40
WRITE: Final = 0x20
SIMPLE: Final = 0x01
STATUS_FOLLOWS: Final = 0x01
UNDERFLOW: Final = 0x02
OVERFLOW: Final = 0x04

# RFC 7143 §11: name -> offset and size in the header. Names overlap where PDUs use the same bytes for different things.
FIELDS: Final = {
    "response": (2, 1), "reason": (2, 1), "version_max": (2, 1), "status": (3, 1), "version_active": (3, 1),
    "ahs_words": (4, 1), "data_length": (5, 3), "tsih": (14, 2), "itt": (16, 4),
    "ttt": (20, 4), "expected_length": (20, 4), "cid": (20, 2), "ref_task_tag": (20, 4),
    "cmd_sn": (24, 4), "stat_sn": (24, 4), "exp_stat_sn": (28, 4), "exp_cmd_sn": (28, 4), "max_cmd_sn": (32, 4),
    "data_sn": (36, 4), "r2t_sn": (36, 4), "exp_data_sn": (36, 4),
    "async_event": (36, 1), "status_class": (36, 1), "status_detail": (37, 1),
    "buffer_offset": (40, 4), "desired_length": (44, 4), "residual": (44, 4), "read_residual": (40, 4),
    "time2wait": (40, 2), "time2retain": (42, 2), "ref_cmd_sn": (32, 4),
}  # fmt: skip


class Pdu:
    """One PDU. ``lun``, ``isid`` and ``cdb`` are bytes, the rest of :data:`FIELDS` numbers."""

    def __init__(
        self,
        opcode: int,
        flags: int = FINAL,
        *,
        immediate: bool = False,
        data: bytes = b"",
        ahs: bytes = b"",
        lun: int = 0,
        isid: bytes | None = None,
        cdb: bytes = b"",
        **fields: int,
    ) -> None:
        self.header = bytearray(BHS_LENGTH)
        self.header[0] = opcode | (IMMEDIATE if immediate else 0)
        self.header[1] = flags
        self.header[8:10] = struct.pack(">H", lun)
        if isid is not None:
            self.header[8:14] = isid
        self.header[32 : 32 + len(cdb)] = cdb
        self.ahs = ahs
        self.data = data
        self.set(ahs_words=len(ahs) // 4, data_length=len(data), **fields)

    @classmethod
    def parse(cls, header: bytes, ahs: bytes = b"", data: bytes = b"") -> Pdu:
        pdu = cls(0)
        pdu.header = bytearray(header)
        pdu.ahs = ahs
        pdu.data = data
        return pdu

    def set(self, **fields: int) -> Pdu:
        """Overwrite fields, for instance with what they must not be."""
        for name, value in fields.items():
            offset, size = FIELDS[name]
            self.header[offset : offset + size] = value.to_bytes(size, "big")
        return self

    def __getattr__(self, name: str) -> int:
        try:
            offset, size = FIELDS[name]
        except KeyError:
            raise AttributeError(name) from None
        return int.from_bytes(self.header[offset : offset + size], "big")

    @property
    def opcode(self) -> int:
        return self.header[0] & 0x3F

    @property
    def flags(self) -> int:
        return self.header[1]

    @property
    def final(self) -> bool:
        return bool(self.header[1] & FINAL)

    @property
    def sense(self) -> tuple[int, int, int]:
        """Sense key, additional sense code and qualifier of a SCSI response with fixed sense data."""
        data = self.data[2:]
        return data[2] & 0x0F, data[12], data[13]

    def __bytes__(self) -> bytes:
        return bytes(self.header) + self.ahs + self.data + bytes(-len(self.data) % 4)

    def __repr__(self) -> str:
        return f"<{self.opcode:#04x} flags {self.flags:#04x} header {self.header.hex(' ', 4)} + {len(self.data)} B>"


def text_data(pairs: dict[str, str]) -> bytes:
    return b"".join(f"{key}={value}\0".encode() for key, value in pairs.items())


def parse_text(data: bytes) -> list[tuple[str, str]]:
    """Keys and values in order; SendTargets answers repeat keys."""
    entries = (entry.decode().partition("=") for entry in data.split(b"\0") if entry)
    return [(key, value) for key, _separator, value in entries]
