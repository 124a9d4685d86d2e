# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving a command's data: Data-In, R2T, Data-Out, and the status at the end (RFC 7143 §4.5, §11.4, §11.7, §11.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..scsi.device import LogicalUnit, Nexus, Task
from ..scsi.dispatch import prepare
from ..scsi.sbc import MAX_TRANSFER_BYTES
from ..scsi.sense import ABORTED_COMMAND, GOOD, ScsiError
from . import pdu

if TYPE_CHECKING:
    from .connection import Connection
    from .session import Session

SOLICITED_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of WRITE data a connection may have been asked for at a time; further WRITEs wait for their first R2T."""

_PACK_DATA_IN: Final = pdu.DATA_IN_PDU.pack
_PACK_SCSI_RESPONSE: Final = pdu.SCSI_RESPONSE_PDU.pack
_LAST_WITH_STATUS: Final = pdu.FINAL | pdu.STATUS


class IscsiTask(Task):
    """A SCSI command with what iSCSI knows of it."""

    wanted: int = 0
    """Data-Out bytes the command itself asks for."""
    buffer: bytearray | None = None
    """Where the data was received, to be used again."""
    finished: bool = False
    expected: int

    def __init__(
        self,
        nexus: Nexus,
        lun: LogicalUnit | None,
        cdb: bytes,
        itt: int,
        lun_field: int,
        expected: int,
        immediate: bool,
    ) -> None:
        # Task.__init__() written out, as this runs for every command.
        self.nexus = nexus
        self.lun = lun
        if lun is not None:
            self.unit = lun
        self.cdb = cdb
        self.itt = itt
        self.lun_field = lun_field
        self.expected = expected
        """Expected data transfer length, bytes: what the initiator has room for or has to give."""
        self.immediate = immediate


class DataPhaseError(ScsiError):
    """Data-Out that does not follow the rules."""

    key = ABORTED_COMMAND
    code = (0x4B, 0x00)


class Burst:
    """A sequence of Data-Out PDUs: unsolicited, or the answer to one R2T."""

    __slots__ = ("data_sn", "end", "next_offset")

    def __init__(self, start: int, end: int) -> None:
        self.next_offset = start
        self.end = end
        self.data_sn = 0


class Incoming:
    """A WRITE that is waiting for data. Data lands in the buffer that the bdev will write from."""

    __slots__ = ("buffer", "bursts", "need", "next_request", "r2t_sn", "started", "task", "view")

    def __init__(self, task: IscsiTask, need: int, buffer: bytearray) -> None:
        self.task = task
        self.need = need
        """Bytes that will be executed with; anything beyond is taken and dropped."""
        self.buffer = buffer
        self.view = memoryview(buffer)
        self.bursts: dict[int, Burst] = {}
        """By target transfer tag; the reserved tag is the unsolicited burst."""
        self.next_request = 0
        self.r2t_sn = 0
        self.started = False
        """R2Ts have been sent, so that ``need`` counts towards the connection's limit."""


def receive_command(connection: Connection, task: IscsiTask, data: memoryview, final: bool) -> None:
    """A command with Data-Out: run it when its data is complete, else fetch what is missing."""
    task.wanted = wanted = prepare(task)
    need = wanted if wanted < task.expected else task.expected
    have = len(data)
    if have and not connection.takes_immediate_data:
        connection.reject(pdu.REJECT_PROTOCOL_ERROR, "immediate data though ImmediateData=No")
        return
    if final and have >= need:
        if task.status != GOOD:
            connection.finish(task)
            return
        task.data_out = data if have == need else data[:need]
        task.borrowed = connection.is_shared(data)
        if not task.borrowed and isinstance(data.obj, bytearray):
            task.buffer = data.obj
        connection.run(task)
        return
    parameters = connection.parameters
    if not final and parameters.flag("InitialR2T"):
        connection.reject(pdu.REJECT_PROTOCOL_ERROR, "unsolicited data announced though InitialR2T=Yes")
        return
    adopted = data.obj if have and not connection.is_shared(data) else None
    buffer = adopted if isinstance(adopted, bytearray) and len(adopted) >= need else None
    if buffer is None:
        buffer = connection.buffers.take(max(need, have))
    task.buffer = buffer
    incoming = Incoming(task, need, buffer)
    if have and buffer is not adopted:
        incoming.view[:have] = data
    incoming.next_request = have
    connection.incoming[task.itt] = incoming
    if final:
        request_more(connection, incoming)
    else:
        burst_end = min(task.expected, parameters.number("FirstBurstLength"))
        incoming.bursts[pdu.RESERVED_TAG] = Burst(have, burst_end)


def destination(connection: Connection, view: memoryview, at: int, length: int) -> memoryview | None:
    """Where the data of a partly received PDU should go, so that it is received into place; None when unknown."""
    opcode = view[at] & pdu.OPCODE_MASK
    if opcode == pdu.SCSI_COMMAND:
        expected = pdu.SCSI_COMMAND_PDU.unpack_from(view, at)[3]
        return memoryview(connection.buffers.take(max(length, min(expected, MAX_TRANSFER_BYTES))))[:length]
    if opcode == pdu.DATA_OUT:
        _flags, _lun, itt, _ttt, _exp, _sn, offset = pdu.DATA_OUT_PDU.unpack_from(view, at)
        incoming = connection.incoming.get(itt)
        if incoming is not None and offset + length <= len(incoming.buffer):
            return incoming.view[offset : offset + length]
    return None


def receive_data_out(connection: Connection, view: memoryview, at: int, data: memoryview) -> None:
    """A Data-Out PDU. Data of a task that is gone, such as an aborted one, is dropped."""
    flags, _lun, itt, ttt, _exp, data_sn, offset = pdu.DATA_OUT_PDU.unpack_from(view, at)
    incoming = connection.incoming.get(itt)
    if incoming is None:
        return
    burst = incoming.bursts.get(ttt)
    end = offset + len(data)
    if burst is None or data_sn != burst.data_sn or offset != burst.next_offset or end > burst.end:
        connection.reject(pdu.REJECT_PROTOCOL_ERROR, f"Data-Out of task 0x{itt:08x} out of order", view, at)
        _fail(connection, incoming)
        return
    if data.obj is not incoming.buffer:
        room = incoming.view[offset:end]
        room[:] = data[: len(room)]  # what exceeds the command's own length is dropped
    burst.next_offset = end
    burst.data_sn += 1
    if flags & pdu.FINAL:
        if ttt != pdu.RESERVED_TAG and end != burst.end:
            connection.reject(pdu.REJECT_PROTOCOL_ERROR, f"Data-Out of task 0x{itt:08x} ends too early", view, at)
            _fail(connection, incoming)
            return
        del incoming.bursts[ttt]
        if ttt == pdu.RESERVED_TAG:
            incoming.next_request = end
        request_more(connection, incoming)


def request_more(connection: Connection, incoming: Incoming) -> None:
    """Send the R2Ts that are allowed now, or run the command when all its data is there."""
    task = incoming.task
    if task.status != GOOD or (incoming.next_request >= incoming.need and not incoming.bursts):
        forget(connection, incoming)
        if task.status != GOOD:
            connection.finish(task)
        else:
            task.data_out = incoming.view[: incoming.need]
            connection.run(task)
        return
    if not incoming.started:
        if connection.solicited and connection.solicited + incoming.need > SOLICITED_LIMIT:
            connection.waiting_writes.append(incoming)
            return
        incoming.started = True
        connection.solicited += incoming.need
    parameters = connection.parameters
    most, longest = parameters.number("MaxOutstandingR2T"), parameters.number("MaxBurstLength")
    while len(incoming.bursts) < most and incoming.next_request < incoming.need:
        start = incoming.next_request
        end = min(incoming.need, start + longest)
        tag = connection.new_transfer_tag()
        incoming.bursts[tag] = Burst(start, end)
        incoming.next_request = end
        session = connection.open_session
        connection.send(
            pdu.R2T_PDU.pack(
                *(pdu.R2T, pdu.FINAL, 0, task.lun_field, task.itt, tag, connection.stat_sn),
                *(session.exp_cmd_sn, session.max_cmd_sn, incoming.r2t_sn, start, end - start),
            )
        )
        incoming.r2t_sn += 1


def forget(connection: Connection, incoming: Incoming) -> None:
    """The command is complete or given up: its data is no longer expected."""
    connection.incoming.pop(incoming.task.itt, None)
    if not incoming.started:
        return
    connection.solicited -= incoming.need
    while connection.waiting_writes:
        following = connection.waiting_writes[0]
        if connection.solicited and connection.solicited + following.need > SOLICITED_LIMIT:
            break
        connection.waiting_writes.popleft()
        if not following.task.aborted:
            request_more(connection, following)


def _fail(connection: Connection, incoming: Incoming) -> None:
    forget(connection, incoming)
    incoming.task.fail(DataPhaseError())
    connection.finish(incoming.task)


def send_status(connection: Connection, task: IscsiTask) -> None:
    """A SCSI Response PDU, with sense data and residual."""
    session = connection.session
    if session is None:
        raise AssertionError("commands are answered in full feature phase only")
    moved = task.wanted if task.status == GOOD else 0
    flags, residual = _residual(task.expected, moved) if moved != task.expected else (0, 0)
    sense = len(task.sense).to_bytes(2, "big") + task.sense if task.sense else b""
    limit = session.limit
    if not task.immediate:
        session.limit = limit = (limit + 1) & 0xFFFFFFFF
    connection.send(
        _PACK_SCSI_RESPONSE(
            pdu.SCSI_RESPONSE,
            pdu.FINAL | flags,
            0,
            task.status,
            len(sense),
            task.itt,
            0,
            connection.next_stat_sn(),
            session.exp_cmd_sn,
            (limit - 1) & 0xFFFFFFFF,
            0,
            0,
            residual,
        ),
        sense,
    )


def send_data_in(connection: Connection, task: IscsiTask) -> None:
    """Data-In PDUs, the last of which carries the good status (phase collapse)."""
    data = task.data_in
    expected = task.expected
    if not data or not expected:
        task.wanted = len(data) if data else 0
        send_status(connection, task)
        return
    session = connection.session
    if session is None:
        raise AssertionError("data is sent in full feature phase only")
    length = len(data)
    flags = residual = 0
    if length != expected:
        flags, residual = _residual(expected, length)
        if length > expected:
            length = expected
            data = memoryview(data)[:length]
    lun = task.lun
    if lun is not None and lun.bdev.lends_memory and lun.bdev not in connection.loans:
        connection.borrow(lun.bdev)
    limit = session.limit
    if not task.immediate:
        session.limit = limit = (limit + 1) & 0xFFFFFFFF
    offset = data_sn = 0
    if length > connection.peer_receive_limit:
        offset, data_sn = _send_all_but_last(connection, session, task.itt, memoryview(data))
        data = memoryview(data)[offset:]
    # connection.next_stat_sn() and connection.send() written out, as this runs for every READ.
    stat_sn = connection.stat_sn
    connection.stat_sn = (stat_sn + 1) & 0xFFFFFFFF
    out = connection.out
    out.append(
        _PACK_DATA_IN(
            pdu.DATA_IN,
            _LAST_WITH_STATUS | flags,
            GOOD,
            length - offset,
            task.itt,
            pdu.RESERVED_TAG,
            stat_sn,
            session.exp_cmd_sn,
            (limit - 1) & 0xFFFFFFFF,
            data_sn,
            offset,
            residual,
        )
    )
    out.append(data)
    if length & 3:
        out.append(bytes(-length & 3))
    connection.out_bytes += 48 + length - offset
    if not connection.awake:
        connection.flush_soon()


def _send_all_but_last(connection: Connection, session: Session, itt: int, data: memoryview) -> tuple[int, int]:
    """The Data-In PDUs that fill the initiator's MaxRecvDataSegmentLength; gives what is next: offset and DataSN."""
    longest, limit = connection.parameters.number("MaxBurstLength"), connection.peer_receive_limit
    offset = data_sn = 0
    burst_end = longest
    while len(data) - offset > limit:
        end = min(offset + limit, burst_end)
        final = 0
        if end == burst_end:
            final, burst_end = pdu.FINAL, burst_end + longest
        connection.send(
            _PACK_DATA_IN(
                *(pdu.DATA_IN, final, 0, end - offset, itt, pdu.RESERVED_TAG),
                *(0, session.exp_cmd_sn, session.max_cmd_sn, data_sn, offset, 0),
            ),
            data[offset:end],
        )
        offset = end
        data_sn += 1
    return offset, data_sn


def _residual(expected: int, moved: int) -> tuple[int, int]:
    """Flags and count (RFC 7143 §11.4.5.2): what the initiator announced against what the command moved."""
    if moved > expected:
        return pdu.OVERFLOW, moved - expected
    if moved < expected:
        return pdu.UNDERFLOW, expected - moved
    return 0, 0
