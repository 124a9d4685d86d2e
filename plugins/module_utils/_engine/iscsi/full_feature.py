# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full feature phase: what each PDU of an initiator does (RFC 7143 §11), as a table from opcode to handler."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from ..scsi.dispatch import TAKES_DATA
from . import discovery, pdu, tasks, transfer
from .session import SERIAL_MASK
from .text import TextError

if TYPE_CHECKING:
    from .connection import Connection, Handler

_LOGOUT_CONNECTION_RECOVERY: Final = 2


def _scsi_command(connection: Connection, view: memoryview, at: int, data: memoryview) -> None:
    flags, lun_field, itt, expected, cmd_sn, _exp_stat_sn, cdb = pdu.SCSI_COMMAND_PDU.unpack_from(view, at)
    session = connection.session
    immediate = view[at] & 0x40
    if session is None or session.nexus is None:
        raise AssertionError("SCSI commands come in normal sessions only")
    if not immediate:
        # connection.in_turn() written out, as this runs for every command
        if cmd_sn == session.exp_cmd_sn != session.limit:
            session.exp_cmd_sn = (cmd_sn + 1) & SERIAL_MASK
        elif not connection.in_turn(view, at, data, cmd_sn):
            return
    if (connection.incoming or connection.running) and connection.has_task(itt):
        session.release()
        connection.reject(pdu.REJECT_PROTOCOL_ERROR, f"initiator task tag 0x{itt:08x} is in use", view, at)
        return
    nexus = session.nexus
    lun = nexus.device.by_field.get(lun_field)
    task = transfer.IscsiTask(nexus, lun, cdb, itt, lun_field, expected, bool(immediate))
    if flags & 0x20 or cdb[0] in TAKES_DATA:
        transfer.receive_command(connection, task, data, bool(flags & 0x80))
    else:
        connection.run(task)


def _data_out(connection: Connection, view: memoryview, at: int, data: memoryview) -> None:
    transfer.receive_data_out(connection, view, at, data)


def _nop_out(connection: Connection, view: memoryview, at: int, data: memoryview) -> None:
    lun_field, itt, _ttt, cmd_sn, _exp_stat_sn = pdu.NOP_OUT_PDU.unpack_from(view, at)
    if itt == pdu.RESERVED_TAG:
        return  # the answer to a NOP-In of ours
    if not _sequenced(connection, view, at, data, cmd_sn):
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
    reason, itt, _cid, cmd_sn, _exp_stat_sn = pdu.LOGOUT_PDU.unpack_from(view, at)
    if not _sequenced(connection, view, at, data, cmd_sn):
        return
    recovery = reason & 0x7F == _LOGOUT_CONNECTION_RECOVERY
    session = connection.open_session
    values = connection.parameters
    connection.send(
        pdu.LOGOUT_RESPONSE_PDU.pack(
            *(pdu.LOGOUT_RESPONSE, pdu.FINAL, 2 if recovery else 0, 0, itt, connection.next_stat_sn()),
            *(session.exp_cmd_sn, session.max_cmd_sn),
            *(values.number("DefaultTime2Wait"), values.number("DefaultTime2Retain")),
        )
    )
    if not recovery:
        connection.finish_and_close()


def _task_management(connection: Connection, view: memoryview, at: int, data: memoryview) -> None:
    fields = pdu.TASK_MANAGEMENT_PDU.unpack_from(view, at)
    function, lun_field, itt, referenced, cmd_sn = fields[:5]
    if _sequenced(connection, view, at, data, cmd_sn):
        tasks.manage(connection, tasks.Request(function & 0x7F, lun_field, itt, referenced))


def _sequenced(connection: Connection, view: memoryview, at: int, data: memoryview, cmd_sn: int) -> bool:
    """Is it this PDU's turn? One that takes a CmdSN is answered at once, so the window moves with it."""
    if view[at] & pdu.IMMEDIATE:
        return True
    if not connection.in_turn(view, at, data, cmd_sn):
        return False
    connection.open_session.release()
    return True


def _snack(connection: Connection, view: memoryview, at: int, _data: memoryview) -> None:
    connection.reject(pdu.REJECT_PROTOCOL_ERROR, "SNACK at ErrorRecoveryLevel 0", view, at)


def _ignore(_connection: Connection, _view: memoryview, _at: int, _data: memoryview) -> None:
    """Nothing is handled between the last answer and the close."""


HANDLERS: Final[dict[int, Handler]] = {
    pdu.NOP_OUT: _nop_out,
    pdu.SCSI_COMMAND: _scsi_command,
    pdu.TASK_MANAGEMENT: _task_management,
    pdu.TEXT: _text,
    pdu.DATA_OUT: _data_out,
    pdu.LOGOUT: _logout,
    pdu.SNACK: _snack,
}
DISCOVERY_HANDLERS: Final[dict[int, Handler]] = {
    opcode: HANDLERS[opcode] for opcode in (pdu.NOP_OUT, pdu.TEXT, pdu.LOGOUT)
}
NO_HANDLERS: Final[dict[int, Handler]] = dict.fromkeys(range(64), _ignore)
