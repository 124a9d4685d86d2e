# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every opened device has: files, mapped registers, and the claim that nobody else drives it."""

from __future__ import annotations

import os

from .claim import Claim
from .device import Window
from .pci import COMMAND_MASTER, ConfigSpace


class HeldDevice:
    """The common half of a :class:`device.Device`; what opens one sets the rest."""

    words: memoryview

    def __init__(self, address: str, claim: Claim) -> None:
        self.address = address
        self.interrupts: tuple[int, ...] = ()
        self.removal = -1
        self._claim = claim
        self._fds: list[int] = []
        self._config: ConfigSpace
        self._window: Window | None = None

    def _open(self, path: str) -> int:
        """Raises OSError."""
        return self._keep(os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def _keep(self, fd: int) -> int:
        """Close it with the others."""
        self._fds.append(fd)
        return fd

    def _show(self, window: Window) -> None:
        """The registers are mapped."""
        self._window = window
        self.words = window.words

    def master(self, allowed: bool) -> None:
        """Allow it to reach memory, or forbid it. Raises OSError."""
        if allowed:
            self._config.change_command(COMMAND_MASTER, 0)
        else:
            self._config.change_command(0, COMMAND_MASTER)

    def close(self) -> None:
        """Let go of it. It must be at rest."""
        self._give_back()
        self._claim.release()

    def _give_back(self) -> None:
        """All but the claim: it was not opened after all."""
        if self._window is not None:
            self._window.close()
        while self._fds:
            os.close(self._fds.pop())
