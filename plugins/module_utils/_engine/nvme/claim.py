# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One process at a time may drive a device: SPDK's lock files, so that its programs and we respect each other."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Final

from ..errors import Busy, EngineError

PLACE: Final = "/var/tmp"
_PID: Final = struct.Struct("i")


class Claim:
    """The lock on the device at ``address``, held until :meth:`release` or the end of the process."""

    def __init__(self, address: str, place: str = PLACE) -> None:
        """Raises Busy when another process has it, or another EngineError."""
        path = f"{place}/spdk_pci_lock_{address}"
        try:
            self._fd = _opened(path)
        except OSError as error:
            raise EngineError.from_os(error, f"{address}: its lock {path}") from error
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(self._fd, _PID.pack(os.getpid()), 0)
        except (BlockingIOError, PermissionError) as error:
            owner = os.pread(self._fd, _PID.size, 0)
            os.close(self._fd)
            who = f"process {_PID.unpack(owner)[0]}" if len(owner) == _PID.size else "another process"
            raise Busy(f"{address}: {who} drives it already ({path} is locked). Stop that first.") from error
        except OSError as error:
            os.close(self._fd)
            raise EngineError.from_os(error, f"{address}: its lock {path}") from error

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _opened(path: str) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        # Not in one step: the kernel forbids that for files of others in such places (fs.protected_regular).
        return os.open(path, flags | os.O_CREAT, 0o600)
