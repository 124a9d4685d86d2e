# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The syntax of text: key=value pairs, numbers, binary values (RFC 7143 §6.1)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from ..bdev.base import Buffer

Pairs = list[tuple[str, str]]

_MAX_KEY_BYTES: Final = 63
_MAX_DIGITS: Final = 20
"""No number that is negotiated comes near; more digits only cost time."""
_DECIMAL: Final = re.compile(rf"[0-9]{{1,{_MAX_DIGITS}}}")
_HEXADECIMAL: Final = re.compile(r"0[xX]([0-9a-fA-F]+)")
_BASE64: Final = re.compile(r"0[bB]([0-9a-zA-Z+/]+={0,2})")


class TextError(Exception):
    """A text that is not made of unique key=value pairs."""


def parse_text(data: Buffer) -> Pairs:
    """The pairs of a complete text, in order. Raises TextError."""
    pairs: dict[str, str] = {}
    for item in bytes(data).split(b"\0"):
        if not item:
            continue
        key, equals, value = item.partition(b"=")
        if not equals or not key or len(key) > _MAX_KEY_BYTES:
            raise TextError(f"not key=value: {item[:80]!r}")
        try:
            name = key.decode("ascii")
            if name in pairs:
                raise TextError(f"key {name!r} given twice")
            pairs[name] = value.decode("utf-8")
        except UnicodeDecodeError:
            raise TextError(f"not UTF-8: the value of {key!r}") from None
    return list(pairs.items())


def build_text(pairs: Pairs) -> bytes:
    return b"".join(f"{key}={value}".encode() + b"\0" for key, value in pairs)


def parse_number(text: str) -> int | None:
    """A decimal or hexadecimal constant; None for anything else."""
    if _DECIMAL.fullmatch(text):
        return int(text)
    found = _HEXADECIMAL.fullmatch(text)
    return int(found[1], 16) if found and len(text) <= _MAX_DIGITS else None


def parse_binary(text: str, most: int) -> bytes | None:
    """A hexadecimal or base64 constant of 1 to ``most`` bytes; None for anything else."""
    if len(text) > 2 + 2 * most:
        return None
    found = _HEXADECIMAL.fullmatch(text)
    try:
        if found:
            value = bytes.fromhex(found[1].zfill(len(found[1]) + 1 & ~1))
        else:
            found = _BASE64.fullmatch(text)
            value = base64.b64decode(found[1], validate=True) if found else b""
    except binascii.Error:
        return None
    return value if 1 <= len(value) <= most else None


def build_binary(value: bytes) -> str:
    return f"0x{value.hex()}"
