# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes of hugepages and amounts of memory as people and the kernel write them, and pages as they are declared."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNITS: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_AMOUNT: Final = re.compile(r"(\d+)\s*([KMGT])(?:iB|B)?", re.IGNORECASE)
_COUNT: Final = re.compile(r"\d+")
_NODE: Final = re.compile(r"(?:node)?(\d+)")


class Wish(NamedTuple):
    """Pages of one size (bytes) that are declared: by NUMA node, or as a total under None."""

    size: int
    places: Mapping[int | None, int]

    @property
    def total(self) -> int | None:
        return self.places.get(None)

    def shown(self) -> int | dict[str, int]:
        """In the form of the option."""
        total = self.total
        return {str(node): count for node, count in self.places.items()} if total is None else total


def parse_amount(text: str) -> int:
    """Bytes meant by ``2M``, ``2MiB``, ``2048kB``; every unit counts in 1024, as the kernel's do. Raises HostError."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise HostError(f"{text!r} is not an amount of memory. Write a whole number with K, M or G, such as 2M.")
    return int(match[1]) * _UNITS[match[2].upper()]


def show_amount(size: int) -> str:
    """The shortest exact way to write bytes: 2097152 -> 2M."""
    for unit, factor in reversed(_UNITS.items()):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def parse_pages(declared: Mapping[str, Any]) -> list[Wish]:
    """The option ``pages``: size to a count, an amount, or a mapping of nodes to those. Raises HostError."""
    wishes: dict[int, Wish] = {}
    for text, value in declared.items():
        try:
            size = parse_amount(str(text))
        except HostError as error:
            raise HostError(f"pages: {error}") from error
        if size in wishes:
            raise HostError(f"pages: {show_amount(size)} is declared twice, once as {text}. Leave one of them out.")
        wishes[size] = _wish(size, value)
    return sorted(wishes.values())


def _wish(size: int, value: Any) -> Wish:
    where = f"pages: {show_amount(size)}"
    if not isinstance(value, dict):
        return Wish(size, {None: _count(where, size, value)})
    nodes: dict[int | None, int] = {}
    for text, count in value.items():
        match = _NODE.fullmatch(str(text))
        if match is None:
            raise HostError(f"{where}: {text!r} is no NUMA node. Write its number, such as 0.")
        nodes[int(match[1])] = _count(f"{where}: node {match[1]}", size, count)
    if not nodes:
        raise HostError(f"{where}: no node is named. Write pages, or leave the size out.")
    return Wish(size, nodes)


def _count(where: str, size: int, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    text = str(value).strip()
    if isinstance(value, str) and _COUNT.fullmatch(text):
        return int(text)
    if not isinstance(value, str) or not _AMOUNT.fullmatch(text):
        raise HostError(f"{where}: {value!r} is no number of pages. Write one, or an amount such as 256MiB.")
    amount = parse_amount(text)
    if amount % size:
        raise HostError(
            f"{where}: {text} is no multiple of {show_amount(size)}. Write {show_amount(_up(amount, size))}."
        )
    return amount // size


def _up(amount: int, size: int) -> int:
    return -(-amount // size) * size
