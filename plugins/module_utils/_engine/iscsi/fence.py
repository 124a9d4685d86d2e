# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The response fence (RFC 7143 §4.2.2.3.3): an answer that keeps its place among those of all connections of a session.

Within a connection answers are in order anyway. On the others a NOP-In asks the initiator for its ExpStatSN, which
tells that it has all that was sent before; then they stay silent until it has the answer itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

from .settling import wait_for

if TYPE_CHECKING:
    from .connection import Connection


def fenced(connection: Connection, answer: Callable[[], None]) -> None:
    """Do ``answer``, which sends on ``connection``, when and how the fence allows it."""
    session = connection.open_session
    others = [each for each in session.connections.values() if each is not connection and not each.leaving]

    def send() -> None:
        answer()
        if others and not connection.closed:
            has_it = connection.acknowledged()
            hushed = [each for each in others if not each.is_awaited]  # else two fences could wait for each other
            for each in hushed:
                each.hush()
            wait_for([has_it], lambda: unhush(hushed))

    def unhush(hushed: list[Connection]) -> None:
        for each in hushed:
            each.unhush()

    wait_for([each.acknowledged() for each in others], send)
