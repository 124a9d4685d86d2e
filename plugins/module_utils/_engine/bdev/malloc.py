# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A block device in memory (SPDK's bdev_malloc)."""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

from ..errors import EngineError, Invalid
from ..facts import BLOCK_SIZES
from .base import Bdev, Buffer


class MallocBdev(Bdev):
    """Anonymous memory, taken page by page as it is written. READs are views of it, not copies."""

    product_name = "Malloc disk"
    consumes_inline = True
    lends_memory = True

    def __init__(
        self,
        name: str,
        num_blocks: int,
        block_size: int,
        uuid: str | None = None,
        physical_block_size: int | None = None,
    ) -> None:
        if block_size <= 0 or block_size % 512 or block_size not in BLOCK_SIZES:
            raise Invalid(f"bdev {name}: block size {block_size}: 512 and 4096 are possible")
        if num_blocks <= 0:
            raise Invalid(f"bdev {name}: {num_blocks} blocks: at least one is needed")
        super().__init__(name, block_size, num_blocks, uuid)
        self.physical_block_size = physical_block_size or block_size
        try:
            self._memory = mmap.mmap(-1, self.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, OverflowError, ValueError) as error:
            wrapped = error if isinstance(error, OSError) else OSError(12, str(error))
            raise EngineError.from_os(wrapped, f"bdev {name}: cannot get {self.size} bytes of memory") from error
        self._view = memoryview(self._memory)

    def read(self, offset: int, length: int) -> Buffer:
        return self._view[offset : offset + length]

    def write(self, offset: int, data: Buffer) -> None:
        if self._borrowers:
            self.recall()
        self._view[offset : offset + len(data)] = data

    def flush(self) -> None:
        return None

    def close(self) -> None:
        self.recall()
        self._view.release()
        # A READ that is being answered may still show this memory; it is unmapped when that view goes.
        with contextlib.suppress(BufferError):
            self._memory.close()

    def io_types(self) -> set[str]:
        return super().io_types() | {"compare", "copy", "abort"}

    def config(self) -> tuple[str, dict[str, Any]]:
        return "bdev_malloc_create", {
            "name": self.name,
            "num_blocks": self.num_blocks,
            "block_size": self.block_size,
            "physical_block_size": self.physical_block_size,
            "uuid": self.uuid,
        }
