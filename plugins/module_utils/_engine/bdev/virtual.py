# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block devices on top of another one: passed on as it is (SPDK's bdev_passthru), or a part of it (bdev_split)."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Final
from uuid import UUID, uuid5

from . import beneath
from .base import Bdev, Borrower, Buffer

_MIB: Final = 1024 * 1024


class VirtualBdev(Bdev):
    """Everything goes to ``base``, ``first_block`` blocks further on."""

    def __init__(
        self, name: str, base: Bdev, uuid: str | None = None, first_block: int = 0, num_blocks: int | None = None
    ) -> None:
        super().__init__(name, base.block_size, base.num_blocks if num_blocks is None else num_blocks, uuid)
        self.base = base
        self.follows_size = num_blocks is None
        """It is as long as what is below it."""
        self.physical_block_size = base.physical_block_size
        self.first_block = first_block
        self.readonly = base.readonly
        self.unmaps = base.unmaps
        self.unmaps_to_zeroes = base.unmaps_to_zeroes
        self.consumes_inline = base.consumes_inline
        self._shift = first_block * base.block_size

    @property
    def lends_memory(self) -> bool:
        return self.base.lends_memory

    @lends_memory.setter
    def lends_memory(self, _value: bool) -> None:
        """What is below decides."""

    @property
    def missing(self) -> bool:
        return self.base.missing

    def read(self, offset: int, length: int) -> Buffer | Awaitable[Buffer]:
        return beneath.read(self.base, self._shift + offset, length)

    def write(self, offset: int, data: Buffer) -> Awaitable[Any] | None:
        return beneath.write(self.base, self._shift + offset, data)

    def write_through(self, offset: int, data: Buffer) -> Awaitable[Any] | None:
        return beneath.write_through(self.base, self._shift + offset, data)

    def unmap(self, offset: int, length: int) -> Awaitable[Any] | None:
        return beneath.unmap(self.base, self._shift + offset, length)

    def write_zeroes(self, offset: int, length: int) -> Awaitable[Any] | None:
        return beneath.write_zeroes(self.base, self._shift + offset, length)

    def allocation(self, offset: int, length: int) -> tuple[bool, int] | Awaitable[tuple[bool, int]]:
        return self.base.allocation(self._shift + offset, length)

    def below(self) -> Sequence[Bdev]:
        return (self.base,)

    def flush(self) -> Awaitable[Any] | None:
        return beneath.flush(self.base)

    def lend(self, borrower: Borrower) -> None:
        self.base.lend(borrower)

    def return_loan(self, borrower: Borrower) -> None:
        self.base.return_loan(borrower)

    def has_lost(self) -> bool:
        return self.base.has_lost()

    def distrust(self) -> None:
        self.base.distrust()

    def close(self) -> None:
        """What is below has its own end."""

    def io_types(self) -> set[str]:
        return self.base.io_types()


class PassthruBdev(VirtualBdev):
    """The base device under another name."""

    product_name = "passthru"

    def driver_specific(self) -> dict[str, Any]:
        return {"passthru": {"name": self.name, "base_bdev_name": self.base.name}}

    def config(self) -> tuple[str, dict[str, Any]]:
        return "bdev_passthru_create", {"base_bdev_name": self.base.name, "name": self.name, "uuid": self.uuid}


class SplitBdev(VirtualBdev):
    """One of the equal parts of the base device: ``disk0p1`` of ``disk0``.

    When a configuration is loaded the first one makes all of them, by ``count``, as many as there was room for, and
    ``size_mb`` as it was asked for. Its UUID follows from the base device's, so that it is the same every time.
    """

    product_name = "Split Disk"

    def __init__(self, base: Bdev, index: int, num_blocks: int, count: int, size_mb: int) -> None:
        same = str(uuid5(UUID(base.uuid), f"p{index}"))
        super().__init__(f"{base.name}p{index}", base, same, index * num_blocks, num_blocks)
        self.index = index
        self.count = count
        self.size_mb = size_mb

    def driver_specific(self) -> dict[str, Any]:
        return {"split": {"base_bdev": self.base.name, "offset_blocks": self.first_block}}

    def config(self) -> tuple[str, dict[str, Any]] | None:
        if self.index:
            return None
        return "bdev_split_create", {
            "base_bdev": self.base.name,
            "split_count": self.count,
            "split_size_mb": self.size_mb,
            **self._kept_size(),
        }

    def _kept_size(self) -> dict[str, int]:
        """What keeps the parts where they are when the base device grows. SPDK knows whole MiB."""
        whole, rest = divmod(self.size, _MIB)
        if self.size_mb or not rest:
            return {"split_size_mb": self.size_mb or whole}
        has_grown = self.base.num_blocks // self.count != self.num_blocks
        return {"split_blocks": self.num_blocks} if has_grown else {}
