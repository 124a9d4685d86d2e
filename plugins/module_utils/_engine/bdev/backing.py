# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file or kernel block device behind an aio bdev: made, sized, inspected, removed."""

from __future__ import annotations

import errno
import os
import stat
import struct
from fcntl import ioctl
from pathlib import Path
from typing import Callable, Final, NamedTuple

from ..errors import EngineError, Exists, Invalid, Unsupported

_BLKSSZGET: Final = 0x1268  # linux/fs.h: logical sector size
_MEMORY_FILESYSTEMS: Final = frozenset({b"tmpfs", b"ramfs", b"devtmpfs"})
_FILE_BLOCK_SIZE: Final = 512


class Backing(NamedTuple):
    """An open backing store: ``fd`` belongs to the holder, ``size`` is in bytes."""

    fd: int
    size: int
    block_size: int
    """The store's own: a kernel device's logical sector, 512 for a file."""
    in_memory: bool
    """Reads and writes cannot block on a disk: the file is on tmpfs."""


def open_backing(
    name: str,
    filename: str,
    readonly: bool,
    size: int | None,
    sparse: bool,
    suit: Callable[[Backing], None] | None = None,
    opened: int | None = None,
) -> Backing:
    """Open ``filename`` for bdev ``name``; with ``size`` (bytes) make a missing file or grow a smaller one.

    ``suit`` raises EngineError for what the bdev cannot be made of. ``opened`` is a descriptor of the store, which
    stays the caller's: that store is opened once more, whatever has its name now.

    A new file is private to its owner. Unless ``sparse``, its space is taken now, so that a full disk shows here and
    not under a later WRITE; what could not be made whole is taken back. Raises EngineError, whose errno is the
    operating system's.
    """
    what = f"bdev {name}: {filename}"
    flags = (os.O_RDONLY if readonly else os.O_RDWR) | os.O_CLOEXEC
    created = False
    try:
        try:
            fd = os.open(filename if opened is None else f"/proc/self/fd/{opened}", flags)
        except FileNotFoundError:
            if size is None or readonly or opened is not None:
                raise
            fd = os.open(filename, flags | os.O_CREAT | os.O_EXCL, 0o600)
            created = True
    except OSError as error:
        raise EngineError.from_os(error, what) from error
    try:
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise Invalid(f"{what} is neither a file nor a block device")
        if size is not None:
            _reach_size(fd, what, size, sparse, stat.S_ISBLK(mode), readonly)
        if created:
            _keep_entry(filename, what)
        backing = Backing(fd, os.lseek(fd, 0, os.SEEK_END), _sector_size(fd, mode), _is_in_memory(fd, mode))
        if suit is not None:
            suit(backing)
        return backing
    except BaseException:
        os.close(fd)
        if created:
            Path(filename).unlink()
        raise


def grow(fd: int, what: str, old: int, new: int, sparse: bool) -> None:
    """Grow a file from ``old`` to ``new`` bytes, or leave it as it was and raise EngineError."""
    try:
        if sparse:
            os.ftruncate(fd, new)
        elif _fits(fd, new - old):
            os.posix_fallocate(fd, old, new - old)
        else:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        os.ftruncate(fd, old)
        free = os.fstatvfs(fd)
        raise EngineError.from_os(
            error, f"{what}: cannot reserve {new - old} bytes ({free.f_bavail * free.f_frsize} are free)"
        ) from error


def _fits(fd: int, more: int) -> bool:
    """Whether it is worth trying: reserving what is not there takes all that is, from everybody, before it fails."""
    system = os.fstatvfs(fd)
    free = system.f_bavail if os.geteuid() else system.f_bfree
    return not system.f_blocks or more <= free * system.f_frsize


def remove_file(name: str, filename: str) -> None:
    """Delete the file behind bdev ``name``. Raises EngineError; a kernel block device is never touched."""
    what = f"bdev {name}: {filename}"
    try:
        if not Path(filename).is_file() and Path(filename).exists():
            raise Unsupported(f"{what} is not a file, so it is not removed")
        Path(filename).unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise EngineError.from_os(error, what) from error


def _keep_entry(filename: str, what: str) -> None:
    """A new file has to be found after a power cut, else what is flushed into it is lost all the same (fsync(2))."""
    try:
        fd = os.open(Path(filename).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise EngineError.from_os(error, what) from error


def _reach_size(fd: int, what: str, size: int, sparse: bool, is_device: bool, readonly: bool) -> None:
    current = os.lseek(fd, 0, os.SEEK_END)
    if current == size:
        return
    if is_device:
        raise Invalid(f"{what} is a block device of {current} bytes; a size of {size} cannot be given to it")
    if current > size:
        wrapped = Exists(f"{what} has {current} bytes, more than the {size} asked for; files are never shrunk")
        wrapped.errno = errno.EFBIG
        raise wrapped
    if readonly:
        raise Invalid(f"{what} has {current} bytes and is read-only, so it cannot grow to {size}")
    grow(fd, what, current, size, sparse)


def _sector_size(fd: int, mode: int) -> int:
    if not stat.S_ISBLK(mode):
        return _FILE_BLOCK_SIZE
    return int(struct.unpack("i", ioctl(fd, _BLKSSZGET, b"\0" * 4))[0])


def _is_in_memory(fd: int, mode: int) -> bool:
    if not stat.S_ISREG(mode):
        return False
    device = os.fstat(fd).st_dev
    wanted = b"%d:%d" % (os.major(device), os.minor(device))
    try:
        with Path("/proc/self/mountinfo").open("rb") as mounts:
            for line in mounts:
                fields = line.split()
                if fields[2] == wanted:
                    return fields[fields.index(b"-") + 1] in _MEMORY_FILESYSTEMS
    except (OSError, ValueError, IndexError):
        pass
    return False
