# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The system user that the service runs as."""

from __future__ import annotations

import grp
import pwd
from functools import partial
from typing import TYPE_CHECKING, Final

from .errors import ServiceError
from .manager import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .manager import Run

USER: Final = "openlun-iscsi"


def create_missing(run: Run, groups: tuple[str, ...], home: str) -> Iterator[Step]:
    """A step that makes the user and its group, if there is none. Raises ServiceError for an unknown group."""
    for group in groups:
        try:
            grp.getgrnam(group)
        except KeyError:
            raise ServiceError(
                f"group {group}: this host has no such group. Create it, or leave it out of groups."
            ) from None
    if not exists():
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", home]
        command += ["--shell", "/usr/sbin/nologin", "--comment", "iSCSI target engine", USER]
        yield Step("create", f"user {USER}", "it was missing", partial(_checked, run, command))


def remove_existing(run: Run) -> Iterator[Step]:
    if exists():
        yield Step("remove", f"user {USER}", "purge", partial(_checked, run, ["userdel", USER]))


def exists() -> bool:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return True


def _checked(run: Run, command: list[str]) -> None:
    done = run(command)
    if done.status:
        raise ServiceError(f"user {USER}: {command[0]} failed: {done.errors.strip() or done.output.strip()}")
