# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRC32C by the definition, a bit at a time into a table and a byte at a time from it: slow and simple."""

from __future__ import annotations

_TABLE = []
for _byte in range(256):
    _crc = _byte
    for _bit in range(8):
        _crc = _crc >> 1 ^ (0x82F63B78 if _crc & 1 else 0)
    _TABLE.append(_crc)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def digest(data: bytes) -> bytes:
    """As it goes on the wire."""
    return crc32c(data).to_bytes(4, "little")
