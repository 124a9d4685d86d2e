# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameter decoding: small combinators that are put together in tables, as strict as SPDK's decoders.

A table can be read as well as used: the combinators give values that say what they take. A decoder takes a value and
where it stands, and gives the value the handler wants. Anything unknown, repeated, missing or of the wrong type raises
:class:`Mismatch`, whose message names the place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Final, NamedTuple

from .framing import Repeated

Decoder = Callable[[Any, str], Any]

MAX_STRING_BYTES: Final = 4096
UINT16_MAX: Final = 2**16 - 1
INT32_MAX: Final = 2**31 - 1
UINT32_MAX: Final = 2**32 - 1
UINT64_MAX: Final = 2**64 - 1


class Mismatch(ValueError):
    """A parameter that does not fit its table."""


class Field(NamedTuple):
    """One key of an object."""

    decoder: Decoder
    required: bool
    default: Any = None


Table = Mapping[str, Field]


def required(decoder: Decoder) -> Field:
    return Field(decoder, required=True)


def optional(decoder: Decoder, default: Any = None) -> Field:
    return Field(decoder, required=False, default=default)


@dataclass(frozen=True)
class Integer:
    low: int
    high: int

    def __call__(self, value: Any, where: str) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Mismatch(f"{where}: a whole number is wanted, not {_kind(value)}")
        if not self.low <= value <= self.high:
            raise Mismatch(f"{where}: {value} is not between {self.low} and {self.high}")
        return value


@dataclass(frozen=True)
class String:
    max_bytes: int
    least: int

    def __call__(self, value: Any, where: str) -> str:
        if not isinstance(value, str):
            raise Mismatch(f"{where}: a string is wanted, not {_kind(value)}")
        if "\0" in value:
            raise Mismatch(f"{where}: a string must not contain NUL")
        try:
            size = len(value.encode("utf-8"))
        except UnicodeEncodeError:
            raise Mismatch(f"{where}: not valid Unicode") from None
        if not self.least <= size <= self.max_bytes:
            raise Mismatch(f"{where}: {size} bytes; {self.least} to {self.max_bytes} are possible")
        return value


@dataclass(frozen=True)
class Choice:
    values: tuple[str, ...]

    def __call__(self, value: Any, where: str) -> str:
        chosen = string()(value, where)
        if chosen not in self.values:
            raise Mismatch(f"{where}: {_shown(chosen)} is none of {', '.join(self.values)}")
        return str(chosen)


@dataclass(frozen=True)
class Array:
    item: Decoder
    limit: int
    least: int

    def __call__(self, value: Any, where: str) -> list[Any]:
        if not isinstance(value, list):
            raise Mismatch(f"{where}: an array is wanted, not {_kind(value)}")
        if not self.least <= len(value) <= self.limit:
            raise Mismatch(f"{where}: {len(value)} items; {self.least} to {self.limit} are possible")
        return [self.item(entry, f"{where}[{index}]") for index, entry in enumerate(value)]


@dataclass(frozen=True)
class Pair:
    table: Table
    order: tuple[str, ...]

    def __call__(self, value: Any, where: str) -> tuple[Any, ...]:
        fields = decode_object(self.table, value, where)
        return tuple(fields[name] for name in self.order)


@dataclass(frozen=True)
class Fields:
    table: Table

    def __call__(self, value: Any, where: str) -> dict[str, Any]:
        given = decode_object(self.table, value, where)
        return {name: each for name, each in given.items() if each is not None}


def integer(low: int, high: int) -> Decoder:
    """A whole number from ``low`` to ``high``; 64.0 and 6.4e1 are whole, as for SPDK, and "64" is not a number."""
    return Integer(low, high)


def string(max_bytes: int = MAX_STRING_BYTES, least: int = 0) -> Decoder:
    """Text of ``least`` to ``max_bytes`` bytes of UTF-8 without NUL."""
    return String(max_bytes, least)


def choice(*values: str) -> Decoder:
    return Choice(values)


def boolean(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise Mismatch(f"{where}: true or false is wanted, not {_kind(value)}")
    return value


def anything(value: Any, where: str) -> dict[str, Any]:
    """An object, in which what is wanted is known elsewhere."""
    if not isinstance(value, dict):
        raise Mismatch(f"{where}: an object is wanted, not {_kind(value)}")
    return value


def array(item: Decoder, limit: int, least: int = 0) -> Decoder:
    """A list of ``least`` to ``limit`` items."""
    return Array(item, limit, least)


def pair(table: Table, order: Sequence[str]) -> Decoder:
    """An object whose fields become a tuple in ``order``."""
    return Pair(table, tuple(order))


def fields(table: Table) -> Decoder:
    """An object; what is not given and has no default is not in it."""
    return Fields(table)


def decode_object(table: Table, value: Any, where: str = "") -> dict[str, Any]:
    """Every field of ``table``, with the defaults of what is left out. Raises Mismatch."""
    if not isinstance(value, dict):
        raise Mismatch(f"{where or 'params'}: an object is wanted, not {_kind(value)}")
    prefix = f"{where}." if where else ""
    if isinstance(value, Repeated):
        raise Mismatch(f"{prefix}{value.key} is given more than once")
    unknown = value.keys() - table.keys()
    if unknown:
        known = ", ".join(table) if table else "none"
        raise Mismatch(f"{prefix}{_shown(min(unknown))} is not a parameter; there are: {known}")
    fields = {}
    for name, field in table.items():
        if name in value:
            fields[name] = field.decoder(value[name], prefix + name)
        elif field.required:
            raise Mismatch(f"{prefix}{name} is missing")
        else:
            fields[name] = field.default
    return fields


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "an object")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 64 else name[:64] + "…")
