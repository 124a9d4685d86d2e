# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a worker process is started: with the code of the main process, whatever an upgrade put in its place."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

_NOT_FOR_WORKERS: Final = frozenset({"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID"})
"""The service manager speaks with the main process."""
_PACKAGE: Final = __name__.rpartition(".cores.")[0]


class Launcher:
    """Made when the engine starts: it keeps the archive open that the engine was started from."""

    def __init__(self, spin_microseconds: int | None) -> None:
        self._options = [] if spin_microseconds is None else ["--spin", str(spin_microseconds)]
        archive = getattr(globals().get("__loader__"), "archive", None)
        self._archive = os.open(archive, os.O_RDONLY | os.O_CLOEXEC) if archive else None

    def launch(self) -> tuple[subprocess.Popen[Any], socket.socket]:
        """A new worker, and our end of the socket pair to it. Raises OSError.

        To be called in the main thread: the worker is killed when the thread ends that started it.

        It has a session of its own, so that what is typed at a terminal reaches the main process first.
        """
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_WORKERS}
        kept = [its.fileno()]
        if self._archive is not None:
            isolated = ["-I"] if sys.flags.isolated else []
            program = [*isolated, f"/proc/self/fd/{self._archive}"]
            kept.append(self._archive)
        else:
            program = ["-m", f"{_PACKAGE}.main"]
            root = Path(os.path.abspath(__file__)).parents[_PACKAGE.count(".") + 2]  # links are part of the name
            before = environment.get("PYTHONPATH")
            environment["PYTHONPATH"] = f"{root}{os.pathsep}{before}" if before else str(root)
        try:
            process = subprocess.Popen(
                [sys.executable, *program, "worker", "--fd", str(its.fileno()), *self._options],
                stdin=subprocess.DEVNULL,
                pass_fds=kept,
                env=environment,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            its.close()
        return process, ours

    def close(self) -> None:
        if self._archive is not None:
            os.close(self._archive)
            self._archive = None
