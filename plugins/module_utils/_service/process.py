# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as a plain process with a pid file: for containers, laptops and users without root."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any, Final

from . import procfs
from .errors import ServiceError
from .files import Directory, explained, make_missing, remove_empty, remove_files, remove_tree, write_atomically
from .readiness import wait_ready, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .manager import Ask, Step
    from .settings import Startable

_LOG_LINES: Final = 15
_LOG_TAIL_BYTES: Final = 8192


class ProcessManager:
    """Starts the engine in a session of its own, as the user who asks for it."""

    name = "process"
    owner: str | None = None

    def __init__(self, settings: Startable, ask: Ask, timeout: float, data_directories: Iterable[str] = ()) -> None:
        self._settings = settings
        self._layout = settings.layout
        self._ask = ask
        self._timeout = timeout
        self._data_directories = tuple(data_directories)

    def running(self) -> int | None:
        pid = self._recorded()
        return pid if pid is not None else self._unrecorded()

    def prepare(self) -> Iterator[Step]:
        paths = self._layout
        modes = {paths.state_dir: 0o700}
        yield from make_missing(Directory(path, modes.get(path, 0o755)) for path in paths.directories)
        yield from make_missing(Directory(path, 0o750) for path in self._data_directories)

    def define(self) -> Iterator[Step]:
        return iter(())

    def keep(self) -> Iterator[Step]:
        return iter(())

    def release(self) -> Iterator[Step]:
        return iter(())

    def start(self) -> None:
        paths = self._layout
        with explained(paths.log_file):
            log = os.open(paths.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        begin = os.fstat(log).st_size
        command = self._settings.command()
        try:
            with explained(command[0]):
                child = subprocess.Popen(  # it outlives this process
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
                )
        finally:
            os.close(log)
        try:
            write_atomically(paths.pid_file, f"{child.pid}\n{procfs.start_time(child.pid)}\n", 0o644)
        except ServiceError:
            child.terminate()
            child.wait()
            raise
        info = wait_ready(self._ask, self._timeout, lambda: child.poll() is None)
        if child.poll() is not None:
            self._forget()
            raise ServiceError(f"engine: ended during its start with {_ending(child.returncode)}. {self._words(begin)}")
        child.returncode = 0  # so that Popen does not warn about a child that nobody waits for
        if info is None:
            raise ServiceError(
                f"engine (pid {child.pid}): started, but did not answer on {paths.socket} within {self._timeout:g} s. "
                f"It is left running; a longer timeout gives it more time. {self._words(begin)}"
            )

    def restart(self, force: bool) -> None:
        self.stop(force)
        self.start()

    def reload(self) -> None:
        pid = self.running()
        if pid is not None:
            self._signal(pid, signal.SIGHUP)

    def stop(self, force: bool) -> None:
        pid = self.running()
        if pid is not None:
            self._end(pid, force)
        self._forget()

    def remove(self, purge: bool) -> Iterator[Step]:
        paths = self._layout
        files = [paths.pid_file, paths.socket, f"{paths.socket}.lock", paths.archive]
        if purge:
            files.append(paths.log_file)
            yield from remove_tree(paths.state_dir)
        yield from remove_files(files)
        doomed = frozenset(files) | ({paths.state_dir} if purge else frozenset())
        yield from remove_empty((path for path in paths.owned_directories if path not in doomed), doomed)

    def describe(self) -> Mapping[str, Any]:
        return {}

    def intended(self) -> Mapping[str, Any]:
        return {}

    def _forget(self) -> None:
        with explained(self._layout.pid_file), contextlib.suppress(FileNotFoundError):
            os.unlink(self._layout.pid_file)

    def _recorded(self) -> int | None:
        """The pid in the pid file if it still is the process that was started."""
        try:
            with open(self._layout.pid_file, encoding="ascii") as file:
                pid, started = (int(line) for line in file.read().split())
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise ServiceError(
                f"{self._layout.pid_file}: {error.strerror}. Run the task as the engine's user."
            ) from error
        return pid if procfs.start_time(pid) == started else None

    def _unrecorded(self) -> int | None:
        """An engine of this archive that answers without a pid file, as after an interrupted start."""
        info = self._ask()
        if info is None or self._layout.archive not in (procfs.command_of(info["pid"]) or ()):
            return None
        pid: int = info["pid"]
        return pid

    def _end(self, pid: int, force: bool) -> None:
        started = procfs.start_time(pid)

        def gone() -> bool:
            return procfs.start_time(pid) != started

        self._signal(pid, signal.SIGTERM)
        if wait_until(gone, self._timeout):
            return
        if not force:
            raise ServiceError(
                f"engine (pid {pid}): still runs {self._timeout:g} s after it was told to end. "
                f"See {self._layout.log_file}; set force to kill it."
            )
        self._signal(pid, signal.SIGKILL)
        if not wait_until(gone, self._timeout):
            raise ServiceError(f"engine (pid {pid}): cannot be killed; it waits for a device. See the kernel's log.")

    def _signal(self, pid: int, number: signal.Signals) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise ServiceError(f"engine (pid {pid}): belongs to another user. Become that user to stop it.") from error

    def _words(self, begin: int) -> str:
        """The last lines of the log since ``begin``, as a sentence."""
        path = self._layout.log_file
        with open(path, "rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(begin, end - _LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
        return f"Its last words, from {path}: " + "\n".join(lines) if lines else f"It wrote nothing to {path}."


def _ending(status: int) -> str:
    """How a process ended, from subprocess's return code."""
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
