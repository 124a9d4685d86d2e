# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""iSCSI PDU formats (RFC 7143 §11): opcodes, flags, and one struct a format.

Every struct covers the 48 bytes of a basic header segment. In those the engine receives, the LUN is one 64-bit
number; in those it sends, ``length`` is AHS length and data segment length in one 32-bit word.
"""

from __future__ import annotations

import struct
from typing import Final

from ..bdev.base import Buffer

HEADER: Final = 48
RESERVED_TAG: Final = 0xFFFFFFFF

# Initiator opcodes
NOP_OUT: Final = 0x00
SCSI_COMMAND: Final = 0x01
TASK_MANAGEMENT: Final = 0x02
LOGIN: Final = 0x03
TEXT: Final = 0x04
DATA_OUT: Final = 0x05
LOGOUT: Final = 0x06
SNACK: Final = 0x10

# Target opcodes
NOP_IN: Final = 0x20
SCSI_RESPONSE: Final = 0x21
TASK_MANAGEMENT_RESPONSE: Final = 0x22
LOGIN_RESPONSE: Final = 0x23
TEXT_RESPONSE: Final = 0x24
DATA_IN: Final = 0x25
LOGOUT_RESPONSE: Final = 0x26
R2T: Final = 0x31
ASYNC_MESSAGE: Final = 0x32
REJECT: Final = 0x3F

OPCODE_MASK: Final = 0x3F
IMMEDIATE: Final = 0x40
FINAL: Final = 0x80
CONTINUE: Final = 0x40
READ: Final = 0x40
WRITE: Final = 0x20
STATUS: Final = 0x01
OVERFLOW: Final = 0x04
UNDERFLOW: Final = 0x02


# Reject reasons, §11.17.1. Not used: 07h (task in progress) is about TASK REASSIGN, 0Ch (waiting for logout) about
# targets that refuse commands after asking for a logout, which this one carries out until the connection ends. Text
# that is too long is a protocol error here, not 0Ah.
REJECT_DATA_DIGEST: Final = 0x02
REJECT_SNACK: Final = 0x03
REJECT_PROTOCOL_ERROR: Final = 0x04
REJECT_NOT_SUPPORTED: Final = 0x05
REJECT_TOO_MANY_IMMEDIATE: Final = 0x06
REJECT_DATA_ACK: Final = 0x08
REJECT_INVALID_FIELD: Final = 0x09

# Asynchronous events, §11.9.1. Event 4 (negotiate anew) has no use: what the target declares stays the same.
ASYNC_SCSI_EVENT: Final = 0
ASYNC_LOGOUT_REQUEST: Final = 1
ASYNC_DROP_CONNECTION: Final = 2
ASYNC_DROP_SESSION: Final = 3

# Additional header segments, §11.2.2
AHS_EXTENDED_CDB: Final = 1
AHS_READ_LENGTH: Final = 2

LENGTHS: Final = struct.Struct(">4xL")
"""Of any PDU: AHS length in words (high byte) and data segment length (three bytes)."""

SCSI_COMMAND_PDU: Final = struct.Struct(">xB6xQLLLL16s")
"""flags, LUN, ITT, expected data transfer length, CmdSN, ExpStatSN, CDB (§11.3)"""
DATA_OUT_PDU: Final = struct.Struct(">xB6xQLL4xL4xLL4x")
"""flags, LUN, ITT, TTT, ExpStatSN, DataSN, buffer offset (§11.7)"""
NOP_OUT_PDU: Final = struct.Struct(">8xQLLLL16x")
"""LUN, ITT, TTT, CmdSN, ExpStatSN (§11.18)"""
TASK_MANAGEMENT_PDU: Final = struct.Struct(">xB6xQLLLLLL8x")
"""function, LUN, ITT, referenced task tag, CmdSN, ExpStatSN, RefCmdSN, ExpDataSN (§11.5)"""
TEXT_PDU: Final = struct.Struct(">xB6xQLLLL16x")
"""flags, LUN, ITT, TTT, CmdSN, ExpStatSN (§11.10)"""
LOGOUT_PDU: Final = struct.Struct(">xB14xLH2xLL16x")
"""reason, ITT, CID, CmdSN, ExpStatSN (§11.14)"""
LOGIN_PDU: Final = struct.Struct(">xBBB4x6sHLH2xLL16x")
"""flags, VersionMax, VersionMin, ISID, TSIH, ITT, CID, CmdSN, ExpStatSN (§11.12)"""

DATA_IN_PDU: Final = struct.Struct(">BBxBL8xLLLLLLLL")
"""opcode, flags, status, length, ITT, TTT, StatSN, ExpCmdSN, MaxCmdSN, DataSN, buffer offset, residual (§11.7)"""
SCSI_RESPONSE_PDU: Final = struct.Struct(">BBBBL8xLLLLLLLL")
"""opcode, flags, response, status, length, ITT, SNACK tag, StatSN, ExpCmdSN, MaxCmdSN, ExpDataSN, bidirectional
residual, residual (§11.4)"""
R2T_PDU: Final = struct.Struct(">BBxxLQLLLLLLLL")
"""opcode, flags, length, LUN, ITT, TTT, StatSN, ExpCmdSN, MaxCmdSN, R2TSN, buffer offset, desired length (§11.8)"""
NOP_IN_PDU: Final = struct.Struct(">BBxxLQLLLLL12x")
"""opcode, flags, length, LUN, ITT, TTT, StatSN, ExpCmdSN, MaxCmdSN (§11.19)"""
SNACK_PDU: Final = struct.Struct(">xB14xLL24x")
"""flags with the type, ITT, TTT (§11.16)"""
TASK_MANAGEMENT_RESPONSE_PDU: Final = struct.Struct(">BBBxL3s5xL4xLLL12x")
"""opcode, flags, response, length, additional response information (RFC 7144 §6.2), ITT, StatSN, ExpCmdSN, MaxCmdSN
(§11.6)"""
TEXT_RESPONSE_PDU: Final = struct.Struct(">BBxxLQLLLLL12x")
"""opcode, flags, length, LUN, ITT, TTT, StatSN, ExpCmdSN, MaxCmdSN (§11.11)"""
LOGOUT_RESPONSE_PDU: Final = struct.Struct(">BBBxL8xL4xLLL4xHH4x")
"""opcode, flags, response, length, ITT, StatSN, ExpCmdSN, MaxCmdSN, Time2Wait, Time2Retain (§11.15)"""
LOGIN_RESPONSE_PDU: Final = struct.Struct(">BBBBL6sHL4xLLLBB10x")
"""opcode, flags, VersionMax, VersionActive, length, ISID, TSIH, ITT, StatSN, ExpCmdSN, MaxCmdSN, status class,
status detail (§11.13)"""
ASYNC_PDU: Final = struct.Struct(">BBxxLQL4xLLLBBHHH4x")
"""opcode, flags, length, LUN, reserved tag, StatSN, ExpCmdSN, MaxCmdSN, event, vendor code, parameters (§11.9)"""
REJECT_PDU: Final = struct.Struct(">BBBxL8xL4xLLLL8x")
"""opcode, flags, reason, length, reserved tag, StatSN, ExpCmdSN, MaxCmdSN, DataSN (§11.17)"""

_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")


def with_data(header: bytes, data: Buffer) -> list[Buffer]:
    """A PDU as a list of buffers: header, data, and padding to a multiple of four bytes."""
    if not data:
        return [header]
    padding = _PADDING[len(data) & 3]
    return [header, data, padding] if padding else [header, data]
