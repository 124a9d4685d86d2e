# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An NVMe controller in software: registers that react, queues and PRP lists in memory, namespaces in bytearrays.

It is written from the specification (NVMe Base 2.0, NVM Command Set 1.0) and shares no code with the driver. What a
real device would not forgive it does not either: everything wrong is an AssertionError in ``wrong``.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import struct
import weakref
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple

from ansible_collections.openlun.iscsi.plugins.module_utils._engine.nvme.memory import HUGE, DmaMemory, HugePage

CAP, INTMS, CC, CSTS, AQA, ASQ, ACQ, DOORBELLS = 0x00, 0x0C, 0x14, 0x1C, 0x24, 0x28, 0x30, 0x1000
GONE = 0xFFFFFFFF
FIRST_BUS_ADDRESS = 0x7_0000_0000


class Entry(NamedTuple):
    """A submission queue entry."""

    opcode: int
    cid: int
    nsid: int
    prp1: int
    prp2: int
    cdw10: int
    cdw11: int
    cdw12: int

    @property
    def lba(self) -> int:
        return self.cdw10 | self.cdw11 << 32

    @property
    def blocks(self) -> int:
        return (self.cdw12 & 0xFFFF) + 1


class Ring(NamedTuple):
    base: int
    entries: int
    completion: int = 0
    interrupts: bool = False
    vector: int = 0


class Namespace:
    """``blocks`` of ``block_size`` bytes; ``durable`` is what a power cut leaves."""

    def __init__(self, blocks: int = 4096, block_size: int = 512, uuid: bytes = b"", metadata: int = 0) -> None:
        self.blocks = blocks
        self.block_size = block_size
        self.uuid = uuid
        self.metadata = metadata
        self.data = bytearray(blocks * block_size)
        self.durable = bytearray(blocks * block_size)


class Registers:
    """What the driver takes for a view of 32-bit words."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def __getitem__(self, word: int) -> int:
        return self._model.load(word * 4)

    def __setitem__(self, word: int, value: int) -> None:
        self._model.store(word * 4, value)

    def release(self) -> None:
        pass


class Model:
    """The device of the driver's :class:`device.Device`, and its insides for the test to look at and to break."""

    def __init__(
        self, *namespaces: Namespace, mdts: int = 5, queue_entries: int = 64, stride: int = 0, interrupts: bool = False
    ) -> None:
        self.namespaces = dict(enumerate(namespaces or (Namespace(),), 1))
        self.serial = "MODEL0"
        self.mdts = mdts
        self.write_cache = True
        self.oncs = 0b1101
        self.hold: Callable[[Entry], bool] = lambda _entry: False
        """Commands of I/O queues that are taken and never answered."""
        self.fail: Callable[[Entry], int] = lambda _entry: 0
        """The status of commands of I/O queues that fail."""
        self.starts = True
        self.gone = False
        self.done: list[Entry] = []
        self.aborted: list[int] = []
        self.resets = self.shutdowns = self.function_resets = self.closed = 0
        self.wrong: list[str] = []
        self.most_in_flight = 0
        self._cap = (queue_entries - 1) | 1 << 16 | 20 << 24 | stride << 32 | 1 << 37
        self._stride = 4 << stride
        self._pages: dict[int, memoryview] = {}
        self._taken: list[weakref.ref[mmap.mmap]] = []
        self._held: dict[int, Entry] = {}
        self._mastering = False
        self._clear()
        self.registers = {CC: 0, AQA: 0, ASQ: 0, ASQ + 4: 0, ACQ: 0, ACQ + 4: 0}
        # The driver's side
        self.address = "0000:01:00.0"
        self.words: Any = Registers(self)
        self.interrupts = tuple(os.eventfd(0, os.EFD_NONBLOCK) for _each in range(2)) if interrupts else ()
        self.removal = os.eventfd(0, os.EFD_NONBLOCK)

    def _clear(self) -> None:
        self._sq: dict[int, Ring] = {}
        self._cq: dict[int, Ring] = {}
        self._sq_head: dict[int, int] = {}
        self._sq_tail: dict[int, int] = {}
        self._cq_tail: dict[int, int] = {}
        self._cq_head: dict[int, int] = {}
        self._phase: dict[int, int] = {}
        self._held.clear()
        self.status = 0
        self._scheduled = False

    # The driver's side

    def taken(self) -> bool:
        return self.gone

    def master(self, allowed: bool) -> None:
        self._expect(
            not allowed or not self.registers[CC] & 1, "bus mastering is allowed while the device may be at work"
        )
        self._mastering = allowed

    def to_bus(self, page: HugePage) -> int:
        bus = FIRST_BUS_ADDRESS + len(self._pages) * 3 * HUGE  # nothing is contiguous beyond a page
        self._pages[bus] = page.view
        return bus

    def function_reset(self) -> None:
        self.function_resets += 1
        self.starts = True
        self._clear()
        self.registers[CC] = 0

    def close(self) -> None:
        self.closed += 1
        self._pages.clear()

    def end(self) -> None:
        """Give back what only the test has."""
        for fd in (*self.interrupts, self.removal):
            os.close(fd)

    def memory(self, _device: Any = None, limit: int = 32) -> DmaMemory:
        return DmaMemory(self.to_bus, take=self._take, limit=limit)

    def _take(self) -> HugePage:
        memory = mmap.mmap(-1, HUGE)
        self._taken.append(weakref.ref(memory))
        return HugePage(memory)

    @property
    def pages_in_use(self) -> int:
        """Pages of the host that were taken and not given back, without waiting for the garbage collector."""
        memories = (reference() for reference in self._taken)
        return sum(1 for memory in memories if memory is not None and not memory.closed)

    def pull(self) -> None:
        """Take the device out of its slot."""
        self.gone = True
        os.eventfd_write(self.removal, 1)

    # Registers

    def load(self, offset: int) -> int:
        if self.gone:
            return GONE
        if offset in (CAP, CAP + 4):
            return self._cap >> (offset - CAP) * 8 & 0xFFFFFFFF
        return self.status if offset == CSTS else self.registers.get(offset, 0)

    def store(self, offset: int, value: int) -> None:
        if self.gone:
            return
        if offset >= DOORBELLS:
            self._doorbell((offset - DOORBELLS) // self._stride, value)
            return
        before = self.registers.get(offset, 0)
        self.registers[offset] = value
        if offset != CC:
            return
        if value & 1 and not before & 1 and self.starts:
            self._start()
        if before & 1 and not value & 1:
            self.resets += 1
            self._clear()
        if value >> 14 & 3 and not before >> 14 & 3:
            self.shutdowns += 1
            self.status |= 2 << 2

    def _start(self) -> None:
        control = self.registers[CC]
        self._expect(control >> 16 & 0xF == 6 and control >> 20 & 0xF == 4, "entry sizes of CC")
        sizes = self.registers[AQA]
        self._add_queues(
            0,
            Ring(self._wide(ASQ), (sizes & 0xFFF) + 1),
            Ring(self._wide(ACQ), (sizes >> 16) + 1, interrupts=True),
        )
        self.status |= 1

    def _wide(self, offset: int) -> int:
        return self.registers[offset] | self.registers[offset + 4] << 32

    def _add_queues(self, number: int, submission: Ring | None, completion: Ring | None) -> None:
        if completion is not None:
            self._cq[number], self._cq_tail[number], self._cq_head[number] = completion, 0, 0
            self._phase[number] = 1
        if submission is not None:
            self._sq[number], self._sq_head[number], self._sq_tail[number] = submission, 0, 0

    def _doorbell(self, index: int, value: int) -> None:
        number, completion = index >> 1, index & 1
        rings = self._cq if completion else self._sq
        if number not in rings:
            self._expect(not self.status & 1, f"doorbell of queue {number}, which does not exist")
            return
        self._expect(value < rings[number].entries, f"doorbell of queue {number} rung with {value}")
        if completion:
            self._cq_head[number] = value
            return
        self._sq_tail[number] = value
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._work)

    def _expect(self, condition: object, what: str) -> None:
        if not condition:
            self.wrong.append(what)

    # Commands

    def _work(self) -> None:
        self._scheduled = False
        if self.gone or not self.registers[CC] & 1:
            return
        for number in list(self._sq):
            ring = self._sq[number]
            pending = (self._sq_tail[number] - self._sq_head[number]) % ring.entries
            self.most_in_flight = max(self.most_in_flight, pending if number else 0)
            while number in self._sq and self._sq_head[number] != self._sq_tail[number]:
                raw = self.read(ring.base + self._sq_head[number] * 64, 64)
                self._sq_head[number] = (self._sq_head[number] + 1) % ring.entries
                entry = Entry(*struct.unpack("<BxHI16xQQIII12x", raw))
                self._run(number, entry)

    def _run(self, number: int, entry: Entry) -> None:
        if number:
            if self.hold(entry):
                self._held[entry.cid] = entry
                return
            status = self.fail(entry) or _IO.get(entry.opcode, Model._unknown)(self, entry)
            self.done.append(entry)
            self._complete(number, entry, status)
        else:
            status, result = _ADMIN.get(entry.opcode, Model._unknown_admin)(self, entry)
            self._complete(number, entry, status, result)

    def _complete(self, number: int, entry: Entry, status: int, result: int = 0) -> None:
        completion = self._sq[number].completion
        ring, at = self._cq[completion], self._cq_tail[completion]
        full = (at + 1) % ring.entries == self._cq_head[completion]
        self._expect(not full, f"completion queue {completion} is full")
        word = status << 1 | self._phase[completion]
        data = struct.pack("<IIHHHH", result, 0, self._sq_head[number], number, entry.cid, word)
        self.write(ring.base + at * 16, data)
        at += 1
        if at == ring.entries:
            at = 0
            self._phase[completion] ^= 1
        self._cq_tail[completion] = at
        if self.interrupts and ring.interrupts:
            os.eventfd_write(self.interrupts[ring.vector], 1)

    # Memory

    def _page(self, bus: int, length: int) -> memoryview:
        self._expect(self._mastering, "memory is reached without bus mastering")
        for start, view in self._pages.items():
            if start <= bus and bus + length <= start + HUGE:
                return view[bus - start : bus - start + length]
        raise AssertionError(f"{length} bytes at bus address {bus:x} are not mapped")

    def read(self, bus: int, length: int) -> bytes:
        return bytes(self._page(bus, length))

    def write(self, bus: int, data: bytes | bytearray | memoryview) -> None:
        self._page(bus, len(data))[:] = data

    def _extents(self, entry: Entry, length: int) -> Iterator[tuple[int, int]]:
        """Bus addresses and lengths of a command's data, by its PRP entries."""
        first = min(length, 4096 - entry.prp1 % 4096)
        yield entry.prp1, first
        left = length - first
        if 0 < left <= 4096:
            self._expect(entry.prp2 % 4096 == 0, "PRP2 has an offset")
            yield entry.prp2, left
            return
        at = entry.prp2
        self._expect(not left or at % 8 == 0, "PRP list is not aligned")
        while left > 0:
            (page,) = struct.unpack("<Q", self.read(at, 8))
            if at % 4096 == 4088 and left > 4096:
                at = page
                continue
            self._expect(page % 4096 == 0, "PRP list entry has an offset")
            yield page, min(left, 4096)
            left -= 4096
            at += 8

    def _gather(self, entry: Entry, length: int) -> bytes:
        return b"".join(self.read(bus, size) for bus, size in self._extents(entry, length))

    def _scatter(self, entry: Entry, data: bytes | bytearray) -> None:
        at = 0
        for bus, size in self._extents(entry, len(data)):
            self.write(bus, data[at : at + size])
            at += size

    # What commands do

    def _range(self, entry: Entry) -> tuple[Namespace, slice, int]:
        namespace = self.namespaces[entry.nsid]
        if entry.lba + entry.blocks > namespace.blocks:
            return namespace, slice(0, 0), 0x80
        size = namespace.block_size
        length = entry.blocks * size
        if self.mdts and entry.opcode != 0x08:
            self._expect(length <= 4096 << self.mdts, f"{length} bytes in one command")
        return namespace, slice(entry.lba * size, entry.lba * size + length), 0

    def _read(self, entry: Entry) -> int:
        namespace, where, status = self._range(entry)
        if not status:
            self._scatter(entry, namespace.data[where])
        return status

    def _write(self, entry: Entry) -> int:
        namespace, where, status = self._range(entry)
        if not status:
            namespace.data[where] = self._gather(entry, where.stop - where.start)
            if entry.cdw12 >> 30 & 1 or not self.write_cache:
                namespace.durable[where] = namespace.data[where]
        return status

    def _compare(self, entry: Entry) -> int:
        namespace, where, status = self._range(entry)
        same = namespace.data[where] == self._gather(entry, where.stop - where.start)
        return status or (0 if same else 0x285)

    def _write_zeroes(self, entry: Entry) -> int:
        namespace, where, status = self._range(entry)
        namespace.data[where] = bytes(where.stop - where.start)
        return status

    def _deallocate(self, entry: Entry) -> int:
        namespace = self.namespaces[entry.nsid]
        self._expect(entry.cdw11 == 4, "attributes of Dataset Management")
        count = (entry.cdw10 & 0xFF) + 1
        for _attributes, blocks, lba in struct.iter_unpack("<IIQ", self._gather(entry, count * 16)):
            size = namespace.block_size
            namespace.data[lba * size : (lba + blocks) * size] = b"\xde" * blocks * size
        return 0

    def _flush(self, entry: Entry) -> int:
        namespace = self.namespaces[entry.nsid]
        namespace.durable[:] = namespace.data
        return 0

    def _unknown(self, _entry: Entry) -> int:
        return 0x4001

    def _unknown_admin(self, _entry: Entry) -> tuple[int, int]:
        return 0x4001, 0

    def _identify(self, entry: Entry) -> tuple[int, int]:
        answer = _IDENTIFY.get(entry.cdw10 & 0xFF)
        if answer is None:
            return 0x4002, 0
        self.write(entry.prp1, answer(self, entry.nsid).ljust(4096, b"\0"))
        return 0, 0

    def _identify_controller(self, _nsid: int) -> bytes:
        data = bytearray(4096)
        struct.pack_into("<H", data, 0, 0x1B36)
        data[4:24] = self.serial.encode().ljust(20)
        data[24:64] = b"Model".ljust(40)
        data[64:72] = b"1.0".ljust(8)
        data[77] = self.mdts
        struct.pack_into("<HI", data, 78, 7, 0x010400)
        struct.pack_into("<IH", data, 516, len(self.namespaces), self.oncs)
        data[525] = self.write_cache
        return bytes(data)

    def _identify_namespace(self, nsid: int) -> bytes:
        namespace = self.namespaces[nsid]
        data = bytearray(4096)
        struct.pack_into("<QQQ", data, 0, *[namespace.blocks] * 3)
        data[25], data[26] = 1, 1  # two formats, of which the second is in use
        struct.pack_into("<HB", data, 132, namespace.metadata, namespace.block_size.bit_length() - 1)
        return bytes(data)

    def _identify_active(self, _nsid: int) -> bytes:
        return struct.pack(f"<{len(self.namespaces)}I", *self.namespaces)

    def _identify_descriptors(self, nsid: int) -> bytes:
        uuid = self.namespaces[nsid].uuid
        return b"\x03\x10\0\0" + uuid if uuid else b""

    def _set_features(self, entry: Entry) -> tuple[int, int]:
        self._expect(entry.cdw10 == 7, f"feature {entry.cdw10}")
        return 0, 0x00030003

    def _create_cq(self, entry: Entry) -> tuple[int, int]:
        ring = Ring(entry.prp1, (entry.cdw10 >> 16) + 1, 0, bool(entry.cdw11 & 2), entry.cdw11 >> 16)
        self._expect(entry.cdw11 & 1 and entry.prp1 % 4096 == 0, "completion queue is not contiguous or not aligned")
        self._expect(ring.entries <= (self._cap & 0xFFFF) + 1, "completion queue is too long")
        self._add_queues(entry.cdw10 & 0xFFFF, None, ring)
        return 0, 0

    def _create_sq(self, entry: Entry) -> tuple[int, int]:
        completion = entry.cdw11 >> 16
        self._expect(completion in self._cq, "submission queue before its completion queue")
        self._add_queues(entry.cdw10 & 0xFFFF, Ring(entry.prp1, (entry.cdw10 >> 16) + 1, completion), None)
        return 0, 0

    def _abort(self, entry: Entry) -> tuple[int, int]:
        number, cid = entry.cdw10 & 0xFFFF, entry.cdw10 >> 16
        self.aborted.append(cid)
        held = self._held.pop(cid, None)
        if held is None:
            return 0, 1
        self._complete(number, held, 0x07)
        return 0, 0


_IO = {
    0x00: Model._flush,
    0x01: Model._write,
    0x02: Model._read,
    0x05: Model._compare,
    0x08: Model._write_zeroes,
    0x09: Model._deallocate,
}
_ADMIN = {
    0x01: Model._create_sq,
    0x05: Model._create_cq,
    0x06: Model._identify,
    0x08: Model._abort,
    0x09: Model._set_features,
}
_IDENTIFY = {
    0x00: Model._identify_namespace,
    0x01: Model._identify_controller,
    0x02: Model._identify_active,
    0x03: Model._identify_descriptors,
}
