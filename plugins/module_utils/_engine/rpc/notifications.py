# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened to bdevs: SPDK's notifications, a ring of the latest ones, and waiting for the next."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, NamedTuple

REGISTER: Final = "bdev_register"
UNREGISTER: Final = "bdev_unregister"
RESIZE: Final = "bdev_resize"
TYPES: Final = (REGISTER, UNREGISTER, RESIZE)
_KEPT: Final = 1024


class Notification(NamedTuple):
    type: str
    ctx: str
    """The bdev's name."""
    id: int


class Notifications:
    """Numbered from 0; the oldest go when there are more than SPDK keeps."""

    def __init__(self) -> None:
        self._events: deque[Notification] = deque(maxlen=_KEPT)
        self._next = 0
        self._waiting: list[asyncio.Future[None]] = []

    def send(self, kind: str, name: str) -> None:
        self._events.append(Notification(kind, name, self._next))
        self._next += 1
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def since(self, first: int, most: int) -> list[dict[str, Any]]:
        found = [event._asdict() for event in self._events if event.id >= first]
        return found[:most]

    def next(self) -> asyncio.Future[None]:
        """Done when the next notification is sent."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting = [other for other in self._waiting if not other.done()]
        self._waiting.append(future)
        return future
