# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logout of a session or a connection (RFC 7143 §11.14, §11.15).

Commands that a bdev is working on are waited for: once the logout is answered, nothing that came through these
connections changes the medium any more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from . import pdu
from .settling import wait_for

if TYPE_CHECKING:
    from .connection import Connection

CLOSE_SESSION, CLOSE_CONNECTION, RECOVER_CONNECTION = 0, 1, 2
_CLOSED, _NO_SUCH_CID, _NO_RECOVERY, _NOT_CLEANED_UP = 0, 1, 2, 3
_CLEAN_UP_SECONDS: Final = 20
"""How long commands that are being carried out may delay the answer."""


def log_out(connection: Connection, reason: int, itt: int, cid: int) -> bool:
    """Carry out a logout; False when the reason is none of those that RFC 7143 knows."""
    session = connection.open_session
    if reason == CLOSE_SESSION:
        _close(connection, itt, list(session.connections.values()))
    elif reason == CLOSE_CONNECTION:
        leaving = session.connections.get(cid)
        if leaving is None:
            _respond(connection, itt, _NO_SUCH_CID)
        else:
            _close(connection, itt, [leaving])
    elif reason == RECOVER_CONNECTION:
        _respond(connection, itt, _NO_RECOVERY)
    else:
        return False
    return True


def _close(connection: Connection, itt: int, leaving: list[Connection]) -> None:
    for each in leaving:
        each.stop_commands()
    busy = [each.when_idle() for each in leaving if each.running]
    if not busy:
        _closed(connection, itt, leaving, _CLOSED)
        return
    answered: list[int] = []

    def close(response: int) -> None:
        late.cancel()
        if not answered:
            answered.append(response)
            _closed(connection, itt, leaving, response)

    late = asyncio.get_running_loop().call_later(_CLEAN_UP_SECONDS, close, _NOT_CLEANED_UP)
    wait_for(busy, lambda: close(_CLOSED))


def _closed(connection: Connection, itt: int, leaving: list[Connection], response: int) -> None:
    if not connection.closed:
        _respond(connection, itt, response)
    for each in leaving:
        if not each.closed:
            each.finish_and_close()


def _respond(connection: Connection, itt: int, response: int) -> None:
    session = connection.open_session
    values = connection.parameters
    connection.send(
        pdu.LOGOUT_RESPONSE_PDU.pack(
            *(pdu.LOGOUT_RESPONSE, pdu.FINAL, response, 0, itt, connection.next_stat_sn()),
            *(session.exp_cmd_sn, session.max_cmd_sn),
            *(values.number("DefaultTime2Wait"), values.number("DefaultTime2Retain")),
        )
    )
