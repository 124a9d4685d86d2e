# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block devices that a size and a name are enough for."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from ..errors import Invalid
from .base import Bdev, check_blocks

_MAX_EXPONENT: Final = 15
"""Of the logical blocks in a physical one, as a power of two: READ CAPACITY(16) has four bits for it (SBC-4)."""

_LEAST: Final = 512
"""Bytes of a physical block, as in SPDK; one smaller than a logical block means nothing."""


class BlankBdev(Bdev):
    """Begins with nothing in it. ``physical_block_size`` None is the block size. Raises Invalid."""

    made_by: ClassVar[str]
    """The method that makes one."""

    def __init__(
        self,
        name: str,
        num_blocks: int,
        block_size: int,
        uuid: str | None = None,
        physical_block_size: int | None = None,
    ) -> None:
        check_blocks(name, num_blocks, block_size)
        super().__init__(name, block_size, num_blocks, uuid)
        self.physical_block_size = physical_block_size or block_size
        physical, largest = self.physical_block_size, block_size << _MAX_EXPONENT
        if not _LEAST <= physical <= largest or physical & (physical - 1):
            raise Invalid(
                f"bdev {name}: physical block size {physical}: a power of 2 from {_LEAST} to {largest} is wanted"
            )
        self._take_space()

    def _take_space(self) -> None:
        """Get what the blocks are kept in. Raises EngineError."""

    def config(self) -> tuple[str, dict[str, Any]]:
        return self.made_by, {
            "name": self.name,
            "num_blocks": self.num_blocks,
            "block_size": self.block_size,
            "physical_block_size": self.physical_block_size,
            "uuid": self.uuid,
        }
