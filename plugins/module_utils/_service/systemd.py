# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as a systemd service."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from . import users
from .errors import ServiceError
from .files import Directory, make_missing, remove_empty, remove_files, remove_tree, write_atomically
from .manager import Step
from .readiness import wait_ready
from .unit import unit_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .layout import Layout
    from .manager import Ask, Run
    from .settings import Settings

UNIT: Final = "openlun-iscsi.service"
UNIT_FILE: Final = f"/etc/systemd/system/{UNIT}"
_PROPERTIES: Final = ("LoadState", "ActiveState", "MainPID", "UnitFileState", "NeedDaemonReload")
_RUNNING: Final = frozenset({"active", "activating", "reloading"})
_JOURNAL_LINES: Final = "15"


class SystemdUnit:
    """A unit, and what systemd does with it. Needs root. Its text and its files are the business of who inherits."""

    name = "systemd"
    unit = UNIT

    def __init__(self, layout: Layout, ask: Ask, timeout: float, run: Run, unit_file: str) -> None:
        self._layout = layout
        self._ask = ask
        self._timeout = timeout
        self._run = run
        self._unit_file = unit_file

    def running(self) -> int | None:
        shown = self._show()
        return int(shown["MainPID"]) or None if shown["ActiveState"] in _RUNNING else None

    def text(self) -> str:
        """The unit file as it shall be."""
        raise NotImplementedError

    def define(self) -> Iterator[Step]:
        text = self.text()
        if self._unit() != text:
            yield Step(
                "write",
                f"file {self._unit_file}",
                "its content differs",
                partial(write_atomically, self._unit_file, text, 0o644),
            )
            yield self._reload("the unit changed")
        elif self._show()["NeedDaemonReload"] == "yes":
            yield self._reload("a unit on disk is newer")

    def keep(self) -> Iterator[Step]:
        if self._show()["UnitFileState"] != "enabled":
            yield Step("enable", f"unit {self.unit}", "to start at boot", partial(self._systemctl, "enable", self.unit))

    def release(self) -> Iterator[Step]:
        if self._show()["UnitFileState"] == "enabled":
            yield Step(
                "disable", f"unit {self.unit}", "not to start at boot", partial(self._systemctl, "disable", self.unit)
            )

    def start(self) -> None:
        self._bring_up("start")

    def restart(self, force: bool) -> None:
        del force  # systemd kills what does not end in TimeoutStopSec
        self._bring_up("restart")

    def reload(self) -> None:
        self._systemctl("reload", self.unit)

    def stop(self, force: bool) -> None:
        del force
        self._systemctl("stop", self.unit)

    def _undefine(self) -> Iterator[Step]:
        if os.path.exists(self._unit_file):
            yield from remove_files((self._unit_file,))
            yield self._reload("the unit is gone")

    def describe(self) -> Mapping[str, Any]:
        return {"unit": self._unit() or "", "enabled": self._show()["UnitFileState"] == "enabled"}

    def intended(self) -> Mapping[str, Any]:
        return {"unit": self.text(), "enabled": True}

    def _unit(self) -> str | None:
        try:
            with open(self._unit_file, encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def _show(self) -> dict[str, str]:
        """Properties of the unit; one that is not loaded is inactive."""
        done = self._run(["systemctl", "show", self.unit, f"--property={','.join(_PROPERTIES)}"])
        if done.status:
            raise ServiceError(f"{self.unit}: systemctl show failed: {done.errors.strip()}")
        shown = dict(line.split("=", 1) for line in done.output.splitlines() if "=" in line)
        defaults = {"ActiveState": "inactive", "MainPID": "0", "UnitFileState": "", "NeedDaemonReload": "no"}
        return {**defaults, **shown}

    def _reload(self, why: str) -> Step:
        return Step("reload", "units of systemd", why, partial(self._systemctl, "daemon-reload"))

    def _systemctl(self, *words: str) -> None:
        done = self._run(["systemctl", *words])
        if done.status:
            raise ServiceError(
                f"{self.unit}: systemctl {' '.join(words)} failed: {done.errors.strip() or 'no reason given'}"
            )

    def _bring_up(self, verb: str) -> None:
        done = self._run(["systemctl", verb, self.unit])
        if done.status:
            raise ServiceError(f"{self.unit}: did not {verb}. Its last words, from the journal: {self._words()}")
        if wait_ready(self._ask, self._timeout, lambda: self.running() is not None) is None:
            raise ServiceError(
                f"{self.unit}: runs, but does not answer on {self._layout.socket}. "
                f"Its last words, from the journal: {self._words()}"
            )

    def _words(self) -> str:
        done = self._run(
            ["journalctl", f"--unit={self.unit}", f"--lines={_JOURNAL_LINES}", "--output=cat", "--no-pager"]
        )
        return done.output.strip() or "none"


class SystemdManager(SystemdUnit):
    """Defines the unit of the engine that the collection ships, and its user."""

    owner: str | None

    def __init__(
        self,
        settings: Settings,
        ask: Ask,
        timeout: float,
        run: Run,
        data_directories: Iterable[str] = (),
        unit_file: str = UNIT_FILE,
    ) -> None:
        super().__init__(settings.layout, ask, timeout, run, unit_file)
        self._settings = settings
        self.owner = settings.user
        self._data_directories = tuple(data_directories)

    def text(self) -> str:
        return unit_text(self._settings)

    def prepare(self) -> Iterator[Step]:
        paths = self._settings.layout
        if not self._settings.privileged:
            yield from users.create_missing(self._run, self._settings.groups, paths.home or paths.state_dir)
        wanted = [Directory(os.path.dirname(paths.archive), 0o755, self.owner if paths.home else None)]
        if paths.home:  # elsewhere StateDirectory= and RuntimeDirectory= make them
            wanted.append(Directory(paths.state_dir, 0o700, self.owner))
        wanted += [Directory(path, 0o750, self.owner) for path in self._data_directories]
        yield from make_missing(wanted)

    def remove(self, purge: bool) -> Iterator[Step]:
        paths = self._settings.layout
        yield from self._undefine()
        if purge:
            yield from remove_tree(paths.state_dir)
        files = (paths.socket, f"{paths.socket}.lock", paths.archive)
        yield from remove_files(files)
        doomed = frozenset(files) | ({paths.state_dir} if purge else frozenset())
        yield from remove_empty((path for path in paths.owned_directories if path not in doomed), doomed)
        if purge:
            yield from users.remove_existing(self._run)
