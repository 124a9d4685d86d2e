# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SCSI commands of a probe, and what their answers say (SPC-6, SBC-4)."""

from __future__ import annotations

import struct
from typing import Callable, Final, NamedTuple, Protocol, TypeVar

from .errors import CheckCondition, InitiatorError
from .wire import NO_LUN

_T = TypeVar("_T")

_ALLOCATION: Final = 4096
_UNIT_ATTENTION: Final = 0x6
_ILLEGAL_REQUEST: Final = 0x5
_MOST_ATTENTIONS: Final = 8
_DISK: Final = 0x00
_CHUNK_BYTES: Final = 131072

_VPD_SERIAL: Final = 0x80
_VPD_IDENTIFICATION: Final = 0x83
_BINARY: Final = 1
_NAMES: Final = {1: "t10", 2: "eui", 3: "naa", 8: "name"}  # designator types, SPC-6 §7.7.6.1
_OF_THE_UNIT: Final = 0  # association


class Commands(Protocol):
    """What carries SCSI commands: a session of our own, or a disk of the kernel's."""

    def command(self, what: str, cdb: bytes, *, lun: bytes = NO_LUN, reads: int = 0, data: bytes = b"") -> bytes: ...


class Identity(NamedTuple):
    """What a logical unit says about itself. ``identifiers`` are like ``naa.6000…``, ``t10.VENDOR…``."""

    is_disk: bool
    vendor: str
    product: str
    revision: str
    serial: str
    identifiers: list[str]


class Capacity(NamedTuple):
    """How many blocks of how many bytes."""

    blocks: int
    block_size: int

    @property
    def size(self) -> int:
        """In bytes."""
        return self.blocks * self.block_size


class LogicalUnit:
    """A LUN seen through a session; ``lun`` is its address of 8 bytes (SAM-6 §4.7). All raise InitiatorError."""

    def __init__(self, session: Commands, lun: bytes) -> None:
        self._session = session
        self.lun = lun

    @property
    def number(self) -> int:
        """Peripheral (00b) and flat (01b) addressing."""
        return int.from_bytes(self.lun[:2], "big") & 0x3FFF

    def settle(self) -> None:
        """TEST UNIT READY until what happened before this session is told (unit attentions)."""
        self._patiently(lambda: self._run("TEST UNIT READY", bytes(6)))

    def identity(self) -> Identity:
        standard = self._inquire(None)
        pages = self._inquire(0x00)[4:]
        serial = self._inquire(_VPD_SERIAL)[4:] if _VPD_SERIAL in pages else b""
        designators = self._inquire(_VPD_IDENTIFICATION) if _VPD_IDENTIFICATION in pages else bytes(4)
        return Identity(
            is_disk=standard[0] == _DISK,
            vendor=_plain(standard[8:16]),
            product=_plain(standard[16:32]),
            revision=_plain(standard[32:36]),
            serial=_plain(serial),
            identifiers=identifiers(designators),
        )

    def capacity(self) -> Capacity:
        try:
            answer = self._run("READ CAPACITY(16)", struct.pack(">BBQLH", 0x9E, 0x10, 0, 32, 0), reads=32)
            last, block_size = struct.unpack_from(">QL", answer)
        except CheckCondition as error:
            if error.key != _ILLEGAL_REQUEST:
                raise
            last, block_size = struct.unpack_from(">LL", self._run("READ CAPACITY(10)", b"\x25" + bytes(9), reads=8))
        return Capacity(last + 1, block_size)

    def patient_capacity(self) -> Capacity:
        """The same where something may have happened that has to be told first, such as another capacity."""
        return self._patiently(self.capacity)

    def write_protected(self) -> bool:
        """The WP bit of MODE SENSE(6), all pages."""
        return bool(self._run("MODE SENSE(6)", bytes((0x1A, 0, 0x3F, 0, 0xFF, 0)), reads=255)[2] & 0x80)

    def read(self, first: int, count: int, block_size: int) -> bytes:
        """``count`` blocks from block ``first``."""
        step = max(1, _CHUNK_BYTES // block_size)
        pieces = []
        for block in range(first, first + count, step):
            blocks = min(step, first + count - block)
            cdb = struct.pack(">BBQLBB", 0x88, 0, block, blocks, 0, 0)
            pieces.append(self._run("READ(16)", cdb, reads=blocks * block_size))
        return b"".join(pieces)

    def write(self, first: int, data: bytes, block_size: int) -> None:
        """``data``, whole blocks, from block ``first``; on stable storage when this returns."""
        step = max(1, _CHUNK_BYTES // block_size) * block_size
        for offset in range(0, len(data), step):
            piece = data[offset : offset + step]
            block = first + offset // block_size
            cdb = struct.pack(">BBQLBB", 0x8A, 0, block, len(piece) // block_size, 0, 0)
            self._run("WRITE(16)", cdb, data=piece)
        self._run("SYNCHRONIZE CACHE(10)", b"\x35" + bytes(9))

    def _inquire(self, page: int | None) -> bytes:
        """Standard data, or a page of vital product data cut to its length."""
        what = "INQUIRY" if page is None else f"INQUIRY, page {page:#04x}"
        cdb = struct.pack(">BBBHB", 0x12, 0 if page is None else 1, page or 0, _ALLOCATION, 0)
        answer = self._run(what, cdb, reads=_ALLOCATION)
        if len(answer) < (36 if page is None else 4):
            raise InitiatorError(f"LUN {self.number}: {what}: an answer of only {len(answer)} bytes.")
        return answer if page is None else answer[: 4 + int.from_bytes(answer[2:4], "big")]

    def _run(self, what: str, cdb: bytes, *, reads: int = 0, data: bytes = b"") -> bytes:
        name = f"LUN {self.number}: {what}"
        return self._session.command(name, cdb.ljust(16, b"\0"), lun=self.lun, reads=reads, data=data)

    def _patiently(self, run: Callable[[], _T]) -> _T:
        for _attempt in range(_MOST_ATTENTIONS):
            try:
                return run()
            except CheckCondition as error:
                if error.key != _UNIT_ATTENTION:
                    raise
        return run()


def report_luns(session: Commands) -> list[LogicalUnit]:
    """REPORT LUNS: every logical unit that the target shows to this initiator."""
    cdb = struct.pack(">BBB3sLBB", 0xA0, 0, 0, b"", _ALLOCATION, 0, 0)
    answer = session.command("REPORT LUNS", cdb.ljust(16, b"\0"), reads=_ALLOCATION)
    length = min(int.from_bytes(answer[:4], "big"), len(answer) - 8)
    return [LogicalUnit(session, answer[offset : offset + 8]) for offset in range(8, 8 + length, 8)]


def identifiers(page: bytes) -> list[str]:
    """The designators of the logical unit itself in VPD page 83h."""
    found = []
    offset = 4
    while offset + 4 <= len(page):
        code_set, kind, length = page[offset] & 0xF, page[offset + 1], page[offset + 3]
        value = page[offset + 4 : offset + 4 + length]
        offset += 4 + length
        if kind >> 4 & 3 == _OF_THE_UNIT and kind & 0xF in _NAMES:
            text = value.hex() if code_set == _BINARY else _plain(value)
            found.append(text if kind & 0xF == 8 else f"{_NAMES[kind & 0xF]}.{text}")
    return found


def _plain(field: bytes) -> str:
    return field.decode("utf-8", "replace").strip(" \0")
