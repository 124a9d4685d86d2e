# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TransportIDs of iSCSI initiator ports (SPC-4 §7.6.4.6)."""

from __future__ import annotations

import struct
from typing import Final

from .sense import InvalidFieldInParameters

_ISCSI: Final = 0x5
_DEVICE, _PORT = 0x00, 0x40
"""Formats: the name alone, or the name and the ISID."""
_LEAST: Final = 20


def encode(initiator_port: str) -> bytes:
    """``name,i,0xISID``, NUL-terminated and padded to four bytes."""
    text = initiator_port.encode()
    text += b"\0" * (4 - len(text) % 4)
    text = text.ljust(_LEAST, b"\0")
    return struct.pack(">BBH", _PORT | _ISCSI, 0, len(text)) + text


def decode(data: bytes) -> str:
    """The initiator port in lower case. Raises InvalidFieldInParameters for anything but an iSCSI port with ISID."""
    if len(data) < 4 or data[0] != _PORT | _ISCSI:
        raise InvalidFieldInParameters(byte=24)
    size = int.from_bytes(data[2:4], "big")
    text = data[4 : 4 + size].rstrip(b"\0")
    try:
        name = text.decode().lower()
    except UnicodeDecodeError:
        raise InvalidFieldInParameters(byte=28) from None
    if ",i,0x" not in name:
        raise InvalidFieldInParameters(byte=28)
    return name


def decode_list(data: bytes) -> list[str]:
    """The ports of a TransportID list: its length, then one after the other. Raises InvalidFieldInParameters."""
    rest, names = data[4 : 4 + int.from_bytes(data[:4], "big")], []
    while rest:
        size = 4 + int.from_bytes(rest[2:4], "big")
        if len(rest) < 4 or len(rest) < size:
            raise InvalidFieldInParameters(byte=24)
        names.append(decode(rest[:size]))
        rest = rest[size:]
    return names
