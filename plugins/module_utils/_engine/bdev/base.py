# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every block device offers, and the registry that names them."""

from __future__ import annotations

import asyncio
import errno
import logging
import uuid as uuid_module
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Protocol, Union

from ..errors import Exists, Invalid, NoDevice
from ..facts import BLOCK_SIZES, MAX_BDEV_NAME_BYTES
from .mapping import Memory, owned
from .qos import RateLimits
from .statistics import Statistics

if TYPE_CHECKING:
    from .tap import Tap

_LOG = logging.getLogger(__name__)

Buffer = Union[bytes, bytearray, memoryview]
Submit = Callable[..., asyncio.Future[Any]]
"""Runs a blocking function off the event loop: ``submit(function, *arguments)`` gives a future of its result."""


class Borrower(Protocol):
    """Somebody who still holds views of a device's memory, such as a connection with an unsent READ."""

    def own_borrowed(self) -> None:
        """Copy what is still needed of the borrowed views, because the memory is about to change."""


def failed_at(error: OSError, offset: int) -> OSError:
    """Note in the error at which byte of the device it happened, unless something below knows it better."""
    if getattr(error, "offset", None) is None:
        error.offset = offset  # type: ignore[attr-defined]
    return error


def check_blocks(name: str, num_blocks: int, block_size: int) -> None:
    """Raises Invalid unless a device may have so many blocks of that size."""
    if block_size not in BLOCK_SIZES:
        raise Invalid(f"bdev {name}: block size {block_size}: 512 and 4096 are possible")
    if num_blocks <= 0:
        raise Invalid(f"bdev {name}: {num_blocks} blocks: at least one is needed")


class Bdev(ABC):
    """A block device. Offsets and lengths are bytes, multiples of ``block_size`` and inside the device.

    ``read``, ``write`` and ``flush`` either finish at once or give an awaitable. An awaitable raises OSError when the
    device fails; so does the call itself.
    """

    product_name: ClassVar[str]
    consumes_inline: bool = False
    """``write`` has used up its data when it returns, so that the caller may hand in a buffer it will reuse."""
    lends_memory: bool = False
    """``read`` gives views of the device's own memory: whoever keeps one has to :meth:`lend` itself."""
    memory: Memory | None = None
    """The device's own memory, where it has some. Then it ``lends_memory``, and ``write`` never gives an awaitable.

    Who copies to its ``store`` has to see that there are no ``borrowers``, to call :meth:`written` where the device
    ``counts``, and to leave it ``touched``.
    """
    counts: bool = False
    """It keeps account of which blocks were written."""
    touched: bool = False
    """Something was copied to its memory."""
    readonly: bool = False
    atomic_bytes: int = 0
    """As much is written all or nothing, whatever happens; 0: nothing is promised."""
    unmaps: bool = False
    """``unmap`` is possible."""
    unmaps_to_zeroes: bool = True
    """What is unmapped reads as zeroes; otherwise it may read as anything."""
    hints: Mapping[str, int] = MappingProxyType({})
    """The sizes it prefers, some of HINTS, in blocks."""

    def __init__(self, name: str, block_size: int, num_blocks: int, uuid: str | None = None) -> None:
        if not name or len(name.encode()) > MAX_BDEV_NAME_BYTES:
            raise Invalid(f"bdev name {name!r}: 1 to {MAX_BDEV_NAME_BYTES} bytes are allowed")
        self.name = name
        self.block_size = block_size
        self.physical_block_size = block_size
        self.num_blocks = num_blocks
        self.uuid = _normal_uuid(name, uuid)
        self.stats = Statistics()
        self.tap: Tap | None = None
        """What somebody who limits or measures the device put in front of it."""
        self.tapped = False
        """It is in front now."""
        self.borrowers: set[Borrower] = set()
        """Who would have to be called before the memory changes: see :meth:`recall`."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.block_size * self.num_blocks

    @property
    def missing(self) -> bool:
        """Is what stores the blocks gone, perhaps for a while, so that every read and write fails?"""
        return False

    @abstractmethod
    def read(self, offset: int, length: int) -> Buffer | Awaitable[Buffer]: ...

    def read_private(self, offset: int, length: int) -> Buffer | Awaitable[Buffer]:
        """As ``read``, but what comes is the caller's: it stays the same whatever is written."""
        return self.own(self.read(offset, length), offset, length)

    def own(self, result: Buffer | Awaitable[Buffer], offset: int, length: int) -> Buffer | Awaitable[Buffer]:
        """What ``read`` of there gave, as ``read_private`` gives it."""
        if not isinstance(result, memoryview) or not self.lends_memory:
            return result
        memory = self.memory
        if memory is not None and memory.lost is not None:
            data = bytes(result)
            if not memory.lost:
                return data
        else:
            try:
                return owned(result)
            except OSError as error:
                if error.errno != errno.EFAULT:
                    raise
        self.distrust()
        return self.read(offset, length)

    @abstractmethod
    def write(self, offset: int, data: Buffer) -> Awaitable[None] | None: ...

    @abstractmethod
    def flush(self) -> Awaitable[None] | None:
        """Make every finished write survive a power cut."""

    def unmap(self, offset: int, length: int) -> Awaitable[Any] | None:
        """Give the space of a range back. Only where ``unmaps``."""
        raise OSError(errno.EOPNOTSUPP, f"bdev {self.name}: {length} bytes at {offset} cannot be unmapped")

    def write_through(self, offset: int, data: Buffer) -> Awaitable[Any] | None:
        """A write that survives a power cut once it is finished: a write and a flush, if the device knows no better."""
        return _flushed(self, self.write(offset, data))

    def write_zeroes(self, offset: int, length: int) -> Awaitable[Any] | None:
        """Fill a range with zeroes: by writing them, unless the device knows better."""
        return self._write_all_zeroes(offset, length)

    async def _write_all_zeroes(self, offset: int, length: int) -> None:
        zeroes = bytes(min(length, _ZEROES))
        while length:
            size = min(length, _ZEROES)
            pending = self.write(offset, zeroes if size == len(zeroes) else memoryview(zeroes)[:size])
            if pending is not None:
                await pending
            offset += size
            length -= size

    def allocation(self, offset: int, length: int) -> tuple[bool, int] | Awaitable[tuple[bool, int]]:  # noqa: ARG002
        """Does the block at ``offset`` take space, and for how many bytes, at most ``length``, is that so?"""
        return True, length

    @abstractmethod
    def config(self) -> tuple[str, dict[str, Any]] | None:
        """The RPC method and parameters that make this device again; None when it comes with something else."""

    def below(self) -> Sequence[Bdev]:
        """The devices that this one is made of."""
        return ()

    def lose(self, base: Bdev) -> bool:  # noqa: ARG002
        """``base`` is about to go: does this device go on without it?"""
        return False

    def settings(self) -> dict[str, Any]:
        """Attributes that calls change while the device lives, for who wants to put them back."""
        return {}

    def has_lost(self) -> bool:
        """Is memory gone that the device lent?"""
        return False

    def distrust(self) -> None:
        """The memory that the device lent turned out to be gone; if there is another way to read, it is used now."""
        _LOG.error("bdev %s: its memory cannot be read", self.name)

    def written(self, first: int, blocks: int) -> None:
        """So many blocks were copied to the memory of a device that counts."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None:
        """Give back what the device holds. The device is not used afterwards."""

    def lend(self, borrower: Borrower) -> None:
        """Note that ``borrower`` keeps views that ``read`` returned."""
        self.borrowers.add(borrower)

    def return_loan(self, borrower: Borrower) -> None:
        self.borrowers.discard(borrower)

    def recall(self) -> None:
        """Called by devices that lend their memory, before they change it."""
        borrowers, self.borrowers = self.borrowers, set()
        for borrower in borrowers:
            borrower.own_borrowed()

    def io_types(self) -> set[str]:
        """SPDK's names of what the device does natively."""
        if self.readonly:
            return {"read", "flush", "reset"}
        return {"read", "write", "flush", "reset", "write_zeroes", *(["unmap"] if self.unmaps else [])}

    def further_config(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The calls that complete what ``config`` makes."""
        if self.tap is not None and any(self.tap.limits):
            yield "bdev_set_qos_limit", {"name": self.name, **self.tap.limits._asdict()}

    def driver_specific(self) -> dict[str, Any]:
        return {}

    def to_rpc(self, claimed: bool = False) -> dict[str, Any]:
        """The device as bdev_get_bdevs shows it."""
        supported = self.io_types()
        return {
            "name": self.name,
            "aliases": [self.uuid],
            "product_name": self.product_name,
            "block_size": self.block_size,
            "num_blocks": self.num_blocks,
            **dict.fromkeys(HINTS, 0),
            **self.hints,
            "uuid": self.uuid,
            "numa_id": -1,
            "assigned_rate_limits": (self.tap.limits if self.tap is not None else RateLimits())._asdict(),
            "claimed": claimed,
            "zoned": False,
            "supported_io_types": {name: name in supported for name in IO_TYPES},
            "driver_specific": self.driver_specific(),
        }


HINTS = (
    *("preferred_write_alignment", "preferred_write_granularity", "optimal_write_size"),
    *("preferred_unmap_alignment", "preferred_unmap_granularity"),
)
"""What SPDK's devices tell of the sizes they prefer, in blocks."""

IO_TYPES = (
    *("read", "write", "unmap", "flush", "reset", "nvme_admin", "nvme_io", "nvme_io_md", "write_zeroes", "zcopy"),
    *("get_zone_info", "zone_management", "zone_append", "compare", "compare_and_write", "abort", "seek_hole"),
    *("seek_data", "copy", "nvme_iov_md", "nvme_nssr", "write_uncorrectable"),
)


_ZEROES = 1024 * 1024


async def _flushed(bdev: Bdev, pending: Awaitable[None] | None) -> None:
    if pending is not None:
        await pending
    flushed = bdev.flush()
    if flushed is not None:
        await flushed


def _normal_uuid(name: str, text: str | None) -> str:
    if text is None:
        return str(uuid_module.uuid4())
    try:
        return str(uuid_module.UUID(text))
    except ValueError:
        raise Invalid(f"bdev {name}: {text!r} is not a UUID") from None


class BdevRegistry:
    """All block devices by name, in creation order; a UUID is an alias of the name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Bdev] = {}
        self._by_uuid: dict[str, Bdev] = {}
        self._next_number: dict[str, int] = {}

    def __iter__(self) -> Iterator[Bdev]:
        return iter(list(self._by_name.values()))

    def __contains__(self, name: object) -> bool:
        return name in self._by_name or name in self._by_uuid

    def names(self) -> list[str]:
        return list(self._by_name)

    def create(self, bdev: Bdev) -> Bdev:
        """Register ``bdev``. Raises Exists, after closing it, when its name or UUID is taken."""
        other = self._by_name.get(bdev.name) or self._by_uuid.get(bdev.name) or self._by_uuid.get(bdev.uuid)
        if other is not None:
            bdev.close()
            what = "name" if other.name == bdev.name else f"UUID {bdev.uuid}"
            raise Exists(f"bdev {bdev.name}: its {what} is taken by bdev {other.name} ({other.product_name})")
        self._by_name[bdev.name] = bdev
        self._by_uuid[bdev.uuid] = bdev
        return bdev

    def check_free(self, name: str) -> None:
        """Raise Exists when ``name`` is taken, before anything is done to make a device of that name."""
        if name in self:
            raise Exists(f"bdev {name}: there is one of that name already ({self.get(name).product_name})")

    def get(self, name: str) -> Bdev:
        """By name or UUID. Raises NoDevice."""
        found = self._by_name.get(name) or self._by_uuid.get(name.lower())
        if found is None:
            raise NoDevice(f"bdev {name} does not exist. {self.known()}")
        return found

    def known(self) -> str:
        """A sentence for error messages."""
        names = self.names()
        listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        return f"Known bdevs: {listed}." if names else "There are no bdevs."

    def delete(self, name: str) -> Bdev:
        """Unregister and close the device; gives the closed device. Raises NoDevice."""
        bdev = self.get(name)
        del self._by_name[bdev.name]
        del self._by_uuid[bdev.uuid]
        bdev.close()
        return bdev

    def sort(self, names: list[str]) -> None:
        """Put the devices of these names in front, in this order."""
        self._by_name = {**{name: self._by_name[name] for name in names if name in self._by_name}, **self._by_name}

    def put_before(self, bdev: Bdev) -> None:
        """Put the device and what it is made of in front of all others."""
        needed, todo = set(), [bdev]
        while todo:
            each = todo.pop()
            needed.add(each)
            todo.extend(each.below())
        self.sort([each.name for each in self if each in needed])

    def next_name(self, stem: str) -> str:
        """``Malloc`` gives Malloc0, Malloc1, …: numbers are never used twice, as in SPDK."""
        number = self._next_number.get(stem, 0)
        self._next_number[stem] = number + 1
        return f"{stem}{number}"

    def close(self) -> None:
        for bdev in self:
            self.delete(bdev.name)
