# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory that a controller may read and write: 2 MiB hugepages, which never move, and pieces of them."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import mmap
from typing import Callable, Final

from ..errors import EngineError
from .numa import near

_LOG = logging.getLogger(__name__)

PAGE: Final = 4096
"""The controller's memory page size, bytes."""
HUGE: Final = 2 * 1024 * 1024
LARGEST: Final = 1024 * 1024
"""The largest piece, bytes."""
MAX_HUGE_PAGES: Final = 32
"""Data pages a controller may take: 64 MiB."""

_SIZES: Final = (PAGE, 32 * 1024, 256 * 1024, LARGEST)
_MAP_HUGETLB: Final = 0x40000  # linux/mman.h
_MAP_HUGE_2MB: Final = 21 << 26
_MAP_POPULATE: Final = 0x8000


class HugePage:
    """2 MiB of memory at virtual address ``virtual``. ``bus`` is where the controller sees it, once it is mapped."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory: mmap.mmap | None = memory
        self.view = memoryview(memory)
        self.virtual = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self.bus = 0

    @classmethod
    def take(cls, node: int = -1) -> HugePage:
        """A free hugepage of the host, of this NUMA node if it has one. Raises EngineError (ENOMEM) without any."""
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | _MAP_HUGETLB | _MAP_HUGE_2MB | _MAP_POPULATE
        try:
            with near(node):
                return cls(mmap.mmap(-1, HUGE, flags=flags))
        except OSError as error:
            raise EngineError.from_os(
                error,
                "no 2 MiB hugepage is free for an NVMe device. Reserve some, for example with the hugepages module: "
                "a controller takes 2 to 33 of them",
            ) from error

    def give_back(self) -> None:
        self.view.release()
        memory, self._memory = self._memory, None
        # Somebody may still hold a view of it; then it goes with that.
        with contextlib.suppress(BufferError):
            if memory is not None:
                memory.close()


class Piece:
    """Contiguous memory for the data of one command: ``view`` for us, ``bus`` for the controller."""

    __slots__ = ("bus", "entries", "slab", "view")

    def __init__(self, slab: Slab, view: memoryview, bus: int, entries: int) -> None:
        self.slab = slab
        self.view = view
        self.bus = bus
        self.entries = entries
        """Bus address of the PRP list that begins with this piece's second page."""

    def free(self) -> None:
        """Nobody uses it any more."""
        self.slab.free.append(self)

    def prps(self, length: int) -> tuple[int, int]:
        """The two PRP entries of a command that moves ``length`` bytes from or to the start (§4.1.1)."""
        if length <= PAGE:
            return self.bus, 0
        if length <= 2 * PAGE:
            return self.bus, self.bus + PAGE
        return self.bus, self.entries


class Slab:
    """A hugepage cut into pieces of one size.

    Its PRP list names all its pages. A command that begins anywhere in it points into the list, so no list is ever
    built for a command.
    """

    def __init__(self, page: HugePage, list_view: memoryview, list_bus: int) -> None:
        self.page = page
        self._list_bus = list_bus
        list_view.cast("Q")[:] = memoryview(
            b"".join((page.bus + at).to_bytes(8, "little") for at in range(0, HUGE, PAGE))
        ).cast("Q")
        self.size = 0
        self.total = 0
        self.free: list[Piece] = []

    @property
    def idle(self) -> bool:
        return len(self.free) == self.total

    def cut(self, size: int) -> None:
        """Cut anew; nothing of it may be in use."""
        self.size = size
        self.total = HUGE // size
        view, bus = self.page.view, self.page.bus
        self.free = [
            Piece(self, view[at : at + size], bus + at, self._list_bus + (at // PAGE + 1) * 8)
            for at in range(0, HUGE, size)
        ]

    def drop(self) -> None:
        """Nothing is cut from it any more; without this the pieces would keep the page until the collector comes by."""
        for piece in self.free:
            piece.view.release()
        self.free = []


class DmaMemory:
    """All the memory of one controller: a page for queues and lists, and slabs for data, taken as they are needed.

    ``to_bus`` makes a page usable by the controller and gives its bus address; ``take`` gets a page of the host.
    """

    def __init__(
        self,
        to_bus: Callable[[HugePage], int],
        take: Callable[[], HugePage],
        limit: int = MAX_HUGE_PAGES,
    ) -> None:
        self._to_bus = to_bus
        self._take = take
        self._limit = min(limit, MAX_HUGE_PAGES)
        self._slabs: list[Slab] = []
        self._fixed = self._new_page()
        self._fixed_used = MAX_HUGE_PAGES * PAGE  # the PRP lists are at the start
        self._by_size: dict[int, list[Slab]] = {size: [] for size in _SIZES}
        try:
            self._add_slab(PAGE)
        except EngineError:
            self.close()
            raise

    def fixed(self, size: int) -> tuple[memoryview, int]:
        """Memory that is kept until the end, whole pages of it: a view and its bus address."""
        at = self._fixed_used
        self._fixed_used += (size + PAGE - 1) // PAGE * PAGE
        if self._fixed_used > HUGE:
            raise AssertionError("the queues do not fit into a hugepage")
        return self._fixed.view[at : at + size], self._fixed.bus + at

    def allocate(self, length: int) -> Piece | None:
        """A piece of at least ``length`` bytes, at most LARGEST; None when some must be given back first."""
        size = PAGE if length <= PAGE else next(each for each in _SIZES if length <= each)
        slabs = self._by_size[size]
        for slab in slabs:
            if slab.free:
                return slab.free.pop()
        if not self._grow(size):
            return None
        return slabs[-1].free.pop()

    def _grow(self, size: int) -> bool:
        if len(self._slabs) < self._limit:
            try:
                self._add_slab(size)
            except EngineError as error:
                self._limit = len(self._slabs)
                _LOG.warning("NVMe: %s; going on with the %d taken so far", error, self._limit + 1)
            else:
                return True
        for slab in self._slabs:
            if slab.idle:
                self._by_size[slab.size].remove(slab)
                slab.cut(size)
                self._by_size[size].append(slab)
                return True
        return False

    def _add_slab(self, size: int) -> None:
        at = len(self._slabs) * PAGE
        slab = Slab(self._new_page(), self._fixed.view[at : at + PAGE], self._fixed.bus + at)
        slab.cut(size)
        self._slabs.append(slab)
        self._by_size[size].append(slab)

    def _new_page(self) -> HugePage:
        page = self._take()
        try:
            page.bus = self._to_bus(page)
        except BaseException:
            page.give_back()
            raise
        return page

    def close(self) -> None:
        """Give all of it back. The controller must not be able to reach it any more."""
        pages = [self._fixed, *(slab.page for slab in self._slabs)]
        for slab in self._slabs:
            slab.drop()
        self._slabs.clear()
        for slabs in self._by_size.values():
            slabs.clear()
        for page in pages:
            page.give_back()
