# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answering commands: Data-In, and the status at the end (RFC 7143 §11.4, §11.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..bdev.mapping import owned
from ..scsi.sense import GOOD
from . import pdu
from .command import IscsiTask
from .sending import OUTPUT_LIMIT

if TYPE_CHECKING:
    from .session import Session
    from .working import Worker

_PACK_DATA_IN: Final = pdu.DATA_IN_PDU.pack
_PACK_SCSI_RESPONSE: Final = pdu.SCSI_RESPONSE_PDU.pack
_LAST_WITH_STATUS: Final = pdu.FINAL | pdu.STATUS


def send_status(
    connection: Worker, task: IscsiTask, flags: int = pdu.FINAL, data_pdus: int = 0, read_residual: int = 0
) -> None:
    """A SCSI Response PDU, with sense data and residual. The rest is about what went the other way."""
    session = connection.session
    if session is None:
        raise AssertionError("commands are answered in full feature phase only")
    moved = task.wanted if task.status == GOOD else 0
    residual = 0
    if moved != task.expected:
        more_flags, residual = _residual(task.expected, moved)
        flags |= more_flags
    sense = len(task.sense).to_bytes(2, "big") + task.sense if task.sense else b""
    limit = session.limit
    if not task.immediate:
        session.limit = limit = (limit + 1) & 0xFFFFFFFF
    connection.send(
        _PACK_SCSI_RESPONSE(
            pdu.SCSI_RESPONSE,
            flags,
            0,
            task.status,
            len(sense),
            task.itt,
            0,
            connection.next_stat_sn(),
            session.exp_cmd_sn,
            (limit - 1) & 0xFFFFFFFF,
            data_pdus,
            read_residual,
            residual,
        ),
        sense,
    )


def send_data_in(connection: Worker, task: IscsiTask) -> None:
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
    if lun is not None:
        is_lent = lun.bdev.lends_memory and not task.private
        if not is_lent or connection.out_bytes > OUTPUT_LIMIT:
            connection.note_output(length)
        if is_lent and lun.bdev not in connection.loans:
            connection.borrow(lun.bdev)
    limit = session.limit
    if not task.immediate:
        session.limit = limit = (limit + 1) & 0xFFFFFFFF
    offset = data_sn = 0
    if length > connection.plain_limit:
        if connection.data_digest and not task.private and isinstance(data, memoryview):
            data = owned(data)  # what the digest is of must not change before it is sent
        offset, data_sn = _send_all_but_last(connection, session, task.itt, memoryview(data))
        data = memoryview(data)[offset:]
        if connection.digests:
            header = (pdu.DATA_IN, _LAST_WITH_STATUS | flags, GOOD, length - offset, task.itt, pdu.RESERVED_TAG)
            numbers = (connection.next_stat_sn(), session.exp_cmd_sn, (limit - 1) & 0xFFFFFFFF, data_sn, offset)
            connection.send(_PACK_DATA_IN(*header, *numbers, residual), data)
            return
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
    connection.out_bytes += 48 + length - offset
    if length & 3:
        out.append(bytes(-length & 3))
        connection.out_bytes += -length & 3
    if not connection.awake:
        connection.flush_soon()


def send_both_ways(connection: Worker, task: IscsiTask) -> None:
    """Answer a command that moves data both ways. Its status comes in a PDU of its own, as only there is room for both
    residuals (RFC 7143 §11.4.5)."""
    session = connection.open_session
    data = bytes(task.data_in or b"")
    view = memoryview(data)[: task.read_length]
    offset, data_sn = _send_all_but_last(connection, session, task.itt, view)
    if offset < len(view):
        connection.send(
            _PACK_DATA_IN(
                *(pdu.DATA_IN, pdu.FINAL, 0, len(view) - offset, task.itt, pdu.RESERVED_TAG),
                *(0, session.exp_cmd_sn, session.max_cmd_sn, data_sn, offset, 0),
            ),
            view[offset:],
        )
        data_sn += 1
    flags, residual = _residual(task.read_length, len(data))
    flags <<= 2  # §11.4.1: those of the read direction
    send_status(connection, task, pdu.FINAL | flags, data_sn, residual)


def _send_all_but_last(connection: Worker, session: Session, itt: int, data: memoryview) -> tuple[int, int]:
    """Data-In PDUs, each as long as may be, in sequences of MaxBurstLength; gives what is next: offset and DataSN."""
    longest, limit = connection.parameters.number("MaxBurstLength"), connection.data_in_limit
    offset = data_sn = 0
    burst_end = longest
    while len(data) > (end := min(offset + limit, burst_end)):
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
