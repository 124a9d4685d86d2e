# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Persistent reservations that survive a power cut (APTPL): a file for each bdev in the state directory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from pathlib import Path
from typing import Any, Callable, Final

from .scsi.reservations import Reservations

_LOG = logging.getLogger(__name__)

DIRECTORY: Final = "reservations"


class ReservationFiles:
    """``reservations/UUID.json`` in the state directory; ``submit`` runs what blocks in the pool."""

    def __init__(self, state_dir: str, submit: Callable[..., Any]) -> None:
        self._directory = Path(state_dir) / DIRECTORY
        self._submit = submit
        self._turn = asyncio.Lock()

    def load(self, uuid: str) -> dict[str, Any] | None:
        """What was saved last for the bdev of that UUID; a file that makes no sense is told of and left alone."""
        path = self._path(uuid)
        try:
            saved: dict[str, Any] = json.loads(path.read_bytes())
            Reservations().restore(saved)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            _LOG.error("%s: its reservations are not restored: %s", path, error)
            return None
        return saved

    async def save(self, uuid: str, saved: dict[str, Any] | None) -> None:
        """Returns when it is on stable storage; later calls are later there too. Raises OSError."""
        async with self._turn:
            await self._submit(self._write, self._path(uuid), saved)

    def _path(self, uuid: str) -> Path:
        return self._directory / f"{uuid}.json"

    def _write(self, path: Path, saved: dict[str, Any] | None) -> None:
        """The old or the new file is there after a crash at any point."""
        if saved is None:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        else:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            temporary = path.with_suffix(".new")
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(json.dumps(saved).encode())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        _sync(self._directory)
        _sync(self._directory.parent)


def _sync(directory: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
