# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SCSI status codes, and errors that know their sense data (SPC-4 §4.5)."""

from __future__ import annotations

import struct
from typing import ClassVar, Final

GOOD: Final = 0x00
CHECK_CONDITION: Final = 0x02

NO_SENSE: Final = 0x0
NOT_READY: Final = 0x2
MEDIUM_ERROR: Final = 0x3
HARDWARE_ERROR: Final = 0x4
ILLEGAL_REQUEST: Final = 0x5
UNIT_ATTENTION: Final = 0x6
DATA_PROTECT: Final = 0x7
ABORTED_COMMAND: Final = 0xB

_FIXED = struct.Struct(">BxBLB4xBBxBH")  # SPC-4 §4.5.3: code, key, information, length, ASC, ASCQ, sense-key specific


class ScsiError(Exception):
    """A command ends in CHECK CONDITION with this sense data."""

    key: ClassVar[int]
    code: ClassVar[tuple[int, int]]
    """Additional sense code and qualifier."""

    def __init__(self, information: int | None = None) -> None:
        super().__init__()
        self.information = information

    def specific(self) -> tuple[int, int]:
        """The sense-key specific bytes: the first one and the 16-bit pointer."""
        return 0, 0

    def sense(self) -> bytes:
        """18 bytes of fixed-format sense data."""
        valid = self.information is not None and self.information < 2**32
        flags, pointer = self.specific()
        information = self.information if valid and self.information is not None else 0
        return _FIXED.pack(0xF0 if valid else 0x70, self.key, information, 10, *self.code, flags, pointer)


class IllegalRequest(ScsiError):
    key = ILLEGAL_REQUEST


class InvalidOpcode(IllegalRequest):
    code = (0x20, 0x00)


class LbaOutOfRange(IllegalRequest):
    code = (0x21, 0x00)


class LogicalUnitNotSupported(IllegalRequest):
    code = (0x25, 0x00)


class SavingParametersNotSupported(IllegalRequest):
    code = (0x39, 0x00)


class InvalidFieldInCdb(IllegalRequest):
    """``byte`` and ``bit`` point at the field (SPC-4 §4.5.2.4.2)."""

    code = (0x24, 0x00)

    def __init__(self, byte: int, bit: int | None = None) -> None:
        super().__init__()
        self.byte = byte
        self.bit = bit

    def specific(self) -> tuple[int, int]:
        flags = 0xC0 | (0x08 | self.bit if self.bit is not None else 0)
        return flags, self.byte


class WriteProtected(ScsiError):
    key = DATA_PROTECT
    code = (0x27, 0x00)


class UnrecoveredRead(ScsiError):
    key = MEDIUM_ERROR
    code = (0x11, 0x00)


class WriteFault(ScsiError):
    key = MEDIUM_ERROR
    code = (0x0C, 0x00)


class DeviceMissing(ScsiError):
    """LOGICAL UNIT NOT READY, MANUAL INTERVENTION REQUIRED: what stores its blocks is gone."""

    key = NOT_READY
    code = (0x04, 0x03)


class SpaceAllocationFailed(ScsiError):
    """The backing store is full (SBC-4 §4.7.3.6)."""

    key = DATA_PROTECT
    code = (0x27, 0x07)


class InternalTargetFailure(ScsiError):
    key = HARDWARE_ERROR
    code = (0x44, 0x00)


class BusDeviceReset(ScsiError):
    """BUS DEVICE RESET FUNCTION OCCURRED: another initiator reset the logical unit."""

    key = UNIT_ATTENTION
    code = (0x29, 0x03)


class NexusLossOccurred(ScsiError):
    """I_T NEXUS LOSS OCCURRED (SAM-5 §6.3.4)."""

    key = UNIT_ATTENTION
    code = (0x29, 0x07)


class CommandsCleared(ScsiError):
    """COMMANDS CLEARED BY ANOTHER INITIATOR."""

    key = UNIT_ATTENTION
    code = (0x2F, 0x00)


class CommandsClearedByEvent(ScsiError):
    """SOME COMMANDS CLEARED BY ISCSI PROTOCOL EVENT (RFC 7143 §7.1.5): their connection ended before the session."""

    key = UNIT_ATTENTION
    code = (0x47, 0x7F)


class CapacityChanged(ScsiError):
    key = UNIT_ATTENTION
    code = (0x2A, 0x09)


class LunsChanged(ScsiError):
    """REPORTED LUNS DATA HAS CHANGED (SPC-4 §5.14)."""

    key = UNIT_ATTENTION
    code = (0x3F, 0x0E)


NO_SENSE_DATA: Final = _FIXED.pack(0x70, NO_SENSE, 0, 10, 0, 0, 0, 0)
"""What REQUEST SENSE returns when nothing is pending."""
