# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reservation commands that the tests send (SPC-4 §6.15, §6.16), and what PERSISTENT RESERVE IN answers."""

from __future__ import annotations

import struct

REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, REGISTER_AND_IGNORE, REGISTER_AND_MOVE = range(8)
READ_KEYS, READ_RESERVATION, REPORT_CAPABILITIES, READ_FULL_STATUS = range(4)
WRITE_EXCLUSIVE, EXCLUSIVE_ACCESS = 1, 3
APTPL, ALL_TG_PT, SPEC_I_PT = 0x01, 0x04, 0x08
RESERVATION_CONFLICT = 0x18


def reserve_out_cdb(action: int, kind: int = 0, length: int = 24) -> bytes:
    return struct.pack(">BBB2xLx", 0x5F, action, kind, length)


def reserve_out_list(key: int, action_key: int = 0, flags: int = 0, more: bytes = b"") -> bytes:
    return struct.pack(">QQ4xB3x", key, action_key, flags) + more


def reserve_in_cdb(action: int, allocation: int = 1024) -> bytes:
    return struct.pack(">BB5xHx", 0x5E, action, allocation)


def keys(data: bytes) -> tuple[int, list[int]]:
    """Generation and keys of READ KEYS."""
    generation, length = struct.unpack_from(">LL", data)
    return generation, [key for (key,) in struct.iter_unpack(">Q", data[8 : 8 + length])]


def reservation(data: bytes) -> tuple[int, int] | None:
    """Key and type of READ RESERVATION, or None."""
    if not struct.unpack_from(">L", data, 4)[0]:
        return None
    (key,) = struct.unpack_from(">Q", data, 8)
    return key, data[21] & 0x0F
