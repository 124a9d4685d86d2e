# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRC32C, the digest of iSCSI (RFC 7143 §13.1): by crc32c or google-crc32c where one is installed, else on integers.

A table takes a step a byte, which is slow in Python. Shifting and XORing long integers is fast, and a CRC is the
remainder of a division by a polynomial P over GF(2). Where x^k = x^b + x^c + 1 modulo P, everything of degree k and
above can be folded to lower degrees by three shifts of the whole number; about a dozen folds leave some 70 bytes, which
go through the table. Measured with CPython 3.11: 4 KiB in 13 µs instead of 264 µs, 256 KiB in 0.28 ms instead of 17 ms.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Callable, Final

from ..bdev.base import Buffer

_POLYNOMIAL: Final = 0x82F63B78  # reflected, as everything here: the lowest bit has the highest degree
_ONES: Final = 0xFFFFFFFF
_ENOUGH: Final = 72  # bytes from which folding is faster than the table

_RELATIONS: Final = (
    # x^k is the sum of these powers of x, modulo P; found by searching, proved by the tests
    (563, 109, 58, 53, 31, 0),
    (1285, 40, 38, 19, 8, 0),
    (1944, 119, 76, 3, 2, 0),
    (2731, 74, 70, 51, 4, 0),
    (4003, 57, 46, 30, 4, 0),
    (5685, 1362, 426, 0),
    (12446, 1005, 474, 0),
    (16557, 1853, 1534, 0),
    (32941, 2485, 2222, 0),
    (65581, 2753, 1710, 0),
    (131092, 10048, 4731, 0),
    (262144, 15108, 10429, 0),
    (524288, 20337, 7400, 0),
    (1048576, 40674, 14800, 0),
)


def _table() -> list[int]:
    rows = []
    for byte in range(256):
        crc = byte
        for _bit in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        rows.append(crc)
    return rows


_TABLE: Final = _table()

Fold = tuple[int, int, tuple[int, ...]]
"""Number of low bits to fold away, a mask of them, and how far to shift them, after the rest has moved down."""


@lru_cache(maxsize=256)
def _folds(bits: int) -> tuple[Fold, ...]:
    """The folds that make a message of so many bits short."""
    folds = []
    while bits > _ENOUGH * 8:
        # Above degree k there are bits - k of them; more than k - b at a time would fold onto themselves.
        count, relation = max((min(bits - each[0], each[0] - each[1]), each) for each in _RELATIONS)
        count &= ~7
        if count < 8:
            break
        folds.append((count, (1 << count) - 1, tuple(relation[0] - power - count for power in relation[1:])))
        bits -= count
    return tuple(folds)


def _pure(data: Buffer) -> int:
    size = len(data)
    crc = _ONES
    if size > _ENOUGH:
        number = int.from_bytes(data, "little") ^ _ONES
        crc = 0
        for count, mask, shifts in _folds(size * 8):
            low = number & mask
            number >>= count
            size -= count >> 3
            for shift in shifts:
                number ^= low << shift
        data = number.to_bytes(size, "little")
    table = _TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ _ONES


def _best() -> Callable[[Buffer], int]:
    try:
        import crc32c as package
    except ImportError:
        return _googles()
    best: Callable[[Buffer], int] = package.crc32c
    return best


def _googles() -> Callable[[Buffer], int]:
    try:
        import google_crc32c
    except ImportError:
        return _pure
    if google_crc32c.implementation != "c":
        return _pure
    value: Callable[[bytes], int] = google_crc32c.value
    return lambda data: value(bytes(data))


crc32c: Final = _best()
"""The CRC32C of ``data``, whose bytes go on the wire in little-endian order (RFC 7143 §13.1, Appendix A)."""
INTACT: Final = crc32c(bytes(4) + crc32c(bytes(4)).to_bytes(4, "little"))
"""What comes of data together with the digest that follows it, whatever the data."""

IN_PYTHON: Final = crc32c is _pure
"""Neither package is there, so that digests are dear."""
