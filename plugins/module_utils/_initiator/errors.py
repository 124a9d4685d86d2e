# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong between an initiator and a target: one sentence each, ready to be shown."""

from __future__ import annotations


class InitiatorError(Exception):
    """The target did not do what an initiator may expect."""


class CheckCondition(InitiatorError):
    """A SCSI command ended with sense data: ``key``, ``asc`` and ``ascq`` (SPC-6)."""

    def __init__(self, what: str, key: int, asc: int, ascq: int) -> None:
        super().__init__(f"{what}: refused with sense key {key:#x}, additional sense {asc:#04x}/{ascq:#04x}")
        self.key = key
        self.asc = asc
        self.ascq = ascq


def parse_sense(what: str, sense: bytes) -> CheckCondition:
    """Fixed (70h, 71h) and descriptor (72h, 73h) format, SPC-6 §4.5."""
    if sense[0] & 0x7F >= 0x72:
        return CheckCondition(what, sense[1] & 0xF, sense[2], sense[3])
    return CheckCondition(what, sense[2] & 0xF, sense[12], sense[13])
