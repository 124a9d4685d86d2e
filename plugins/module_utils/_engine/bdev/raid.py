# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block devices made of several: striped (raid0), one after the other (concat), mirrored (raid1); SPDK's bdev_raid."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from typing import Any, Callable, Final

from ..errors import Invalid
from . import beneath
from .base import Bdev, Buffer
from .mirror import MirrorBdev
from .raid_base import Piece, RaidBdev, all_done, awaited, read_piece

__all__ = ("LEVELS", "ConcatBdev", "MirrorBdev", "RaidBdev", "StripedBdev", "make")

_KIB: Final = 1024


class _Scattered(RaidBdev):
    """Every block is in one place."""

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """The parts of a range, in order."""
        raise NotImplementedError

    def read(self, offset: int, length: int) -> Buffer | Awaitable[Buffer]:
        pieces = list(self.pieces(offset, length))
        if len(pieces) == 1:
            return read_piece(pieces[0])
        return self._gather(pieces, length)

    async def _gather(self, pieces: list[Piece], length: int) -> Buffer:
        whole, at = memoryview(bytearray(length)), 0
        parts = await asyncio.gather(*(awaited(read_piece(piece)) for piece in pieces))
        for part in parts:
            whole[at : at + len(part)] = part
            at += len(part)
        return whole

    def write(self, offset: int, data: Buffer) -> Awaitable[None] | None:
        view, at, pending = memoryview(data), 0, []
        for piece in self.pieces(offset, len(data)):
            pending.append(beneath.write(piece.base, piece.offset, view[at : at + piece.length]))
            at += piece.length
        return all_done(pending)


class StripedBdev(_Scattered):
    """Strips of one size, on one base after the other in turns."""

    level = "raid0"

    def __init__(self, name: str, bases: Sequence[Bdev], strip_size_kb: int, uuid: str | None) -> None:
        self._strip = strip_size_kb * _KIB
        strips = min(base.size // self._strip for base in bases)
        super().__init__(name, bases, strips * self._strip * len(bases) // bases[0].block_size, strip_size_kb, uuid)

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        strip, count = self._strip, len(self.bases)
        while length:
            number, inside = divmod(offset, strip)
            size = min(length, strip - inside)
            yield Piece(self.bases[number % count], number // count * strip + inside, size)
            offset += size
            length -= size


class ConcatBdev(_Scattered):
    """One base after the other."""

    level = "concat"

    def __init__(
        self,
        name: str,
        bases: Sequence[Bdev],
        strip_size_kb: int,
        uuid: str | None,
        base_blocks: Sequence[int] | None = None,
    ) -> None:
        """``base_blocks`` are what the bases had when there was first something after them."""
        has = [base.num_blocks for base in bases]
        blocks = has if base_blocks is None else base_blocks
        if len(blocks) != len(has) or any(wanted > there for wanted, there in zip(blocks, has)):
            raise Invalid(f"bdev {name}: base_blocks {blocks}: its base bdevs have {has}")
        strip = strip_size_kb * _KIB
        self._sizes = [count * bases[0].block_size // strip * strip for count in blocks]
        super().__init__(name, bases, sum(self._sizes) // bases[0].block_size, strip_size_kb, uuid)

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        for base, size in zip(self.bases, self._sizes):
            if offset < size and length:
                part = min(length, size - offset)
                yield Piece(base, offset, part)
                offset += part
                length -= part
            offset -= size

    def config(self) -> tuple[str, dict[str, Any]]:
        """With what keeps everything at its place when a base has grown."""
        method, params = super().config()
        strip = self.strip_size_kb * _KIB
        if self._sizes != [base.size // strip * strip for base in self.bases]:
            params["base_blocks"] = [size // self.block_size for size in self._sizes]
        return method, params


def make(
    name: str,
    level: str,
    bases: Sequence[Bdev],
    strip_size_kb: int | None,
    uuid: str | None,
    changed: Callable[[], None],
    base_blocks: Sequence[int] | None = None,
    num_base_bdevs: int | None = None,
) -> RaidBdev:
    """``base_blocks`` is for a ConcatBdev, ``changed`` and ``num_base_bdevs`` for a MirrorBdev. Raises Invalid for what
    does not fit together."""
    if len({base.block_size for base in bases}) != 1:
        sizes = ", ".join(f"{base.name} {base.block_size}" for base in bases)
        raise Invalid(f"bdev {name}: its base bdevs have different block sizes: {sizes}")
    if base_blocks is not None and level != ConcatBdev.level:
        raise Invalid(f"bdev {name}: {level} has no base_blocks")
    if num_base_bdevs is not None and level != MirrorBdev.level:
        raise Invalid(f"bdev {name}: {level} has no num_base_bdevs: it needs all of its base bdevs")
    if level == MirrorBdev.level:
        if strip_size_kb:
            raise Invalid(f"bdev {name}: raid1 has no strips, so no strip_size_kb")
        return MirrorBdev(name, bases, uuid, changed, num_base_bdevs)
    strip = (strip_size_kb or 0) * _KIB
    if strip < bases[0].block_size or strip & (strip - 1):
        raise Invalid(f"bdev {name}: strip_size_kb {strip_size_kb}: a power of two is wanted, at least one block")
    smallest = min(bases, key=lambda base: base.size)
    if smallest.size < strip:
        raise Invalid(f"bdev {name}: bdev {smallest.name} is smaller than a strip of {strip_size_kb} KiB")
    if level == StripedBdev.level:
        return StripedBdev(name, bases, strip_size_kb or 0, uuid)
    return ConcatBdev(name, bases, strip_size_kb or 0, uuid, base_blocks)


LEVELS: Final = {"raid0": "raid0", "0": "raid0", "raid1": "raid1", "1": "raid1", "concat": "concat"}
"""SPDK's names of the levels and what they mean."""
