# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""READs and WRITEs of devices in memory, carried out where they lie in the receive buffer.

Nothing has to be remembered of a command that is done as soon as it is looked at. So where READs and WRITEs follow each
other, whole and with nothing unusual about them, their session, their logical unit or what came before them, no task is
made for any. The first that is unusual is handled as every other command is.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from . import pdu
from .buffers import SHARED_BUFFER
from .crc32c import INTACT, crc32c
from .sending import OUTPUT_LIMIT

if TYPE_CHECKING:
    from .working import Worker

_COMMAND: Final = struct.Struct(">H2xLQLLL4xHLxH7x")
"""Opcode and flags, lengths, LUN, ITT, expected data transfer length, CmdSN, operation code and options, LBA, blocks: a
SCSI command with a CDB of ten bytes (RFC 7143 §11.3, SBC-4 §5.14)."""
_LUN: Final = struct.Struct(">8xQ")
_EXP_STAT_SN: Final = struct.Struct(">28xL")
_SIXTEEN: Final = struct.Struct(">34xQL2x")
"""LBA and blocks of a CDB of sixteen bytes."""
_READ: Final = frozenset({0x2800, 0x8800})
_WRITE: Final = frozenset({0x2A00, 0x8A00})
"""READ(10), (16), WRITE(10), (16), with no option at all."""
_OF_SIXTEEN: Final = 0x8000
"""From this one on CDBs have sixteen bytes, if it is one of these."""
_READING: Final = pdu.SCSI_COMMAND << 8 | pdu.FINAL | pdu.READ
_WRITING: Final = pdu.SCSI_COMMAND << 8 | pdu.FINAL | pdu.WRITE
"""Opcode and flags of a command that is not immediate, and brings all of its data along."""
_BUT_ATTRIBUTE: Final = 0xFFF8
_MASK: Final = 0xFFFFFFFF
_CHUNK: Final = 28 * 1024
"""Bytes of READ data with digests after which answers are sent: the peer can check these while more are made."""
_LAST: Final = _MASK - SHARED_BUFFER // pdu.HEADER
"""As far as serial numbers (RFC 1982) can be counted up here without caring for their end."""

# What DATA_IN_PDU and SCSI_RESPONSE_PDU make, of answers in which little differs.
_DATA_IN: Final = struct.Struct(">4sL8xL4sLLL12x").pack
_RESPONSE: Final = struct.Struct(">4s12xL4xLLL12x").pack
_DATA_AND_STATUS: Final = bytes((pdu.DATA_IN, pdu.FINAL | pdu.STATUS, 0, 0))
_STATUS_ONLY: Final = bytes((pdu.SCSI_RESPONSE, pdu.FINAL, 0, 0))
_DIGEST: Final = struct.Struct("<L")
_NO_TAG: Final = b"\xff\xff\xff\xff"


def carry_out(connection: Worker, view: memoryview, at: int, end: int) -> int:
    """Carry out commands for one logical unit, from ``at`` on; gives where the first begins that is not for here, if
    only because it is for another unit."""
    session = connection.session
    if session is None or session.behind or connection.running or connection.incoming or connection.careful:
        return at
    nexus = session.nexus
    if nexus is None or nexus.attentions or end - at < 48:
        return at
    field: int = _LUN.unpack_from(view, at)[0]
    use = nexus.uses.get(field)
    if use is None or use.lun.state.guarded:
        return at
    bdev = use.lun.bdev
    own = bdev.memory
    if own is None or bdev.tapped:
        return at
    # Everything in locals, as this runs for every READ and WRITE.
    memory, lost, store = own
    block_size, counts, lent = bdev.block_size, bdev.counts, False
    # Of a file that grows the size is known before its memory is there (bdev_aio_rescan, in another thread).
    capacity = min(bdev.num_blocks, len(memory) // block_size)
    unpack, most, out = _COMMAND.unpack_from, connection.data_in_limit, connection.out
    header_digest, data_digest, pack_digest = connection.header_digest, connection.data_digest, _DIGEST.pack
    head, foot = 52 if header_digest else 48, 4 if data_digest else 0
    largest = 0 if use.lun.state.write_through else connection.immediate_limit
    stat_sn, exp_cmd_sn, limit = connection.stat_sn, session.exp_cmd_sn, session.limit
    if exp_cmd_sn == limit or exp_cmd_sn > _LAST or stat_sn > _LAST or limit > _LAST:
        return at
    room = OUTPUT_LIMIT - connection.out_bytes
    chunk = _CHUNK if data_digest else room
    first_sn, first_stat_sn, begin, told = exp_cmd_sn, stat_sn, at, 0
    bytes_read = writes = bytes_written = 0
    while end - at >= head:
        what, lengths, lun_field, itt, expected, cmd_sn, code, lba, blocks = unpack(view, at)
        if cmd_sn != exp_cmd_sn or lun_field != field:
            break
        if code >= _OF_SIXTEEN:
            lba, blocks = _SIXTEEN.unpack_from(view, at)
        length = blocks * block_size
        if length != expected or length > most or lba + blocks > capacity or not length:
            break
        start = at + head
        if header_digest and crc32c(view[at:start]) != INTACT:
            break
        offset = lba * block_size
        if code in _READ and not lengths and what & _BUT_ATTRIBUTE == _READING:
            data = memory[offset : offset + length]
            if data_digest:
                # The data still fit it when they are sent: who changes them calls the connection first.
                if lost is None:
                    break
                digest = pack_digest(crc32c(data))
                if lost:
                    bdev.distrust()
                    break
            if not lent:
                connection.borrow(bdev)
                lent = True
            exp_cmd_sn += 1
            header = _DATA_IN(_DATA_AND_STATUS, length, itt, _NO_TAG, stat_sn, exp_cmd_sn, limit)
            if header_digest:
                header += pack_digest(crc32c(header))
            out.append(header)
            out.append(data)
            if data_digest:
                out.append(digest)
            bytes_read += length
            at = start
            if bytes_read > chunk:
                end = at
        elif code in _WRITE and lengths == length and what & _BUT_ATTRIBUTE == _WRITING:
            stop = start + length
            after = stop + foot
            if after > end or length > largest:
                break
            if data_digest and crc32c(view[start:after]) != INTACT:
                break
            if store is not None and not bdev.borrowers:
                store[offset : offset + length] = view[start:stop]
                if lost:
                    bdev.distrust()
                    break
                if counts:
                    bdev.written(lba, blocks)
            else:
                # Others, or this very connection, may have to send or copy what they were to send of these blocks.
                queued = bytes_read + (exp_cmd_sn - first_sn) * head + (exp_cmd_sn - first_sn - writes) * foot
                connection.out_bytes += queued - told
                told = queued
                try:
                    bdev.write(offset, view[start:stop])
                except OSError:
                    break  # when it is tried again, its initiator will be told what is wrong
                out, lent = connection.out, False
                # Connections that could not send what they had borrowed are gone: this one,
                if connection.closed:
                    out, end = [], after
                # or another of the session, which the next command is to tell; or the memory itself is.
                elif nexus.attentions or bdev.memory is None:
                    end = after
            exp_cmd_sn += 1
            writes += 1
            bytes_written += length
            at = after
            header = _RESPONSE(_STATUS_ONLY, itt, stat_sn, exp_cmd_sn, limit)
            if header_digest:
                header += pack_digest(crc32c(header))
            out.append(header)
        else:
            break
        stat_sn += 1
        limit += 1
    count = exp_cmd_sn - first_sn
    connection.outstanding = (first_stat_sn - _EXP_STAT_SN.unpack_from(view, begin)[0] & _MASK) + 1
    reads = count - writes
    connection.out_bytes += bytes_read + count * head + reads * foot - told
    if bytes_read > room and not connection.closed:
        connection.note_output(0)
    connection.stat_sn, session.exp_cmd_sn = stat_sn, exp_cmd_sn
    session.limit = session.limit + count & _MASK  # it may have moved meanwhile
    connection.note_use(use)
    if reads:
        use.reads += reads
        use.bytes_read += bytes_read
    if writes:
        use.writes += writes
        use.bytes_written += bytes_written
        bdev.touched = True
    return at
