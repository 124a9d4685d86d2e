# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes as proc(5) shows them. Every answer may be outdated as soon as it is given."""

from __future__ import annotations

import os
import pwd
from typing import Final

PROC: Final = "/proc"


def start_time(pid: int, proc: str = PROC) -> int | None:
    """Clock ticks from boot to the start of the process; None when it is gone or only waits to be reaped.

    With the pid it names one process for good: a recycled pid has another start time.
    """
    try:
        with open(f"{proc}/{pid}/stat", encoding="utf-8", errors="surrogateescape") as stat:
            # The name, in parentheses, may hold anything: count behind its end (proc(5): state is 3, starttime 22).
            fields = stat.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def command_of(pid: int, proc: str = PROC) -> list[str] | None:
    """The argument vector of a process, or None when it is gone or may not be seen."""
    try:
        with open(f"{proc}/{pid}/cmdline", encoding="utf-8", errors="surrogateescape") as cmdline:
            return cmdline.read().rstrip("\0").split("\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def user_of(pid: int, proc: str = PROC) -> str | None:
    """The user a process runs as; None when it is gone, or of a user without a name."""
    try:
        return pwd.getpwuid(os.stat(f"{proc}/{pid}").st_uid).pw_name
    except (FileNotFoundError, ProcessLookupError, KeyError):
        return None
