# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process around the engine: processor cores, limits, pid file, logging."""

from __future__ import annotations

import ctypes
import errno
import gc
import logging
import os
import re
import resource
import signal
import sys
from pathlib import Path
from typing import Final

from .errors import EngineError, Invalid

_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_PR_SET_NAME: Final = 15
_GC_FIRST_GENERATION: Final = 50_000
"""The data path makes no cycles; the collector has little to find and should look rarely."""
_KEPT_MEMORY: Final = 64 * 1024 * 1024

NOTICE: Final = 25
LEVELS: Final = {
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "NOTICE": NOTICE,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
}
"""SPDK's names of log levels."""
_SYSLOG_PRIORITY: Final = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, NOTICE: 5, logging.INFO: 6}
_CORE_RANGE: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


def parse_cpumask(text: str) -> set[int]:
    """Cores of SPDK's ``-m``: a hexadecimal mask (``0xF``, ``F``) or a list (``[0,2-4]``). Raises Invalid."""
    text = text.strip()
    cores: set[int] = set()
    try:
        if text.startswith("["):
            if not text.endswith("]"):
                raise ValueError
            for part in text[1:-1].split(","):
                found = _CORE_RANGE.fullmatch(part.strip())
                if found is None:
                    raise ValueError
                first = int(found.group(1))
                cores.update(range(first, int(found.group(2) or first) + 1))
        else:
            mask = int(text, 16)
            cores = {core for core in range(mask.bit_length()) if mask >> core & 1} if mask > 0 else set()
    except ValueError:
        cores = set()
    if not cores:
        raise Invalid(f"CPU mask {text!r}: a mask such as 0xF or a list such as [0,2-4] with a core in it is wanted")
    return cores


def pin(cores: set[int]) -> None:
    """Run on these cores only. Raises Invalid when the machine or the control group lacks one of them."""
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cores)
    except (OSError, OverflowError, ValueError):
        raise Invalid(_no_cores(cores, cores, allowed)) from None
    missing = cores - os.sched_getaffinity(0)
    if missing:
        raise Invalid(_no_cores(cores, missing, allowed))


def _no_cores(cores: set[int], missing: set[int], allowed: set[int]) -> str:
    wanted, lacking, there = (",".join(map(str, sorted(each))) for each in (cores, missing, allowed))
    return f"CPU mask for cores {wanted}: core {lacking} is not available here. This process may use {there}."


def cpumask() -> str:
    """The cores in use as SPDK prints them: hexadecimal without 0x."""
    return f"{sum(1 << core for core in os.sched_getaffinity(0)):x}"


def raise_file_limit() -> None:
    """As many open files as the hard limit allows: a connection is one."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def keep_freed_memory() -> None:
    """Let malloc keep what large transfers free, so that the next one finds its pages there without faulting them in.

    glibc gives blocks of 128 KiB back to the kernel by default; with this a 256 KiB READ of a file costs half.
    Elsewhere than on glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_MEMORY)
        mallopt(_M_MMAP_THRESHOLD, _KEPT_MEMORY // 2)


def end_starting() -> None:
    """What there is now stays: the collector looks at it no more, and malloc gives back what starting left between."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_FIRST_GENERATION, 20, 50)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def name_process(name: str) -> None:
    """The name of this process in lists of processes: up to 15 bytes (prctl(2), PR_SET_NAME)."""
    _prctl(_PR_SET_NAME, name.encode()[:15])


def die_with_parent() -> None:
    """Be killed when the thread ends that started this process, even while nothing here can be carried out."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def _prctl(option: int, value: int | bytes) -> None:
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(option, value, 0, 0, 0)


class PidFile:
    """Holds this process's number while it runs."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._written = False

    def write(self) -> None:
        """Raises EngineError."""
        temporary = self._path.with_name(self._path.name + ".new")
        try:
            temporary.write_text(f"{os.getpid()}\n", encoding="ascii")
            temporary.replace(self._path)
            self._written = True
        except OSError as error:
            raise EngineError.from_os(error, f"pid file {self._path}") from error

    def remove(self) -> None:
        """Only what :meth:`write` made: before that, the file may be another process's."""
        if self._written:
            self._path.unlink(missing_ok=True)


class Logs:
    """Where log lines go and which of them: standard error, by level and by SPDK's flags (parts of the engine)."""

    FLAGS: Final = ("bdev", "iscsi", "persistence", "rpc", "scsi")

    def __init__(self) -> None:
        self._root = logging.getLogger(__package__)
        self._flags = dict.fromkeys(self.FLAGS, False)

    def open(self, level: str, who: str = "") -> None:
        """``level`` is a level's name, or ``@`` and a file that has one; ``who`` is named in each line.

        Raises EngineError.
        """
        logging.addLevelName(NOTICE, "NOTICE")
        handler = logging.StreamHandler(sys.stderr)
        prefix = f"{who}: " if who else ""
        handler.setFormatter(_JournalFormatter(prefix) if _stderr_is_journal() else _TerminalFormatter(prefix))
        for target in (self._root, logging.getLogger("asyncio")):
            target.handlers = [handler]
            target.propagate = False
        self.level = _level_of(level)

    def reload(self, level: str) -> None:
        """The level as :meth:`open` takes it, again; what cannot be read leaves it as it is."""
        try:
            self.level = _level_of(level)
        except EngineError as error:
            self._root.error("the log level stays %s: %s", self.level, error)

    @property
    def level(self) -> str:
        return next(name for name, number in LEVELS.items() if number == self._root.level)

    @level.setter
    def level(self, name: str) -> None:
        self._root.setLevel(LEVELS[name])

    @property
    def flags(self) -> dict[str, bool]:
        return dict(self._flags)

    def set_flag(self, name: str, value: bool) -> None:
        """Show, or stop showing, everything that one part of the engine logs. ``all`` is every part. Raises Invalid."""
        if name != "all" and name not in self._flags:
            raise Invalid(f"log flag {name!r}; there are: all, {', '.join(self._flags)}")
        for flag in self._flags if name == "all" else (name,):
            self._flags[flag] = value
            self._root.getChild(flag).setLevel(logging.DEBUG if value else logging.NOTSET)


def _level_of(text: str) -> str:
    if not text.startswith("@"):
        return text
    try:
        name = Path(text[1:]).read_text(encoding="utf-8").strip().upper()
    except (OSError, ValueError) as error:
        wrapped = error if isinstance(error, OSError) else OSError(errno.EINVAL, "not UTF-8")
        raise EngineError.from_os(wrapped, f"log level file {text[1:]}") from error
    if name not in LEVELS:
        raise Invalid(f"log level file {text[1:]}: {name[:80]!r} is none of {', '.join(LEVELS)}")
    return name


def _stderr_is_journal() -> bool:
    """systemd.exec(5): JOURNAL_STREAM names the device and inode of the journal's end of standard error."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _TerminalFormatter(logging.Formatter):
    def __init__(self, prefix: str) -> None:
        words = f"%(asctime)s.%(msecs)03d %(levelname)s {prefix}%(name)s: %(message)s"
        super().__init__(words, "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        record.name = record.name.rpartition("_engine.")[2]
        return super().format(record)


class _JournalFormatter(logging.Formatter):
    """sd-daemon(3): a priority in angle brackets begins every line; the journal adds the time."""

    def __init__(self, prefix: str) -> None:
        super().__init__(f"{prefix}%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_SYSLOG_PRIORITY.get(record.levelno, 7)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())
