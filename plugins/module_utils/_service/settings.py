# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the engine is to run: the options of the module that its command line is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from .users import USER

if TYPE_CHECKING:
    from .layout import Layout
    from .web import Web


class Startable(Protocol):
    """What a manager needs of an engine's settings."""

    @property
    def layout(self) -> Layout: ...

    def command(self) -> list[str]:
        """The argument vector."""


class Settings(NamedTuple):
    """``cpumask``, ``log_level``, ``drain_seconds`` and ``spin`` (microseconds) are None for the engine's own defaults.

    ``groups`` are supplementary. ``privileged`` is for drivers in user space, which need root. ``http`` is None for no
    management over HTTP.
    """

    layout: Layout
    python: str
    cpumask: str | None = None
    log_level: str | None = None
    groups: tuple[str, ...] = ()
    privileged: bool = False
    drain_seconds: int | None = None
    http: Web | None = None
    spin: int | None = None

    @property
    def user(self) -> str:
        """Who runs the service."""
        return "root" if self.privileged else USER

    def command(self) -> list[str]:
        """The argument vector. Isolated (-I): neither PYTHON* variables nor the working directory change what runs."""
        paths = self.layout
        command = [self.python, "-I", paths.archive, "serve", "-r", paths.socket, "--state-dir", paths.state_dir]
        if self.cpumask is not None:
            command += ["-m", self.cpumask]
        if self.spin is not None:
            command += ["--spin", str(self.spin)]
        if self.log_level is not None:
            command += ["--log-level", self.log_level]
        if self.drain_seconds is not None:
            command += ["--drain-seconds", str(self.drain_seconds)]
        if self.http is not None:
            command += self.http.arguments(paths)
        return command
