# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of QEMU's machine protocol: one connection, one question at a time."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

from .image import LabError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class Qmp:
    """A connection to a machine's monitor. ``with Qmp(path) as monitor: monitor.ask("query-status")``."""

    def __init__(self, path: Path, timeout: float = 300) -> None:
        # The path of a checkout may be longer than an address of a Unix socket: go through its directory's descriptor.
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(timeout)
            self._socket.connect(f"/proc/self/fd/{directory}/{path.name}")
        finally:
            os.close(directory)
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self._events: list[dict[str, Any]] = []
        self._next()  # the greeting
        self.ask("qmp_capabilities")

    def __enter__(self) -> Qmp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def ask(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """The command's result. Raises LabError with QEMU's reason."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments or {}}).encode() + b"\n")
        while True:
            said = self._next()
            if "error" in said:
                raise LabError(f"QEMU's {command}: {said['error']['desc']}")
            if "return" in said:
                return said["return"]
            self._events.append(said)

    def human(self, line: str) -> None:
        """A command of the human monitor, for what has no other form. Raises LabError when it says anything."""
        said = self.ask("human-monitor-command", {"command-line": line}).strip()
        if said:
            raise LabError(f"QEMU's {line}: {said}")

    def wait(self, event: str, **data: Any) -> None:
        """Until QEMU tells this event with this data. Raises LabError when the connection's time is over."""
        while True:
            for told in self._events:
                if told.get("event") == event and data.items() <= told.get("data", {}).items():
                    self._events.remove(told)
                    return
            self._events.append(self._next())

    def _next(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
        except TimeoutError:
            raise LabError("QEMU's monitor does not answer") from None
        if not line:
            raise LabError("QEMU has ended")
        said: dict[str, Any] = json.loads(line)
        return said
