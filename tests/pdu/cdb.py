# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CDBs that the tests send (SPC-6, SBC-4)."""

from __future__ import annotations

import struct


def unit_ready() -> bytes:
    return bytes(6)


def inquiry(page: int | None = None, allocation: int = 255) -> bytes:
    return struct.pack(">BBBHB", 0x12, 0 if page is None else 1, page or 0, allocation, 0)


def read_10(lba: int, blocks: int) -> bytes:
    return struct.pack(">BBLBHB", 0x28, 0, lba, 0, blocks, 0)


def write_10(lba: int, blocks: int) -> bytes:
    return struct.pack(">BBLBHB", 0x2A, 0, lba, 0, blocks, 0)


def read_16(lba: int, blocks: int) -> bytes:
    return struct.pack(">BBQLBB", 0x88, 0, lba, blocks, 0, 0)


def write_16(lba: int, blocks: int) -> bytes:
    return struct.pack(">BBQLBB", 0x8A, 0, lba, blocks, 0, 0)


def read_capacity_10() -> bytes:
    return struct.pack(">B9x", 0x25)


def read_capacity_16(allocation: int = 32) -> bytes:
    return struct.pack(">BB8xLBB", 0x9E, 0x10, allocation, 0, 0)


def report_luns(allocation: int = 4096) -> bytes:
    return struct.pack(">BxB3xLxx", 0xA0, 0, allocation)


def synchronize_cache_10() -> bytes:
    return struct.pack(">B9x", 0x35)


def reserve_6() -> bytes:
    return bytes([0x16, *bytes(5)])
