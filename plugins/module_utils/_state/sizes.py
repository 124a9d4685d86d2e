# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes as people write them: ``64MiB``, ``10GiB``, ``1.5T``, ``67108864``."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_BINARY: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
_DECIMAL: Final = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_SIZE: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?:(?P<unit>[KMGTP])(?P<kind>iB|B)?|B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes meant by ``text``; K and KiB are 1024, KB is 1000 (as truncate and dd read them).

    Raises ValueError with a sentence that names the text.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size. Write bytes or a number with KiB, MiB, GiB or TiB, such as 10GiB.")
    unit = (match["unit"] or "").upper()
    units = _DECIMAL if (match["kind"] or "").upper() == "B" else _BINARY
    size = Decimal(match["number"]) * units.get(unit, 1)
    if size != size.to_integral_value():
        raise ValueError(f"{text!r} is not a whole number of bytes.")
    return int(size)


def show_size(size: int) -> str:
    """The shortest exact way to write ``size`` bytes: 67108864 -> 64MiB, 1000 -> 1000B."""
    for unit, factor in reversed(_BINARY.items()):
        if size and size % factor == 0:
            return f"{size // factor}{unit}iB"
    return f"{size}B"
