# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Additional header segments of SCSI commands (RFC 7143 §11.2.2): longer CDBs, and how much a two-way command reads."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from . import pdu

_FIRST: Final = struct.Struct(">HB")
"""Length in bytes without these three, type"""
_READ_LENGTH: Final = struct.Struct(">xL")
_READ_LENGTH_BYTES: Final = 5
_LONGEST_CDB: Final = 260  # SPC-4 §4.2.3: a variable-length CDB


class AhsError(Exception):
    """Additional header segments that RFC 7143 does not know."""


class Extension(NamedTuple):
    """What additional header segments add to a SCSI command."""

    cdb: bytes = b""
    """What follows the first 16 bytes of the CDB."""
    read_length: int | None = None
    """Bytes that the initiator has room for, of a command that moves data both ways."""


def parse(segments: bytes) -> Extension:
    """Raises AhsError."""
    cdb: bytes = b""
    read_length: int | None = None
    seen = set()
    while segments:
        if len(segments) < _FIRST.size:
            raise AhsError("an additional header segment without length")
        length, kind = _FIRST.unpack_from(segments)
        content = segments[_FIRST.size : _FIRST.size + length]
        if len(content) != length or kind in seen:
            raise AhsError(f"additional header segment of type {kind} and {length} bytes")
        seen.add(kind)
        if kind == pdu.AHS_EXTENDED_CDB and 1 < length <= _LONGEST_CDB - 15:
            cdb = content[1:]
        elif kind == pdu.AHS_READ_LENGTH and length == _READ_LENGTH_BYTES:
            (read_length,) = _READ_LENGTH.unpack(content)
        else:
            raise AhsError(f"additional header segment of type {kind} and {length} bytes")
        segments = segments[(_FIRST.size + length + 3) & ~3 :]
    return Extension(cdb, read_length)
