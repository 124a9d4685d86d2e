# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receive buffer that all connections share, and buffers for the data of WRITEs."""

from __future__ import annotations

from typing import Final

from .keys import RECEIVE_LIMIT

SHARED_BUFFER: Final = 1024 * 1024
"""Bytes; more than the largest PDU, so that what is kept of one always leaves room to receive."""
DIRECT: Final = 16384
"""Bytes; what is at least as long is received into a place of its own."""
_SPARE_BUFFERS: Final = 32


class SharedBuffer:
    """The receive buffer of all connections of one event loop, and used buffers for the data of WRITEs."""

    def __init__(self) -> None:
        self.memory = bytearray(SHARED_BUFFER)
        self.view = memoryview(self.memory)
        self._spare: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """A buffer of at least ``size`` bytes with any content; a used one saves clearing it."""
        if not DIRECT <= size <= RECEIVE_LIMIT:
            return bytearray(size)
        return self._spare.pop() if self._spare else bytearray(RECEIVE_LIMIT)

    def give_back(self, buffer: bytearray) -> None:
        """Nobody uses ``buffer`` any more."""
        if len(buffer) == RECEIVE_LIMIT and len(self._spare) < _SPARE_BUFFERS:
            self._spare.append(buffer)
