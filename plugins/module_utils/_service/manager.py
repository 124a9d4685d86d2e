# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every service manager can do, and which one a host gets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYSTEMD_RUNS: Final = "/run/systemd/system"
"""sd_booted(3): this directory exists exactly where systemd is the init."""


class Completed(NamedTuple):
    """How a command ended."""

    status: int
    output: str
    errors: str


Run = Callable[["list[str]"], Completed]
"""Runs a command to its end; never raises for a status other than 0."""

Ask = Callable[[], "Mapping[str, Any] | None"]
"""The running engine's own description (engine_get_info), or None when nobody answers."""


class Step(NamedTuple):
    """One thing to do: how it reads, and how it is done."""

    action: str
    object: str
    why: str
    do: Callable[[], None]

    def told(self) -> dict[str, str]:
        """For the module's result."""
        return {"action": self.action, "object": self.object, "why": self.why}


class Manager(Protocol):
    """Runs one engine. Methods that yield steps only look; the steps change. All raise ServiceError."""

    name: str
    owner: str | None
    """The user who runs the engine, None for the one who runs this."""

    def running(self) -> int | None:
        """The engine's pid."""

    def prepare(self) -> Iterator[Step]:
        """What the service needs before the archive can be put in its place."""

    def define(self) -> Iterator[Step]:
        """What makes the service known to the host."""

    def keep(self) -> Iterator[Step]:
        """What makes the service come back after a reboot."""

    def release(self) -> Iterator[Step]:
        """The opposite of keep."""

    def start(self) -> None:
        """Start the engine and return when it answers."""

    def restart(self, force: bool) -> None:
        """End the running engine and start it again."""

    def reload(self) -> None:
        """Let the running engine read its credentials again."""

    def stop(self, force: bool) -> None:
        """End the running engine cleanly; ``force`` allows killing one that does not end."""

    def remove(self, purge: bool) -> Iterator[Step]:
        """The opposite of prepare and define."""

    def describe(self) -> Mapping[str, Any]:
        """What is on the host now, for the difference shown to people."""

    def intended(self) -> Mapping[str, Any]:
        """What describe says once the service is defined."""


def choose(option: str, uid: int, marker: str = SYSTEMD_RUNS) -> str:
    """The manager for the option ``manager``: systemd where it is the init and the user may define services."""
    if option != "auto":
        return option
    return "systemd" if uid == 0 and os.path.isdir(marker) else "process"
