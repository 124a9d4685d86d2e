# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that the targets serve, each made when it is first asked for."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

MEBIBYTE: Final = 2**20


class Disk(NamedTuple):
    """``fast``: on tmpfs. ``direct``: served past the page cache."""

    mebibytes: int
    fast: bool = True
    direct: bool = False


DISKS: Final = {
    "memory": Disk(1024),
    "more memory": Disk(256),
    "quiet": Disk(64),
    "limited": Disk(64),
    "warm": Disk(512, fast=False),
    "cold": Disk(512, fast=False, direct=True),
}


class Disks:
    """``with Disks(fast, slow) as disks``: a directory on tmpfs, and one on a file system of a real disk."""

    def __init__(self, fast: Path, slow: Path) -> None:
        self._places = {True: fast, False: slow}
        self._paths: dict[str, Path] = {}

    def __enter__(self) -> Disks:
        return self

    def __exit__(self, *_error: object) -> None:
        for path in self._paths.values():
            path.unlink()

    def path(self, name: str) -> Path:
        if name not in self._paths:
            disk = DISKS[name]
            place = self._places[disk.fast]
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=place, prefix="openlun-bench-", delete=False) as file:
                self._paths[name] = Path(file.name)
                fill(file.fileno(), disk)
        return self._paths[name]


def fill(descriptor: int, disk: Disk) -> None:
    """Bytes that do not compress, on the disk and in the page cache, or not in that."""
    piece = os.urandom(MEBIBYTE)
    for _each in range(disk.mebibytes):
        os.write(descriptor, piece)
    if not disk.fast:
        os.fsync(descriptor)
    if disk.direct:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def file_system(path: Path) -> str:
    """What kind of file system holds an existing path, such as ext4."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _separator, details = line.partition(" - ")
        if mount.split()[2] == wanted:
            return details.split()[0]
    return "unknown"
