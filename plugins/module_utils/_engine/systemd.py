# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service manager: telling it that we are ready, stopping or alive (sd_notify(3))."""

from __future__ import annotations

import asyncio
import logging
import os
import socket


def notify_systemd(message: str) -> None:
    """sd_notify(3): tell the service manager, if there is one, such as ``READY=1``."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect("\0" + address[1:] if address.startswith("@") else address)
            channel.sendall(message.encode())
    except OSError as error:
        logging.getLogger(__name__).warning("NOTIFY_SOCKET %s: %s", address, error.strerror)


class Watchdog:
    """Tells systemd twice in each WatchdogSec that the event loop turns, if it is asked to (sd_watchdog_enabled(3))."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        microseconds, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
        is_ours = not pid or pid == str(os.getpid())
        self._seconds = int(microseconds) / 2e6 if microseconds.isdigit() and is_ours else 0.0

    def start(self) -> None:
        if self._seconds:
            notify_systemd("WATCHDOG=1")
            self._timer = self._loop.call_later(self._seconds, self.start)

    def stop(self) -> None:
        """It may take long to stop, which is not the watchdog's business: systemd has TimeoutStopSec for that."""
        if self._timer is not None:
            self._timer.cancel()
