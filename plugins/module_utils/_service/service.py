# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the engine's service into a wanted state: first the steps, then their execution.

Check mode is the list of steps; idempotence is its emptiness.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from . import procfs
from .errors import ServiceError
from .installed import UNKNOWN, Installed, read
from .manager import Step
from .readiness import wait_ready

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .manager import Ask, Manager
    from .options import StartOptions
    from .settings import Startable
    from .web import CredentialsFile


class Request(NamedTuple):
    """What is asked for. ``wanted`` is the archive to run, None to keep the one that lies on the host."""

    state: str
    wanted: Installed | None = None
    force: bool = False
    purge: bool = False
    timeout: float = 60.0

    @property
    def runs(self) -> bool:
        return self.state in ("started", "restarted")


class Outcome(NamedTuple):
    """What was done, or in check mode would be. ``needs_archive`` asks for the archive and for another call."""

    actions: list[dict[str, str]]
    before: dict[str, Any]
    after: dict[str, Any]
    archive: Installed | None = None
    pid: int | None = None
    restarted: bool = False
    reason: str = ""
    needs_archive: bool = False


class Service:
    """One engine on this host. ``apply`` false only looks."""

    def __init__(
        self,
        settings: Startable,
        manager: Manager,
        ask: Ask,
        apply: bool,
        options: StartOptions | None = None,
        credentials: CredentialsFile | None = None,
    ) -> None:
        self._options = options
        self._credentials = credentials
        self._settings = settings
        self._manager = manager
        self._ask = ask
        self._apply = apply

    def bring(self, request: Request) -> Outcome:
        """Do what ``request`` asks for. Raises ServiceError."""
        found = read(self._settings.layout.archive)
        pid = self._manager.running()
        before = self._shown(found, procfs.command_of(pid) if pid is not None else None, self._manager.describe())
        if request.state == "absent":
            return self._remove(request, before, pid)
        if request.state == "stopped":
            return self._stop(request, before, found, pid)
        return self._provide(request, before, found, pid)

    def _provide(self, request: Request, before: dict[str, Any], found: Installed | None, pid: int | None) -> Outcome:
        wanted = request.wanted or found
        if wanted is None:
            raise ServiceError(
                f"engine archive {self._settings.layout.archive}: there is none, and none was sent along."
            )
        actions = self._take(self._manager.prepare())
        if found != wanted:
            if self._apply:
                return Outcome(actions, before, before, found, pid, needs_archive=True)
            actions.append(installation(found, wanted))
        actions += self._take(self._manager.define())
        actions += self._take(self._admit(before["command"]))
        after = self._shown(wanted, before["command"], self._manager.intended())
        if not request.runs:
            kept = {"enabled": before["enabled"]} if "enabled" in before else {}
            return Outcome(actions, before, {**after, **kept}, wanted, pid)
        actions += self._take(self._manager.keep())
        after["command"] = self._settings.command()
        if self._options is not None:
            before = {**before, "target_options": self._options.shown(pid is not None)}
            after["target_options"] = self._options.wanted
        reason, step = self._run(request, wanted, pid)
        actions += self._take(step)
        new_pid = pid if not step else self._manager.running() if self._apply else None
        return Outcome(actions, before, after, wanted, new_pid, restarted=bool(step) and pid is not None, reason=reason)

    def _admit(self, command: list[str] | None) -> Iterator[Step]:
        """Who may use the management over HTTP; an engine that runs by ``command`` reads it again if it uses it."""
        if self._credentials is None:
            return
        saving = list(self._credentials.saving())
        yield from saving
        if saving and saving[0].action == "write" and self._credentials.path in (command or ()):
            yield Step("reload", "engine", "its credentials changed", self._manager.reload)

    def _run(self, request: Request, wanted: Installed, pid: int | None) -> tuple[str, list[Step]]:
        """Why the engine has to be started or started again, and how; nothing when it runs as wanted."""
        if pid is None:
            reason = "it was not running"
            saving = self._options.saving() if self._options is not None else ()
            return reason, [*saving, Step("start", "engine", reason, self._manager.start)]
        reason = "asked for" if request.state == "restarted" else self._outdated(request, wanted, pid)
        if not reason:
            return "", []
        return reason, [Step("restart", "engine", reason, partial(self._restart, request.force))]

    def _restart(self, force: bool) -> None:
        if self._options is None or not (self._options.outdated() or list(self._options.saving())):
            self._manager.restart(force)
            return
        self._manager.stop(force)
        for step in self._options.saving():  # now: an engine that ends may save once more
            step.do()
        self._manager.start()

    def _outdated(self, request: Request, wanted: Installed, pid: int) -> str:
        """Why the running engine is not the wanted one; empty when it is."""
        command = procfs.command_of(pid)
        if command is not None and command != self._settings.command():
            return "its options changed"
        owner, user = self._manager.owner, procfs.user_of(pid)
        if owner is not None and user is not None and user != owner:
            return f"it runs as {user}, and shall run as {owner}"
        info = wait_ready(self._ask, request.timeout, lambda: procfs.start_time(pid) is not None)
        if info is None:
            return f"it did not answer on {self._settings.layout.socket}"
        running = Installed(info.get("version", UNKNOWN), info.get("checksum", UNKNOWN))
        if running.checksum != wanted.checksum:
            return f"the archive's content changed from {running} to {wanted}"
        return self._options.outdated() if self._options is not None else ""

    def _stop(self, request: Request, before: dict[str, Any], found: Installed | None, pid: int | None) -> Outcome:
        actions = self._take(self._manager.release()) + self._take(self._end(request, pid))
        after = {**before, "command": None}
        if "enabled" in before:
            after["enabled"] = False
        return Outcome(actions, before, after, found)

    def _remove(self, request: Request, before: dict[str, Any], pid: int | None) -> Outcome:
        actions = self._take(self._manager.release()) + self._take(self._end(request, pid))
        actions += self._take(self._manager.remove(request.purge))
        return Outcome(actions, before, dict.fromkeys(before))

    def _end(self, request: Request, pid: int | None) -> Iterator[Step]:
        if pid is not None:
            yield Step("stop", "engine", "asked for", partial(self._manager.stop, request.force))

    def _take(self, steps: Iterable[Step]) -> list[dict[str, str]]:
        """Take the steps, or in check mode only list them. A step is taken before the next one is looked for."""
        taken = []
        for step in steps:
            if self._apply:
                step.do()
            taken.append(step.told())
        return taken

    def _shown(
        self, archive: Installed | None, command: list[str] | None, manager: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The service as people see it in a difference; ``command`` is None while it does not run."""
        return {"archive": archive._asdict() if archive else None, "command": command, **manager}


def installation(found: Installed | None, wanted: Installed) -> dict[str, str]:
    """How putting an archive in its place is told."""
    why = "it was missing" if found is None else f"it was {found}"
    return {"action": "install" if found is None else "replace", "object": f"engine archive {wanted}", "why": why}
