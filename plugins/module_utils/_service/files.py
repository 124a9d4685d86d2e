# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories and files that a service needs, as steps; OS errors become sentences."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from .errors import ServiceError
from .manager import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Directory(NamedTuple):
    """A directory with its access; ``owner`` is a user's name, or None for whoever makes it."""

    path: str
    mode: int = 0o755
    owner: str | None = None


_ADVICE: Final = {
    errno.ENOSPC: "Make room on that file system, or choose another place.",
    errno.EDQUOT: "Raise the quota, or choose another place.",
    errno.EACCES: "Become a user who may, or choose another place.",
    errno.EPERM: "Become a user who may, or choose another place.",
    errno.EROFS: "Choose a place on a writable file system.",
    errno.ENOTDIR: "A part of the path is a file: choose another place.",
    errno.EEXIST: "A file of that name is in the way: move it, or choose another place.",
}


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn an OSError into a ServiceError that names the path and the next step."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ServiceError(f"{path}: {reason}. {_ADVICE.get(error.errno or 0, '')}".rstrip()) from error


def make_missing(directories: Iterable[Directory]) -> Iterator[Step]:
    """Steps for the directories that are not there; the others stay as they are."""
    for directory in directories:
        if not os.path.isdir(directory.path):
            yield Step("create", f"directory {directory.path}", "it was missing", partial(_make, directory))


def ensure(directory: Directory) -> None:
    """Make it unless it is there. Raises ServiceError."""
    if not os.path.isdir(directory.path):
        _make(directory)


def _make(directory: Directory) -> None:
    with explained(directory.path):
        os.makedirs(directory.path, exist_ok=True)
        os.chmod(directory.path, directory.mode)
        if directory.owner is not None:
            user = pwd.getpwnam(directory.owner)
            os.chown(directory.path, user.pw_uid, user.pw_gid)


def remove_files(paths: Iterable[str]) -> Iterator[Step]:
    """Steps for the files and sockets that are there."""
    for path in paths:
        if os.path.lexists(path):
            yield Step("remove", f"file {path}", "the engine goes", partial(_unlink, path))


def _unlink(path: str) -> None:
    with explained(path), contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def remove_tree(path: str) -> Iterator[Step]:
    """A step for a directory with everything in it."""
    if os.path.isdir(path):
        yield Step("remove", f"directory {path}", "purge", partial(_rmtree, path))


def _rmtree(path: str) -> None:
    with explained(path):
        shutil.rmtree(path)


def remove_empty(directories: Iterable[str], doomed: frozenset[str]) -> Iterator[Step]:
    """Steps for the directories that hold nothing but what is ``doomed``, children first; others are kept."""
    gone = set(doomed)
    for path in directories:
        with contextlib.suppress(OSError):
            if all(os.path.join(path, name) in gone for name in os.listdir(path)):
                gone.add(path)
                yield Step("remove", f"directory {path}", "it is empty", partial(_rmdir, path))


def _rmdir(path: str) -> None:
    # Something may have been put there since the plan: then the directory is somebody's, and stays.
    with explained(path), contextlib.suppress(FileNotFoundError):
        try:
            os.rmdir(path)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise


def write_atomically(path: str, text: str, mode: int, owner: str | None = None) -> None:
    """Replace a file: a reader sees the old text or the new one. ``owner`` is a user's name. Raises ServiceError."""
    unfinished = f"{path}.new"
    with explained(path):
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with open(descriptor, "w", encoding="utf-8") as file:
            if owner is not None:
                user = pwd.getpwnam(owner)
                os.fchown(file.fileno(), user.pw_uid, user.pw_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
