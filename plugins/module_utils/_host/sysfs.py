# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files by which a host is read and set: /sys, /proc, /etc, /run. Every path is meant as the host sees it."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator

_ADVICE: Final = {
    errno.EACCES: "Become root: set become.",
    errno.EPERM: "Become root: set become.",
    errno.EROFS: "In a container this is done on the host that runs it.",
    errno.ENOSPC: "Make room on that file system.",
    errno.ENOTDIR: "A part of the path is a file: move it.",
}


class Host:
    """One host. ``root`` is where its file tree begins; something else than / is a tree for tests."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    def path(self, path: str) -> str:
        """Where ``path`` of the host is for this process."""
        return os.path.join(self.root, path.lstrip("/"))

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.path(path))

    def names(self, directory: str) -> list[str]:
        """The sorted entries of a directory; none when it is missing or not one."""
        try:
            return sorted(os.listdir(self.path(directory)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, path: str) -> str:
        """A file as text, whatever its bytes are; empty when it is missing. Raises HostError."""
        with explained(path):
            try:
                with open(self.path(path), encoding="utf-8", errors="surrogateescape") as file:
                    return file.read()
            except FileNotFoundError:
                return ""

    def number(self, path: str) -> int:
        """The number in a file of the kernel; 0 when it is missing. Raises HostError."""
        return int(self.read(path).strip() or 0)

    def tell(self, path: str, text: str) -> None:
        """Write to a file of the kernel, which must be there. Raises OSError: the kernel's answer has a meaning."""
        descriptor = os.open(self.path(path), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def save(self, path: str, text: str, mode: int = 0o644) -> None:
        """Replace a file of the administrator's: a reader sees the old text or the new one. Raises HostError."""
        place = self.path(path)
        unfinished = f"{place}.new"
        with explained(path):
            os.makedirs(os.path.dirname(place), exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                with open(os.open(unfinished, flags, mode), "w", encoding="utf-8", errors="surrogateescape") as file:
                    os.fchmod(file.fileno(), mode)
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(unfinished, place)
            except BaseException:
                # It may hold a secret, and where it is every file may count.
                with contextlib.suppress(OSError):
                    os.unlink(unfinished)
                raise

    def remove(self, path: str) -> None:
        """Remove a file or a link that may be gone already. Raises HostError."""
        with explained(path), contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(path))


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn an OSError into a HostError that names the path and the next step."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise HostError(f"{path}: {reason}. {_ADVICE.get(error.errno or 0, '')}".rstrip()) from error
