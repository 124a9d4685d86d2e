# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the engine's files are on a host."""

from __future__ import annotations

import os
import pwd
from typing import Final, NamedTuple

from .errors import ServiceError

ARCHIVE_NAME: Final = "openlun-iscsi.pyz"
MAX_SOCKET_PATH: Final = 107
"""Bytes that fit into sockaddr_un, unix(7), without the closing NUL."""


class Layout(NamedTuple):
    """Paths of one engine. ``home`` is empty where they are spread over the system's directories."""

    home: str
    archive: str
    state_dir: str
    run_dir: str
    log_file: str
    socket: str

    @property
    def pid_file(self) -> str:
        return os.path.join(self.run_dir, "engine.pid")

    @property
    def http_credentials(self) -> str:
        """Who may use the management over HTTP."""
        return os.path.join(self.state_dir, "http-credentials")

    @property
    def directories(self) -> tuple[str, ...]:
        """Every directory that holds files of the engine, parents first."""
        files = (self.archive, self.log_file, self.socket)
        return tuple(sorted({self.state_dir, self.run_dir, *(os.path.dirname(file) for file in files)}))

    @property
    def owned_directories(self) -> tuple[str, ...]:
        """The directories that belong to the engine alone and go with it: not the one of a socket placed elsewhere."""
        if self.home:
            return (self.state_dir, self.home)
        return (self.state_dir, self.run_dir, os.path.dirname(self.log_file), os.path.dirname(self.archive))


def layout(home: str | None, socket: str | None, uid: int, home_of_user: str) -> Layout:
    """The paths for the options ``home`` and ``socket``; those left out follow from who runs the engine.

    Raises ServiceError when the socket's path is too long for the system.
    """
    if home is None and uid != 0:
        home = os.path.join(home_of_user, ".local/share/openlun-iscsi")
    paths = _system() if home is None else _gathered(os.path.normpath(home))
    if socket is not None:
        paths = paths._replace(socket=os.path.normpath(socket))
    check_socket(paths.socket)
    return paths


def user_home(uid: int) -> str:
    """The home directory of the user who runs the module. Raises ServiceError when there is none."""
    try:
        return os.environ.get("HOME") or pwd.getpwuid(uid).pw_dir
    except KeyError:
        raise ServiceError(f"user {uid}: has no home directory. Set the option home.") from None


def _system() -> Layout:
    return Layout(
        home="",
        archive=f"/opt/openlun-iscsi/{ARCHIVE_NAME}",
        state_dir="/var/lib/openlun-iscsi",
        run_dir="/run/openlun-iscsi",
        log_file="/var/log/openlun-iscsi/engine.log",
        socket="/run/openlun-iscsi/rpc.sock",
    )


def _gathered(home: str) -> Layout:
    return Layout(
        home=home,
        archive=os.path.join(home, ARCHIVE_NAME),
        state_dir=os.path.join(home, "state"),
        run_dir=home,
        log_file=os.path.join(home, "engine.log"),
        socket=os.path.join(home, "rpc.sock"),
    )


def check_socket(path: str) -> None:
    if not os.path.isabs(path):
        raise ServiceError(
            f"socket {path}: not an absolute path. Write it from the root, such as /run/openlun-iscsi/rpc.sock."
        )
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        raise ServiceError(
            f"socket {path}: {length} bytes, and a Unix socket's path may have {MAX_SOCKET_PATH}. "
            "Set the option socket, or home, to a shorter path."
        )
