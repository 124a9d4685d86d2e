# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data of WRITEs: immediate, unsolicited, and asked for by R2T (RFC 7143 §4.5.3, §11.7, §11.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..scsi.device import Nexus
from ..scsi.dispatch import prepare
from ..scsi.sbc import MAX_TRANSFER_BYTES
from ..scsi.sense import ABORTED_COMMAND, GOOD, ScsiError
from . import pdu
from .answers import send_status
from .command import IscsiTask

if TYPE_CHECKING:
    from .connection import Connection

SOLICITED_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of WRITE data a connection may have been asked for at a time; further WRITEs wait for their first R2T."""


class DataPhaseError(ScsiError):
    """Data-Out that does not follow the rules."""

    key = ABORTED_COMMAND
    code = (0x4B, 0x00)


class IncorrectAmountOfData(ScsiError):
    """A sequence of Data-Out is shorter than it has to be (RFC 7143 §11.4.7.2)."""

    key = ABORTED_COMMAND
    code = (0x0C, 0x0D)


class ProtocolServiceCrcError(ScsiError):
    """Data arrived with a wrong digest (RFC 7143 §7.9)."""

    key = ABORTED_COMMAND
    code = (0x47, 0x05)


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


def receive_command(
    connection: Connection, task: IscsiTask, data: memoryview, final: bool, view: memoryview, at: int
) -> None:
    """A command with Data-Out: run it when its data is complete, else fetch what is missing."""
    task.wanted = wanted = prepare(task)
    need = wanted if wanted < task.expected else task.expected
    have = len(data)
    if have > connection.immediate_limit:
        agreed = f"FirstBurstLength={connection.immediate_limit}" if connection.immediate_limit else "ImmediateData=No"
        _refuse(connection, task, f"{have} bytes of immediate data though {agreed}", view, at)
        return
    if have > need and have > task.expected:
        _refuse(connection, task, f"{have} bytes of immediate data for a transfer of {task.expected}", view, at)
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
        _refuse(connection, task, "unsolicited data announced though InitialR2T=Yes", view, at)
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


def _refuse(connection: Connection, task: IscsiTask, why: str, view: memoryview, at: int) -> None:
    """The command breaks what was agreed: it is rejected, and never answered."""
    if not task.immediate:
        connection.open_session.release()
    connection.reject(pdu.REJECT_PROTOCOL_ERROR, why, view, at)


def fail_damaged_command(connection: Connection, nexus: Nexus, view: memoryview, at: int, takes_number: bool) -> None:
    """A command whose immediate data has a wrong digest; ``takes_number`` when its answer moves the window."""
    _flags, lun_field, itt, expected, _cmd_sn, _exp_stat_sn, cdb = pdu.SCSI_COMMAND_PDU.unpack_from(view, at)
    task = IscsiTask(nexus, None, cdb, itt, lun_field, expected, not takes_number)
    task.fail(ProtocolServiceCrcError())
    send_status(connection, task)


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
    _advance(connection, incoming, burst, end, flags, view, at)


def receive_damaged_data_out(connection: Connection, view: memoryview, at: int, length: int) -> None:
    """Data with a wrong digest is not taken; the command fails when the other data that was asked for has come."""
    flags, _lun, itt, ttt, _exp, data_sn, offset = pdu.DATA_OUT_PDU.unpack_from(view, at)
    incoming = connection.incoming.get(itt)
    burst = incoming.bursts.get(ttt) if incoming is not None else None
    if incoming is None or burst is None:
        return
    end = offset + length
    if data_sn != burst.data_sn or offset != burst.next_offset or end > burst.end:
        _fail(connection, incoming)
        return
    incoming.task.fail(ProtocolServiceCrcError())
    _advance(connection, incoming, burst, end, flags, view, at)


def _advance(
    connection: Connection, incoming: Incoming, burst: Burst, end: int, flags: int, view: memoryview, at: int
) -> None:
    """The burst has come up to ``end``."""
    burst.next_offset = end
    burst.data_sn += 1
    if not flags & pdu.FINAL:
        return
    ttt = pdu.DATA_OUT_PDU.unpack_from(view, at)[3]
    if end != burst.end:
        itt = incoming.task.itt
        connection.reject(pdu.REJECT_PROTOCOL_ERROR, f"Data-Out of task 0x{itt:08x} ends too early", view, at)
        _fail(connection, incoming, IncorrectAmountOfData())
        return
    del incoming.bursts[ttt]
    if ttt == pdu.RESERVED_TAG:
        incoming.next_request = end
    request_more(connection, incoming)


def request_more(connection: Connection, incoming: Incoming) -> None:
    """Send the R2Ts that are allowed now, or run the command when all its data is there."""
    task = incoming.task
    failed = task.status != GOOD
    if not incoming.bursts and (failed or incoming.next_request >= incoming.need):
        forget(connection, incoming)
        if failed:
            connection.finish(task)
        else:
            task.data_out = incoming.view[: incoming.need]
            connection.run(task)
        return
    if failed:
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
        del connection.waiting_writes[0]
        if not following.task.aborted:
            request_more(connection, following)


def _fail(connection: Connection, incoming: Incoming, error: ScsiError | None = None) -> None:
    forget(connection, incoming)
    incoming.task.fail(error or DataPhaseError())
    connection.finish(incoming.task)
