# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What block devices that are made of several have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Final, NamedTuple

from . import beneath
from .base import Bdev, Buffer

PLAIN: Final = (bytes, bytearray, memoryview, type(None))
"""What reads and writes give that are finished at once."""


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
        return all_done([beneath.flush(base) for base in self.bases])

    def close(self) -> None:
        """The bases have their own ends."""

    def io_types(self) -> set[str]:
        return {"read", "write", "flush", "reset"}

    def details(self) -> dict[str, Any]:
        """As bdev_raid_get_bdevs shows it, without the name."""
        bases = self.below()
        lost = [{"name": None, "uuid": "", "is_configured": False, "data_offset": 0, "data_size": 0}]
        return {
            "uuid": self.uuid,
            "strip_size_kb": self.strip_size_kb,
            "state": "online",
            "raid_level": self.level,
            "superblock": False,
            "num_base_bdevs": self.size_of_bases,
            "num_base_bdevs_discovered": len(bases),
            "num_base_bdevs_operational": len(bases),
            **self._process(),
            "base_bdevs_list": [
                *(
                    {
                        "name": base.name,
                        "uuid": base.uuid,
                        "is_configured": True,
                        "data_offset": 0,
                        "data_size": base.num_blocks,
                    }
                    for base in bases
                ),
                *(lost * (self.size_of_bases - len(bases))),
            ],
        }

    def _process(self) -> dict[str, Any]:
        """What goes on in the background."""
        return {}

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


def read_piece(piece: Piece) -> Buffer | Awaitable[Buffer]:
    """Data that is ours: a base may lend its memory to whoever asks it, who is not the one that sends it."""
    return piece.base.own(beneath.read(*piece), piece.offset, piece.length)


async def awaited(result: Any) -> Any:
    return result if isinstance(result, PLAIN) else await result


async def failed(error: OSError) -> Any:
    raise error


def all_done(results: list[Any]) -> Awaitable[None] | None:
    pending = [each for each in results if each is not None]
    return _gathered(pending) if pending else None


async def _gathered(pending: list[Awaitable[Any]]) -> None:
    await asyncio.gather(*pending)
