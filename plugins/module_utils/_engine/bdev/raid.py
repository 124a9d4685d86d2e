# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block devices made of several: striped (raid0), one after the other (concat), mirrored (raid1); SPDK's bdev_raid."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterator, Sequence
from typing import Any, Callable, Final, NamedTuple

from ..errors import Invalid
from . import beneath
from .base import Bdev, Buffer

_LOG = logging.getLogger(__name__)

_PLAIN: Final = (bytes, bytearray, memoryview, type(None))
KIB: Final = 1024


class Piece(NamedTuple):
    """Where a part of a range is stored."""

    base: Bdev
    offset: int
    length: int


class RaidBdev(Bdev):
    """What the levels have in common. The bases are of one block size."""

    product_name = "Raid Volume"
    level: str

    def __init__(self, name: str, bases: Sequence[Bdev], num_blocks: int, strip_size_kb: int, uuid: str | None) -> None:
        super().__init__(name, bases[0].block_size, num_blocks, uuid)
        self.bases = list(bases)
        self.strip_size_kb = strip_size_kb
        self.readonly = any(base.readonly for base in bases)
        self.size_of_bases = len(bases)
        """How many there were at first."""

    def below(self) -> Sequence[Bdev]:
        return self.bases

    def flush(self) -> Awaitable[None] | None:
        return _all_done([beneath.flush(base) for base in self.bases])

    def close(self) -> None:
        """The bases have their own ends."""

    def io_types(self) -> set[str]:
        return {"read", "write", "flush", "reset"}

    def details(self) -> dict[str, Any]:
        """As bdev_raid_get_bdevs shows it, without the name."""
        lost = [{"name": None, "uuid": "", "is_configured": False, "data_offset": 0, "data_size": 0}]
        return {
            "uuid": self.uuid,
            "strip_size_kb": self.strip_size_kb,
            "state": "online",
            "raid_level": self.level,
            "superblock": False,
            "num_base_bdevs": self.size_of_bases,
            "num_base_bdevs_discovered": len(self.bases),
            "num_base_bdevs_operational": len(self.bases),
            "base_bdevs_list": [
                *(
                    {
                        "name": base.name,
                        "uuid": base.uuid,
                        "is_configured": True,
                        "data_offset": 0,
                        "data_size": base.num_blocks,
                    }
                    for base in self.bases
                ),
                *(lost * (self.size_of_bases - len(self.bases))),
            ],
        }

    def driver_specific(self) -> dict[str, Any]:
        return {"raid": self.details()}

    def config(self) -> tuple[str, dict[str, Any]]:
        strips = {"strip_size_kb": self.strip_size_kb} if self.strip_size_kb else {}
        return "bdev_raid_create", {
            "name": self.name,
            "raid_level": self.level,
            **strips,
            "base_bdevs": [base.name for base in self.bases],
            "uuid": self.uuid,
        }


class _Scattered(RaidBdev):
    """Every block is in one place."""

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """The parts of a range, in order."""
        raise NotImplementedError

    def read(self, offset: int, length: int) -> Buffer | Awaitable[Buffer]:
        pieces = list(self.pieces(offset, length))
        if len(pieces) == 1:
            return _read(pieces[0])
        return self._gather(pieces, length)

    async def _gather(self, pieces: list[Piece], length: int) -> Buffer:
        whole, at = memoryview(bytearray(length)), 0
        parts = await asyncio.gather(*(_awaited(_read(piece)) for piece in pieces))
        for part in parts:
            whole[at : at + len(part)] = part
            at += len(part)
        return whole

    def write(self, offset: int, data: Buffer) -> Awaitable[None] | None:
        view, at, pending = memoryview(data), 0, []
        for piece in self.pieces(offset, len(data)):
            pending.append(beneath.write(piece.base, piece.offset, view[at : at + piece.length]))
            at += piece.length
        return _all_done(pending)


class StripedBdev(_Scattered):
    """Strips of one size, on one base after the other in turns."""

    level = "raid0"

    def __init__(self, name: str, bases: Sequence[Bdev], strip_size_kb: int, uuid: str | None) -> None:
        self._strip = strip_size_kb * KIB
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
        strip = strip_size_kb * KIB
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
        strip = self.strip_size_kb * KIB
        if self._sizes != [base.size // strip * strip for base in self.bases]:
            params["base_blocks"] = [size // self.block_size for size in self._sizes]
        return method, params


class MirrorBdev(RaidBdev):
    """The same on every base. One that fails is given up for good, as long as another one is left.

    Reads are of the first base, so that blocks that were never written are always the same.
    """

    level = "raid1"

    def __init__(self, name: str, bases: Sequence[Bdev], uuid: str | None, degraded: Callable[[], None]) -> None:
        """``degraded`` is called when a base was given up: that has to be saved, or it would be back with old data."""
        super().__init__(name, bases, min(base.num_blocks for base in bases), 0, uuid)
        self._degraded = degraded

    def lose(self, base: Bdev) -> bool:
        if self.bases == [base]:
            return False
        self._give_up(base, "it is deleted")
        return True

    def lose_named(self, name: str) -> None:
        """Another process of the engine gave the base of that name up."""
        for base in self.bases:
            if base.name == name:
                self._give_up(base, "another process of the engine met an error of it")

    def _give_up(self, base: Bdev, why: object) -> None:
        if base in self.bases and len(self.bases) > 1:
            _LOG.error("bdev %s goes on without its mirror %s: %s", self.name, base.name, why)
            self.bases = [each for each in self.bases if each is not base]
            self._degraded()

    def read(self, offset: int, length: int) -> Buffer | Awaitable[Buffer]:
        piece = Piece(self.bases[0], offset, length)
        try:
            result = _read(piece)
        except OSError as error:
            return self._read_again(piece, _failed(error))
        return result if isinstance(result, _PLAIN) else self._read_again(piece, result)

    async def _read_again(self, piece: Piece, pending: Awaitable[Buffer]) -> Buffer:
        while True:
            try:
                return await pending
            except OSError as error:
                if len(self.bases) == 1:
                    raise
                self._give_up(piece.base, error)
                piece = piece._replace(base=self.bases[0])
                pending = _awaited(_read(piece))

    def write(self, offset: int, data: Buffer) -> Awaitable[None] | None:
        pending: list[tuple[Bdev, Awaitable[None]]] = []
        for base in list(self.bases):
            try:
                result = beneath.write(base, offset, data)
            except OSError as error:
                pending.append((base, _failed(error)))
            else:
                if result is not None:
                    pending.append((base, result))
        return self._written(pending) if pending else None

    async def _written(self, pending: list[tuple[Bdev, Awaitable[None]]]) -> None:
        outcomes = await asyncio.gather(*(each for _base, each in pending), return_exceptions=True)
        failed = [(base, outcome) for (base, _each), outcome in zip(pending, outcomes) if outcome is not None]
        for base, outcome in failed:
            if self.bases == [base] or not isinstance(outcome, OSError):
                raise outcome
            self._give_up(base, outcome)


def make(
    name: str,
    level: str,
    bases: Sequence[Bdev],
    strip_size_kb: int | None,
    uuid: str | None,
    degraded: Callable[[], None],
    base_blocks: Sequence[int] | None = None,
) -> RaidBdev:
    """``base_blocks`` is for a ConcatBdev. Raises Invalid for what does not fit together."""
    if len({base.block_size for base in bases}) != 1:
        sizes = ", ".join(f"{base.name} {base.block_size}" for base in bases)
        raise Invalid(f"bdev {name}: its base bdevs have different block sizes: {sizes}")
    if base_blocks is not None and level != ConcatBdev.level:
        raise Invalid(f"bdev {name}: {level} has no base_blocks")
    if level == MirrorBdev.level:
        if strip_size_kb:
            raise Invalid(f"bdev {name}: raid1 has no strips, so no strip_size_kb")
        return MirrorBdev(name, bases, uuid, degraded)
    strip = (strip_size_kb or 0) * KIB
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


def _read(piece: Piece) -> Buffer | Awaitable[Buffer]:
    """Data that is ours: a base may lend its memory to whoever asks it, who is not the one that sends it."""
    result = beneath.read(*piece)
    return bytes(result) if piece.base.lends_memory and isinstance(result, _PLAIN) else result


async def _awaited(result: Any) -> Any:
    return result if isinstance(result, _PLAIN) else await result


async def _failed(error: OSError) -> Any:
    raise error


def _all_done(results: list[Any]) -> Awaitable[None] | None:
    pending = [each for each in results if each is not None]
    return _gathered(pending) if pending else None


async def _gathered(pending: list[Awaitable[Any]]) -> None:
    await asyncio.gather(*pending)
