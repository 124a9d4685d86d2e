# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A block device that stores nothing (SPDK's bdev_null): for measuring everything above it."""

from __future__ import annotations

from typing import Any

from ..errors import Invalid
from .base import Buffer
from .blank import BlankBdev


class NullBdev(BlankBdev):
    """Reads give zeroes, writes are forgotten."""

    product_name = "Null disk"
    consumes_inline = True
    unmaps = True
    made_by = "bdev_null_create"

    def read(self, _offset: int, length: int) -> Buffer:
        return bytes(length)

    def write(self, _offset: int, _data: Buffer) -> None:
        return None

    def unmap(self, _offset: int, _length: int) -> None:
        return None

    def write_zeroes(self, _offset: int, _length: int) -> None:
        return None

    def allocation(self, _offset: int, length: int) -> tuple[bool, int]:
        return False, length

    def flush(self) -> None:
        return None

    def resize(self, size: int) -> None:
        """``size`` in bytes. Raises Invalid."""
        if size < self.size:
            raise Invalid(f"bdev {self.name}: it is never shrunk; it has {self.size} bytes already")
        if size <= 0 or size % self.block_size:
            raise Invalid(f"bdev {self.name}: size {size} is not a multiple of its block size {self.block_size}")
        self.num_blocks = size // self.block_size

    def close(self) -> None:
        """There is nothing to give back."""

    def settings(self) -> dict[str, Any]:
        return {"num_blocks": self.num_blocks}

    def config(self) -> tuple[str, dict[str, Any]]:
        method, params = super().config()
        return method, {**params, **self.hints}
