# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings SPDK's target into a wanted state, as service.py does it for the engine that the collection ships."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable

from . import procfs
from .installed import Installed
from .readiness import wait_ready
from .service import Outcome, Request, Service
from .spdk import check_config

if TYPE_CHECKING:
    from .manager import Ask, Manager
    from .options import StartOptions
    from .spdk import SpdkSettings

NO_PROGRAM = Installed("", "")
"""In the place of the archive, which SPDK has not."""


class SpdkService(Service):
    """``ready`` raises ServiceError when the host lacks what a start needs; it is asked only before one."""

    def __init__(
        self,
        settings: SpdkSettings,
        manager: Manager,
        ask: Ask,
        apply: bool,
        options: StartOptions,
        ready: Callable[[], None],
    ) -> None:
        super().__init__(settings, manager, ask, apply, options)
        self._spdk = settings
        self._start_options = options
        self._ready = ready

    def bring(self, request: Request) -> Outcome:
        pid = self._manager.running()
        command = procfs.command_of(pid) if pid is not None else None
        before = {"command": self._own(command), **self._manager.describe()}
        if request.state == "absent":
            return self._remove(request, before, pid)
        if request.state == "stopped":
            return self._stop(request, before, None, pid)
        return self._provide(request, before, None, pid)

    def _provide(self, request: Request, before: dict[str, Any], found: Installed | None, pid: int | None) -> Outcome:
        del found
        check_config(self._spdk.config)
        reason = self._why(request, pid) if request.runs else ""
        if reason and pid is None:  # before anything is changed; one that runs gives back what it has
            self._ready()
        actions = self._take(self._manager.prepare()) + self._take(self._manager.define())
        after = {**before, **self._manager.intended()}
        if not request.runs:
            kept = {"enabled": before["enabled"]} if "enabled" in before else {}
            return Outcome(actions, before, {**after, **kept}, None, pid)
        actions += self._take(self._manager.keep())
        after["command"] = self._spdk.command()
        before = {**before, "target_options": self._start_options.shown(pid is not None)}
        after["target_options"] = self._start_options.wanted
        steps = self._run(request, NO_PROGRAM, pid)[1]
        actions += self._take(steps)
        now = pid if not steps else self._manager.running() if self._apply else None
        return Outcome(actions, before, after, None, now, restarted=bool(steps) and pid is not None, reason=reason)

    def _why(self, request: Request, pid: int | None) -> str:
        """Why it has to be started or started again; empty when it runs as wanted."""
        if pid is None:
            return "it was not running"
        return "asked for" if request.state == "restarted" else self._outdated(request, NO_PROGRAM, pid)

    def _outdated(self, request: Request, wanted: Installed, pid: int) -> str:
        del wanted
        command = self._own(procfs.command_of(pid))
        if command is not None and command != self._spdk.command():
            return "its options changed"
        if _replaced(pid):
            return f"{self._spdk.program} was replaced"
        if wait_ready(self._ask, request.timeout, lambda: procfs.start_time(pid) is not None) is None:
            return f"it did not answer on {self._spdk.layout.socket}"
        return self._start_options.outdated()

    def _own(self, command: list[str] | None) -> list[str] | None:
        """The command without what runs the program, when that is a script or started by another one."""
        if command is None or self._spdk.program not in command:
            return command
        return command[command.index(self._spdk.program) :]


def _replaced(pid: int) -> bool:
    """Whether the program has another file since the process began, as after an upgrade (proc(5), exe)."""
    try:
        return os.readlink(f"/proc/{pid}/exe").endswith(" (deleted)")
    except OSError:
        return False
