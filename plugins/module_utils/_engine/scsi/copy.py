# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EXTENDED COPY(LID1) and RECEIVE COPY RESULTS (SPC-4 §6.3, §6.18): blocks are copied without passing the network."""

from __future__ import annotations

import struct
from contextlib import AsyncExitStack
from typing import Callable, Final, NamedTuple

from ..bdev.base import Buffer
from . import store
from .device import Task
from .reservations import Conflict
from .sense import (
    CopyTargetNotReachable,
    InvalidFieldInCdb,
    InvalidFieldInParameters,
    ParameterListLengthError,
    ReservationConflict,
    TooManySegmentDescriptors,
    TooManyTargetDescriptors,
    UnsupportedSegmentDescriptor,
    UnsupportedTargetDescriptor,
    WriteProtected,
)
from .unit import LogicalUnit

MAX_TARGETS: Final = 16
MAX_SEGMENTS: Final = 16
MAX_SEGMENT_BYTES: Final = 16 * 1024 * 1024
_DESCRIPTORS_LIMIT: Final = MAX_TARGETS * 32 + MAX_SEGMENTS * 28
LONGEST_LIST: Final = 65536

_HEADER = struct.Struct(">BBH4xLL")
_SEGMENT = struct.Struct(">BBHHHxxHQQ")
_IDENTIFICATION, _BLOCK_TO_BLOCK = 0xE4, 0x02
_NAA, _T10 = 3, 1
_TARGET_BYTES, _SEGMENT_BYTES = 32, 28


class Finished(NamedTuple):
    """What became of a copy operation, by its list identifier."""

    segments: int
    transferred: int
    """Bytes."""
    failed: bool


class _Segment(NamedTuple):
    source: int
    destination: int
    blocks: int
    source_lba: int
    destination_lba: int
    counts_destination: bool
    """DC: the blocks are those of the destination."""


_Copy = tuple[LogicalUnit, LogicalUnit, _Segment, int]
"""Source, destination, what of them, and the bytes that makes."""


async def extended_copy(task: Task) -> None:
    """EXTENDED COPY: every segment in order; nothing is copied when the list is wrong."""
    data = bytes(task.data_out)
    if not int.from_bytes(task.cdb[10:14], "big"):
        return
    if len(data) < _HEADER.size:
        raise ParameterListLengthError()
    list_id, flags, targets_size, segments_size, inline_size = _HEADER.unpack_from(data)
    targets, segments = _parse(data, targets_size, segments_size, inline_size)
    units = [_find(task, target) for target in targets]
    copies = [_checked(task, units, segment) for segment in segments]
    others = {lun.state: None for source, destination, *_rest in copies for lun in (source, destination)}
    others.pop(task.unit.state, None)
    async with AsyncExitStack() as turns:
        for state in others:
            await turns.enter_async_context(state.taking_part())
        if others:  # it may have waited
            copies = [_checked(task, units, segment) for segment in segments]
        await _copy_all(task, copies, list_id if flags >> 3 & 0x3 != 3 else None)


async def _copy_all(task: Task, copies: list[_Copy], list_id: int | None) -> None:
    """``list_id``: under which the outcome is remembered."""
    transferred = 0
    try:
        for source, destination, segment, length in copies:
            await _copy(source, destination, segment, length)
            transferred += length
    finally:
        if list_id is not None:
            done = Finished(len(copies), transferred, transferred != sum(each[3] for each in copies))
            task.nexus.copies[list_id] = done  # at most 256: the identifier is a byte


def _parse(data: bytes, targets_size: int, segments_size: int, inline_size: int) -> tuple[list[bytes], list[_Segment]]:
    if targets_size // _TARGET_BYTES > MAX_TARGETS:
        if segments_size // _SEGMENT_BYTES > MAX_SEGMENTS:
            raise ParameterListLengthError()
        raise TooManyTargetDescriptors()
    if segments_size // _SEGMENT_BYTES > MAX_SEGMENTS:
        raise TooManySegmentDescriptors()
    if len(data) < _HEADER.size + targets_size + segments_size + inline_size:
        raise ParameterListLengthError()
    if inline_size or targets_size % _TARGET_BYTES:
        raise InvalidFieldInParameters(byte=12 if inline_size else 2)
    first = _HEADER.size
    targets = [data[at : at + _TARGET_BYTES] for at in range(first, first + targets_size, _TARGET_BYTES)]
    for target in targets:
        if target[0] != _IDENTIFICATION:
            raise UnsupportedTargetDescriptor()
    return targets, _segments(data, first + targets_size, first + targets_size + segments_size)


def _segments(data: bytes, at: int, end: int) -> list[_Segment]:
    segments = []
    while at < end:
        if data[at] != _BLOCK_TO_BLOCK:
            raise UnsupportedSegmentDescriptor()
        if end - at < _SEGMENT_BYTES:
            raise ParameterListLengthError()
        _code, flags, _length, source, destination, blocks, source_lba, destination_lba = _SEGMENT.unpack_from(data, at)
        segments.append(_Segment(source, destination, blocks, source_lba, destination_lba, bool(flags & 0x02)))
        at += _SEGMENT_BYTES
    return segments


def _find(task: Task, target: bytes) -> LogicalUnit:
    """The logical unit that an identification descriptor means. LU ID TYPE and NUL mean nothing since SPC-4.

    Raises CopyTargetNotReachable.
    """
    kind, length = target[5] & 0x0F, target[7]
    designator = target[8 : 8 + min(length, 20)]
    own, shown = task.unit, task.nexus.by_field.values()
    if kind == _NAA:
        found = next((lun for lun in (own, *shown) if lun.naa == designator), None)
    elif kind == _T10:
        found = own if own.t10_id.startswith(designator) and len(designator) == 20 else None
    else:
        found = None
    if found is None:
        raise CopyTargetNotReachable()
    return found


def _checked(task: Task, units: list[LogicalUnit], segment: _Segment) -> _Copy:
    if segment.source >= len(units) or segment.destination >= len(units):
        raise CopyTargetNotReachable()
    source, destination = units[segment.source], units[segment.destination]
    counted = destination if segment.counts_destination else source
    length = segment.blocks * counted.bdev.block_size
    for lun, lba, conflict in (
        (source, segment.source_lba, Conflict.READ),
        (destination, segment.destination_lba, Conflict.WRITE),
    ):
        if length % lun.bdev.block_size or lba * lun.bdev.block_size + length > lun.bdev.size:
            raise CopyTargetNotReachable()
        if lun.state.reservations.forbids(task.nexus.identity, conflict):
            raise ReservationConflict()
        state = lun.state
        if state.erasure is not None or not state.loaded or state.is_away or lun not in state.luns:
            raise CopyTargetNotReachable()
    if destination.readonly:
        raise WriteProtected()
    return source, destination, segment, length


async def _copy(source: LogicalUnit, destination: LogicalUnit, segment: _Segment, length: int) -> None:
    """Backwards where the destination overlaps what is still to be read."""
    begin = segment.source_lba * source.bdev.block_size
    to = segment.destination_lba * destination.bdev.block_size
    offsets = range(0, length, store.CHUNK)
    same = source.bdev is destination.bdev
    for offset in reversed(offsets) if same and to > begin else offsets:
        part = min(store.CHUNK, length - offset)
        data = await store.read(source.bdev, begin + offset, part)
        await store.write(destination.bdev, to + offset, bytes(data))


# -- RECEIVE COPY RESULTS


def _allocated(task: Task, data: bytes) -> bytes:
    return data[: int.from_bytes(task.cdb[10:14], "big")]


def _copy_status(task: Task) -> Buffer:
    done: Finished | None = task.nexus.copies.get(task.cdb[2])
    if done is None:
        raise InvalidFieldInCdb(byte=2)
    kibibytes, whole = divmod(done.transferred, 1024)
    count, unit = (done.transferred, 0) if whole or kibibytes >= 2**32 else (kibibytes, 1)
    body = struct.pack(">BHBL", 0x02 if done.failed else 0x01, done.segments, unit, min(count, 2**32 - 1))
    return _allocated(task, struct.pack(">L", len(body)) + body)


def _operating_parameters(task: Task) -> Buffer:
    """How much an EXTENDED COPY may ask for (SPC-4 §6.18.4)."""
    body = struct.pack(
        ">BxxxHHLLLLL3xBBBBB3x",
        *(0x01, MAX_TARGETS, MAX_SEGMENTS, _DESCRIPTORS_LIMIT, MAX_SEGMENT_BYTES, 0, 0, 0, 1, 9, 0, 0, 2),
    )
    return _allocated(task, struct.pack(">L", len(body) + 2) + body + bytes((_BLOCK_TO_BLOCK, _IDENTIFICATION)))


RESULTS: Final[tuple[tuple[int, str, Callable[[Task], Buffer]], ...]] = (
    (0x00, "COPY STATUS", _copy_status),
    (0x03, "OPERATING PARAMETERS", _operating_parameters),
)
COMMANDS_SUPPORTED: Final = ((0x83, (0x00,)), (0x84, tuple(action for action, _name, _handler in RESULTS)))
"""For VPD page 8Fh: operation codes and their service actions."""
