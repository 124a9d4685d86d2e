# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SPDK's target as a systemd service and as a process: the managers of the other engine with SPDK's files."""

from __future__ import annotations

import grp
import os
from functools import partial
from typing import TYPE_CHECKING, Final

from . import procfs
from .errors import ServiceError
from .files import Directory, ensure, make_missing, remove_empty, remove_files, remove_tree, write_atomically
from .manager import Step
from .process import ProcessManager
from .spdk_unit import spdk_unit_text
from .systemd import SystemdUnit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .layout import Layout
    from .manager import Ask, Run
    from .spdk import SpdkSettings

UNIT: Final = "openlun-iscsi-spdk.service"
_EMPTY: Final = '{"subsystems": []}\n'
"""What iscsi_tgt can start with: -c with a file that is missing ends it."""


class SpdkSystemdManager(SystemdUnit):
    """The unit runs as root, who alone may use hugepages and devices everywhere; ``group`` may use the RPC socket."""

    owner: str | None = None
    unit = UNIT

    def __init__(
        self,
        settings: SpdkSettings,
        ask: Ask,
        timeout: float,
        run: Run,
        data_directories: Iterable[str] = (),
        unit_file: str = f"/etc/systemd/system/{UNIT}",
    ) -> None:
        super().__init__(settings.layout, ask, timeout, run, unit_file)
        self._spdk = settings
        self._data_directories = tuple(data_directories)

    def text(self) -> str:
        return spdk_unit_text(self._spdk)

    def prepare(self) -> Iterator[Step]:
        if self._spdk.group is not None:
            _check_group(self._spdk.group)
        yield from _prepare(self._spdk, self._data_directories)

    def remove(self, purge: bool) -> Iterator[Step]:
        yield from self._undefine()
        yield from _remove(self._spdk.layout, purge)


class SpdkProcessManager(ProcessManager):
    """A process of the user who asks for it."""

    def __init__(self, settings: SpdkSettings, ask: Ask, timeout: float, data_directories: Iterable[str] = ()) -> None:
        super().__init__(settings, ask, timeout, data_directories)
        self._spdk = settings

    def prepare(self) -> Iterator[Step]:
        paths = self._layout
        wanted = (paths.run_dir, os.path.dirname(paths.log_file), os.path.dirname(paths.socket))
        yield from make_missing(Directory(path) for path in dict.fromkeys(wanted))
        yield from _prepare(self._spdk, self._data_directories)

    def remove(self, purge: bool) -> Iterator[Step]:
        yield from _remove(self._layout, purge)

    def _unrecorded(self) -> int | None:
        """One of this program that answers without a pid file, as after an interrupted start."""
        info = self._ask()
        if info is None or self._spdk.program not in (procfs.command_of(info["pid"]) or ()):
            return None
        pid: int = info["pid"]
        return pid


def _prepare(settings: SpdkSettings, data_directories: Iterable[str]) -> Iterator[Step]:
    state = Directory(settings.layout.state_dir, 0o700)
    yield from make_missing([state, *(Directory(path, 0o750) for path in data_directories)])
    if not os.path.lexists(settings.config):
        yield Step("write", f"file {settings.config}", "it was missing", partial(_write_empty, state, settings.config))


def _write_empty(state: Directory, path: str) -> None:
    ensure(state)
    write_atomically(path, _EMPTY, 0o600)


def _remove(paths: Layout, purge: bool) -> Iterator[Step]:
    files = [paths.pid_file, paths.socket, f"{paths.socket}.lock"]
    if purge:
        files.append(paths.log_file)
        yield from remove_tree(paths.state_dir)
    yield from remove_files(files)
    doomed = frozenset(files) | ({paths.state_dir} if purge else frozenset())
    directories = [paths.home, os.path.dirname(paths.home)] if paths.home else [paths.run_dir]
    if not paths.home:
        directories.append(os.path.dirname(paths.log_file))
    yield from remove_empty(directories, doomed)


def _check_group(group: str) -> None:
    try:
        grp.getgrnam(group)
    except KeyError:
        raise ServiceError(f"group {group}: this host has no such group. Create it, or leave group out.") from None
