# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SCSI status codes, and errors that know their sense data (SPC-4 §4.5)."""

from __future__ import annotations

import struct
from typing import ClassVar, Final

GOOD: Final = 0x00
CHECK_CONDITION: Final = 0x02
RESERVATION_CONFLICT: Final = 0x18
TASK_ABORTED: Final = 0x40

NO_SENSE: Final = 0x0
NOT_READY: Final = 0x2
MEDIUM_ERROR: Final = 0x3
HARDWARE_ERROR: Final = 0x4
ILLEGAL_REQUEST: Final = 0x5
UNIT_ATTENTION: Final = 0x6
DATA_PROTECT: Final = 0x7
COPY_ABORTED: Final = 0xA
ABORTED_COMMAND: Final = 0xB
MISCOMPARE: Final = 0xE

_FIXED = struct.Struct(">BxBLB4xBBxBH")  # SPC-4 §4.5.3: code, key, information, length, ASC, ASCQ, sense-key specific
_DESCRIPTORS = struct.Struct(">BBBB3xB")  # SPC-4 §4.5.2: code, key, ASC, ASCQ, additional length
_INFORMATION = struct.Struct(">BBBxQ")
_SPECIFIC = struct.Struct(">BBxxBHx")


class CommandFailed(Exception):
    """A command ends with this status."""

    status: ClassVar[int]

    def sense(self, descriptors: bool = False) -> bytes:
        """The sense data, in descriptor format if asked for; empty for a status that has none."""
        del descriptors
        return b""


class ReservationConflict(CommandFailed):
    """Somebody else has reserved the logical unit (SPC-4 §5.12)."""

    status = RESERVATION_CONFLICT


class ScsiError(CommandFailed):
    """A command ends in CHECK CONDITION with this sense data."""

    status = CHECK_CONDITION
    key: ClassVar[int]
    code: ClassVar[tuple[int, int]]
    """Additional sense code and qualifier."""

    def __init__(self, information: int | None = None) -> None:
        super().__init__()
        self.information = information

    def specific(self) -> tuple[int, int]:
        """The sense-key specific bytes: the first one and the 16-bit pointer."""
        return 0, 0

    def sense(self, descriptors: bool = False) -> bytes:
        """18 bytes of fixed-format sense data, or the descriptor format, which has room for any LBA."""
        if descriptors:
            return self._descriptor_format()
        valid = self.information is not None and self.information < 2**32
        flags, pointer = self.specific()
        information = self.information if valid and self.information is not None else 0
        return _FIXED.pack(0xF0 if valid else 0x70, self.key, information, 10, *self.code, flags, pointer)

    def _descriptor_format(self) -> bytes:
        descriptors = b""
        if self.information is not None:
            descriptors += _INFORMATION.pack(0, 10, 0x80, self.information)
        flags, pointer = self.specific()
        if flags:
            descriptors += _SPECIFIC.pack(2, 6, flags, pointer)
        return _DESCRIPTORS.pack(0x72, self.key, *self.code, len(descriptors)) + descriptors


class NoSense(ScsiError):
    """What REQUEST SENSE returns when nothing is pending."""

    key = NO_SENSE
    code = (0x00, 0x00)


class IllegalRequest(ScsiError):
    key = ILLEGAL_REQUEST


class ParameterListLengthError(IllegalRequest):
    code = (0x1A, 0x00)


class InvalidOpcode(IllegalRequest):
    code = (0x20, 0x00)


class LbaOutOfRange(IllegalRequest):
    code = (0x21, 0x00)


class LogicalUnitNotSupported(IllegalRequest):
    code = (0x25, 0x00)


class InvalidRelease(IllegalRequest):
    """INVALID RELEASE OF PERSISTENT RESERVATION."""

    code = (0x26, 0x04)


class TooManyTargetDescriptors(IllegalRequest):
    code = (0x26, 0x06)


class UnsupportedTargetDescriptor(IllegalRequest):
    code = (0x26, 0x07)


class TooManySegmentDescriptors(IllegalRequest):
    code = (0x26, 0x08)


class UnsupportedSegmentDescriptor(IllegalRequest):
    code = (0x26, 0x09)


class SavingParametersNotSupported(IllegalRequest):
    code = (0x39, 0x00)


class MediumRemovalPrevented(IllegalRequest):
    code = (0x53, 0x02)


class InsufficientRegistrationResources(IllegalRequest):
    code = (0x55, 0x04)


class _FieldError(IllegalRequest):
    """``byte`` and ``bit`` point at the field (SPC-4 §4.5.2.4.2)."""

    in_cdb: ClassVar[int]

    def __init__(self, byte: int, bit: int | None = None) -> None:
        super().__init__()
        self.byte = byte
        self.bit = bit

    def specific(self) -> tuple[int, int]:
        flags = 0x80 | self.in_cdb | (0x08 | self.bit if self.bit is not None else 0)
        return flags, self.byte


class InvalidFieldInCdb(_FieldError):
    code = (0x24, 0x00)
    in_cdb = 0x40


class InvalidFieldInParameters(_FieldError):
    """INVALID FIELD IN PARAMETER LIST."""

    code = (0x26, 0x00)
    in_cdb = 0


class NotReady(ScsiError):
    key = NOT_READY


class DeviceMissing(ScsiError):
    """LOGICAL UNIT NOT READY, MANUAL INTERVENTION REQUIRED: what stores its blocks is gone."""

    key = NOT_READY
    code = (0x04, 0x03)


class BecomingReady(NotReady):
    """LOGICAL UNIT IS IN PROCESS OF BECOMING READY: initiators try again."""

    code = (0x04, 0x01)


class MediumNotPresent(NotReady):
    code = (0x3A, 0x00)


class TargetPortStandby(NotReady):
    """TARGET PORT IN STANDBY STATE (SPC-4 §5.15.2.4)."""

    code = (0x04, 0x0B)


class TargetPortUnavailable(NotReady):
    code = (0x04, 0x0C)


class AccessStateTransition(NotReady):
    code = (0x04, 0x0A)


class _InProgress(NotReady):
    """``progress`` is 0 to 65535 of 65536 (SPC-4 §4.5.2.4.4)."""

    def __init__(self, progress: int) -> None:
        super().__init__()
        self.progress = progress

    def specific(self) -> tuple[int, int]:
        return 0x80, self.progress


class FormatInProgress(_InProgress):
    code = (0x04, 0x04)


class SanitizeInProgress(_InProgress):
    code = (0x04, 0x1B)


class WriteProtected(ScsiError):
    key = DATA_PROTECT
    code = (0x27, 0x00)


class SpaceAllocationFailed(ScsiError):
    """The backing store is full (SBC-4 §4.7.3.6)."""

    key = DATA_PROTECT
    code = (0x27, 0x07)


class UnrecoveredRead(ScsiError):
    key = MEDIUM_ERROR
    code = (0x11, 0x00)


class WriteFault(ScsiError):
    key = MEDIUM_ERROR
    code = (0x0C, 0x00)


class FormatFailed(ScsiError):
    key = MEDIUM_ERROR
    code = (0x31, 0x01)


class SanitizeFailed(ScsiError):
    key = MEDIUM_ERROR
    code = (0x31, 0x03)


class InternalTargetFailure(ScsiError):
    key = HARDWARE_ERROR
    code = (0x44, 0x00)


class Miscompare(ScsiError):
    """MISCOMPARE DURING VERIFY OPERATION; the information is the offset of the first differing byte."""

    key = MISCOMPARE
    code = (0x1D, 0x00)


class CopyTargetNotReachable(ScsiError):
    """COPY TARGET DEVICE NOT REACHABLE."""

    key = COPY_ABORTED
    code = (0x0D, 0x02)


class UnitAttention(ScsiError):
    key = UNIT_ATTENTION


class MediumMayHaveChanged(UnitAttention):
    """NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED."""

    code = (0x28, 0x00)


class BusDeviceReset(UnitAttention):
    """BUS DEVICE RESET FUNCTION OCCURRED: another initiator reset the logical unit."""

    code = (0x29, 0x03)


class NexusLossOccurred(UnitAttention):
    """I_T NEXUS LOSS OCCURRED (SAM-5 §6.3.4)."""

    code = (0x29, 0x07)


class ModeParametersChanged(UnitAttention):
    code = (0x2A, 0x01)


class ReservationsPreempted(UnitAttention):
    code = (0x2A, 0x03)


class ReservationsReleased(UnitAttention):
    code = (0x2A, 0x04)


class RegistrationsPreempted(UnitAttention):
    code = (0x2A, 0x05)


class AccessStateChanged(UnitAttention):
    """ASYMMETRIC ACCESS STATE CHANGED."""

    code = (0x2A, 0x06)


class CapacityChanged(UnitAttention):
    code = (0x2A, 0x09)


class CommandsCleared(UnitAttention):
    """COMMANDS CLEARED BY ANOTHER INITIATOR."""

    code = (0x2F, 0x00)


class LunsChanged(UnitAttention):
    """REPORTED LUNS DATA HAS CHANGED (SPC-4 §5.14)."""

    code = (0x3F, 0x0E)


class CommandsClearedByEvent(UnitAttention):
    """SOME COMMANDS CLEARED BY ISCSI PROTOCOL EVENT (RFC 7143 §7.1.5): their connection ended before the session."""

    code = (0x47, 0x7F)
