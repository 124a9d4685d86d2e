# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A block device in memory (SPDK's bdev_malloc)."""

from __future__ import annotations

import contextlib
import mmap
import os

from ..errors import EngineError
from .base import Buffer, check_blocks
from .blank import BlankBdev
from .mapping import Memory


def shared_memory(name: str, num_blocks: int, block_size: int) -> int:
    """A descriptor of memory for a device of that size which processes can share. Raises EngineError."""
    check_blocks(name, num_blocks, block_size)
    try:
        memory = os.memfd_create(f"bdev {name}"[:200], os.MFD_CLOEXEC)
        try:
            os.ftruncate(memory, _map_begins(num_blocks * block_size) + num_blocks)
        except BaseException:
            os.close(memory)
            raise
    except (OSError, OverflowError) as error:
        wrapped = error if isinstance(error, OSError) else OSError(12, str(error))
        raise EngineError.from_os(wrapped, f"bdev {name}: cannot get {num_blocks * block_size} bytes") from error
    return memory


def _map_begins(size: int) -> int:
    """Where, behind the blocks, shared memory has the map of those that take space."""
    return -(-size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY


class MallocBdev(BlankBdev):
    """Memory, taken page by page as it is written. READs are views of it, not copies.

    It is anonymous, or shared with other processes of the engine, of which one uses it at a time.
    """

    product_name = "Malloc disk"
    consumes_inline = True
    lends_memory = True
    counts = True
    unmaps = True
    made_by = "bdev_malloc_create"
    atomic_bytes = 1024 * 1024
    """It is gone altogether after a power cut."""

    def __init__(
        self,
        name: str,
        num_blocks: int,
        block_size: int,
        uuid: str | None = None,
        physical_block_size: int | None = None,
        shared: int | None = None,
    ) -> None:
        """``shared`` is a descriptor of :func:`shared_memory`, which belongs to the device from now on."""
        self.shared = shared
        self._written: bytearray | mmap.mmap
        """A byte for each block: 1 when it takes space."""
        super().__init__(name, num_blocks, block_size, uuid, physical_block_size)

    def _take_space(self) -> None:
        try:
            if self.shared is None:
                self._memory = mmap.mmap(-1, self.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                self._written = bytearray(self.num_blocks)
            else:
                self._memory = mmap.mmap(self.shared, self.size)
                self._written = mmap.mmap(self.shared, self.num_blocks, offset=_map_begins(self.size))
        except (OSError, OverflowError, ValueError) as error:
            wrapped = error if isinstance(error, OSError) else OSError(12, str(error))
            raise EngineError.from_os(wrapped, f"bdev {self.name}: cannot get {self.size} bytes of memory") from error
        self._view = memoryview(self._memory)
        self.memory = Memory(self._view, (), self._view)
        # What is given back of shared memory has to be taken from all who share it.
        self._release = mmap.MADV_DONTNEED if self.shared is None else mmap.MADV_REMOVE

    def read(self, offset: int, length: int) -> Buffer:
        return self._view[offset : offset + length]

    def write(self, offset: int, data: Buffer) -> None:
        if self.borrowers:
            self.recall()
        length = len(data)
        self._view[offset : offset + length] = data
        self.written(offset // self.block_size, length // self.block_size)

    def written(self, first: int, blocks: int) -> None:
        if blocks == 1:
            self._written[first] = 1
        else:
            self._written[first : first + blocks] = b"\1" * blocks

    def unmap(self, offset: int, length: int) -> None:
        """Whole pages go back to the system; what is left at the edges is cleared."""
        if self.borrowers:
            self.recall()
        first, blocks = offset // self.block_size, length // self.block_size
        self._written[first : first + blocks] = bytes(blocks)
        self._clear(offset, length)

    def write_zeroes(self, offset: int, length: int) -> None:
        if self.borrowers:
            self.recall()
        self.written(offset // self.block_size, length // self.block_size)
        self._clear(offset, length)

    def _clear(self, offset: int, length: int) -> None:
        end = offset + length
        inner = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
        inner_end = end // mmap.PAGESIZE * mmap.PAGESIZE
        if inner >= inner_end:
            self._view[offset:end] = bytes(length)
            return
        self._view[offset:inner] = bytes(inner - offset)
        self._memory.madvise(self._release, inner, inner_end - inner)
        self._view[inner_end:end] = bytes(end - inner_end)

    def allocation(self, offset: int, length: int) -> tuple[bool, int]:
        first, last = offset // self.block_size, (offset + length) // self.block_size
        taken = self._written[first]
        end = self._written.find(b"\0" if taken else b"\1", first, last)
        return bool(taken), (last if end < 0 else end) * self.block_size - offset

    def flush(self) -> None:
        return None

    def close(self) -> None:
        self.recall()
        self.memory = None
        self._view.release()
        # A READ that is being answered may still show this memory; it is unmapped when that view goes.
        with contextlib.suppress(BufferError):
            self._memory.close()
        if self.shared is not None:
            os.close(self.shared)
            self.shared = None

    def io_types(self) -> set[str]:
        return super().io_types() | {"compare", "copy", "abort"}
