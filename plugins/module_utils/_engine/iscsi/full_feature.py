# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full feature phase: what each PDU of an initiator does (RFC 7143 §11), as a table from opcode to handler."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from ..scsi.commands import TAKES_DATA
from . import ahs, discovery, logout, pdu, tasks, transfer
from .command import IscsiTask
from .receiving import Handlers
from .session import SERIAL_MASK
from .text import TextError

if TYPE_CHECKING:
    from .connection import Connection

_MOST_IMMEDIATE: Final = 64
"""Immediate commands, which no window bounds, that may be unanswered beside a window full of others."""


def _scsi_command(connection: Connection, view: memoryview, at: int, data: memoryview) -> None:
    flags, lun_field, itt, expected, cmd_sn, _exp_stat_sn, cdb = pdu.SCSI_COMMAND_PDU.unpack_from(view, at)
    session = connection.session
    immediate = view[at] & 0x40
    if session is None or session.nexus is None:
        raise AssertionError("SCSI commands come in normal sessions only")
    if not immediate:
        # connection.in_turn() written out, as this runs for every command
        if cmd_sn == session.exp_cmd_sn != session.limit and not session.behind:
            session.exp_cmd_sn = (cmd_sn + 1) & SERIAL_MASK
        elif not connection.in_turn(view, at, data, cmd_sn):
            return
    if (connection.incoming or connection.running) and not _may_begin(connection, view, at, itt):
        return
    nexus = session.nexus
    use = nexus.uses.get(lun_field) or nexus.use(lun_field)
    task = IscsiTask(nexus, use, cdb, itt, lun_field, expected, bool(immediate))
    if connection.data_digest:
        task.private = True  # what the digest is of must not change before it is sent
    if flags & 0x20 or cdb[0] in TAKES_DATA:
        transfer.receive_command(connection, task, data, bool(flags & 0x80), view, at)
    else:
        connection.run(task)


def _may_begin(connection: Connection, view: memoryview, at: int, itt: int) -> bool:
    """While others are unfinished: is the tag free, and is there room for an immediate command?"""
    session = connection.open_session
    immediate = view[at] & pdu.IMMEDIATE
    if connection.has_task(itt):
        if not immediate:
            session.release()
        connection.reject(pdu.REJECT_PROTOCOL_ERROR, f"initiator task tag 0x{itt:08x} is in use", view, at)
        return False
    if immediate and sum(task.immediate for task in connection.unfinished()) >= _MOST_IMMEDIATE:
        connection.reject(
            pdu.REJECT_TOO_MANY_IMMEDIATE, f"{_MOST_IMMEDIATE} immediate commands are unanswered", view, at
        )
        return False
    return True


def extended(connection: Connection, view: memoryview, at: int, data: memoryview) -> None:
    """A PDU with additional header segments, which only SCSI commands may have."""
    session = connection.open_session
    fields = pdu.SCSI_COMMAND_PDU.unpack_from(view, at)
    flags, lun_field, itt, expected, cmd_sn, _exp_stat_sn, cdb = fields
    if view[at] & pdu.OPCODE_MASK != pdu.SCSI_COMMAND or session.nexus is None:
        connection.reject(pdu.REJECT_INVALID_FIELD, "a PDU with header segments that it cannot have", view, at)
        return
    immediate = bool(view[at] & pdu.IMMEDIATE)
    if not immediate and not connection.in_turn(view, at, data, cmd_sn):
        return
    segments = at + pdu.HEADER
    try:
        extension = ahs.parse(bytes(view[segments : segments + view[at + 4] * 4]))
        if extension.read_length is not None and flags & (pdu.READ | pdu.WRITE) != pdu.READ | pdu.WRITE:
            raise ahs.AhsError("a read length of a command that does not move data both ways")
    except ahs.AhsError as error:
        if not immediate:
            session.release()
        connection.reject(pdu.REJECT_INVALID_FIELD, str(error), view, at)
        return
    if not _may_begin(connection, view, at, itt):
        return
    use = session.nexus.use(lun_field)
    task = IscsiTask(session.nexus, use, cdb + extension.cdb, itt, lun_field, expected, immediate)
    if extension.read_length is not None:
        task.read_length = extension.read_length
        task.unusual = True
    if flags & pdu.WRITE or cdb[0] in TAKES_DATA:
        transfer.receive_command(connection, task, data, bool(flags & pdu.FINAL), view, at)
    else:
        connection.run(task)


def damaged(connection: Connection, view: memoryview, at: int, length: int) -> None:
    """A PDU whose data digest is wrong is discarded; a command that it carried data of fails (RFC 7143 §7.9)."""
    opcode, session = view[at] & pdu.OPCODE_MASK, connection.open_session
    takes_number = opcode == pdu.SCSI_COMMAND and not view[at] & pdu.IMMEDIATE
    if takes_number:
        cmd_sn = pdu.SCSI_COMMAND_PDU.unpack_from(view, at)[4]
        if not session.take_turn(cmd_sn):
            takes_number = False
            if not session.plug(cmd_sn):
                return  # outside the window
    connection.reject(pdu.REJECT_DATA_DIGEST, f"wrong data digest, opcode 0x{opcode:02x}", view, at)
    if opcode == pdu.SCSI_COMMAND and session.nexus is not None:
        transfer.fail_damaged_command(connection, session.nexus, view, at, takes_number)
    elif opcode == pdu.DATA_OUT:
        transfer.receive_damaged_data_out(connection, view, at, length)


def _data_out(connection: Connection, view: memoryview, at: int, data: memoryview) -> None:
    transfer.receive_data_out(connection, view, at, data)


def _nop_out(connection: Connection, view: memoryview, at: int, data: memoryview) -> None:
    lun_field, itt, _ttt, cmd_sn, exp_stat_sn = pdu.NOP_OUT_PDU.unpack_from(view, at)
    if not _sequenced(connection, view, at, data, cmd_sn):
        return
    if itt == pdu.RESERVED_TAG:  # the answer to a NOP-In of ours
        connection.note_acknowledgement(exp_stat_sn)
        return
    session = connection.open_session
    echo = bytes(data[: connection.peer_receive_limit])
    connection.send(
        pdu.NOP_IN_PDU.pack(
            *(pdu.NOP_IN, pdu.FINAL, len(echo), lun_field, itt, pdu.RESERVED_TAG),
            *(connection.next_stat_sn(), session.exp_cmd_sn, session.max_cmd_sn),
        ),
        echo,
    )


def _text(connection: Connection, view: memoryview, at: int, data: memoryview) -> None:
    """A text request, or part of one; or the request for the next part of an answer (RFC 7143 §11.10)."""
    flags, lun_field, itt, ttt, cmd_sn, _exp_stat_sn = pdu.TEXT_PDU.unpack_from(view, at)
    if not _sequenced(connection, view, at, data, cmd_sn):
        return
    exchange = connection.text
    answer = partial(discovery.answer_text, connection)
    try:
        part = exchange.take(flags, ttt, bytes(data), answer, connection.peer_receive_limit)
    except TextError as error:
        connection.reject(pdu.REJECT_PROTOCOL_ERROR, str(error), view, at)
        return
    tag = pdu.RESERVED_TAG
    if part.goes_on:
        tag = connection.new_transfer_tag()
        exchange.continue_with(tag)
    session = connection.open_session
    connection.send(
        pdu.TEXT_RESPONSE_PDU.pack(
            *(pdu.TEXT_RESPONSE, part.flags, len(part.data), lun_field, itt, tag),
            *(connection.next_stat_sn(), session.exp_cmd_sn, session.max_cmd_sn),
        ),
        part.data,
    )


def _logout(connection: Connection, view: memoryview, at: int, data: memoryview) -> None:
    reason, itt, cid, cmd_sn, _exp_stat_sn = pdu.LOGOUT_PDU.unpack_from(view, at)
    if not _sequenced(connection, view, at, data, cmd_sn):
        return
    if not logout.log_out(connection, reason & 0x7F, itt, cid):
        connection.reject(pdu.REJECT_INVALID_FIELD, f"logout reason {reason & 0x7F}", view, at)


def _task_management(connection: Connection, view: memoryview, at: int, data: memoryview) -> None:
    function, lun_field, itt, referenced, cmd_sn, _exp_stat_sn, ref_cmd_sn, _exp_data_sn = (
        pdu.TASK_MANAGEMENT_PDU.unpack_from(view, at)
    )
    if _sequenced(connection, view, at, data, cmd_sn):
        tasks.manage(connection, tasks.Request(function & 0x7F, lun_field, itt, referenced, cmd_sn, ref_cmd_sn))


def _sequenced(connection: Connection, view: memoryview, at: int, data: memoryview, cmd_sn: int) -> bool:
    """Is it this PDU's turn? One that takes a CmdSN is answered at once, so the window moves with it."""
    if view[at] & pdu.IMMEDIATE:
        return True
    if not connection.in_turn(view, at, data, cmd_sn):
        return False
    connection.open_session.release()
    return True


_SNACK_DATA_ACK: Final = 2


def _snack(connection: Connection, view: memoryview, at: int, _data: memoryview) -> None:
    """Nothing can be asked for again at ErrorRecoveryLevel 0, and no Data-In asks to be acknowledged."""
    kind = pdu.SNACK_PDU.unpack_from(view, at)[0] & 0x0F
    reason = pdu.REJECT_DATA_ACK if kind == _SNACK_DATA_ACK else pdu.REJECT_SNACK
    connection.reject(reason, f"SNACK of type {kind} at ErrorRecoveryLevel 0", view, at)


def _ignore(_connection: Connection, _view: memoryview, _at: int, _data: memoryview) -> None:
    """Nothing is handled between the last answer and the close."""


def _unknown(connection: Connection, view: memoryview, at: int, _data: memoryview) -> None:
    connection.reject(pdu.REJECT_NOT_SUPPORTED, f"opcode 0x{view[at] & pdu.OPCODE_MASK:02x}", view, at)


_ALL_UNKNOWN: Final[Handlers] = dict.fromkeys(range(64), _unknown)
DISCOVERY_HANDLERS: Final[Handlers] = {
    **_ALL_UNKNOWN,
    pdu.NOP_OUT: _nop_out,
    pdu.TEXT: _text,
    pdu.LOGOUT: _logout,
}
HANDLERS: Final[Handlers] = {
    **DISCOVERY_HANDLERS,
    pdu.SCSI_COMMAND: _scsi_command,
    pdu.TASK_MANAGEMENT: _task_management,
    pdu.DATA_OUT: _data_out,
    pdu.SNACK: _snack,
}
NO_HANDLERS: Final[Handlers] = dict.fromkeys(range(64), _ignore)
