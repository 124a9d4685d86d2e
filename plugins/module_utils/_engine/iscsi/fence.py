# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The response fence (RFC 7143 §4.2.2.3.3): an answer that must not overtake those on the session's other connections.

Within a connection answers are in order anyway. On the others a NOP-In asks the initiator for its ExpStatSN, which
tells that it has all that was sent before.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Callable

from .settling import wait_for

if TYPE_CHECKING:
    from .connection import Connection


def behind_fence(connection: Connection, then: Callable[[], None]) -> None:
    """Do ``then`` when the initiator has every answer that was sent on other connections of the session."""
    session = connection.session
    others = [each for each in session.connections.values() if each is not connection] if session is not None else []
    fences: list[asyncio.Future[None]] = [each.acknowledged() for each in others if not each.leaving]
    wait_for(fences, then)
