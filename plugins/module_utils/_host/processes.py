# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of a host, and what they have open."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHOWN_COMMAND = 120


def pids(proc: str = "/proc") -> Iterator[str]:
    return filter(str.isdecimal, sorted(os.listdir(proc)))


def opened(pid: str, proc: str = "/proc") -> Iterator[tuple[str, str]]:
    """Path in /proc and target of each descriptor; none when the process ended or belongs to somebody else."""
    try:
        descriptors = os.listdir(f"{proc}/{pid}/fd")
    except OSError:
        return
    for descriptor in descriptors:
        path = f"{proc}/{pid}/fd/{descriptor}"
        try:
            yield path, os.readlink(path)
        except OSError:
            continue


def mapped(pid: str, proc: str = "/proc") -> str:
    """What it has mapped into its memory, proc_pid_maps(5); empty when that is not known."""
    try:
        with open(f"{proc}/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
            return maps.read()
    except OSError:
        return ""


def called(pid: str, proc: str = "/proc") -> str:
    """The name of its program, as the kernel has it, of at most 15 characters; empty when it ended."""
    try:
        with open(f"{proc}/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def described(pid: str, proc: str = "/proc") -> str:
    """A process in words: process 812 of root (/usr/sbin/tgtd -f)."""
    try:
        with open(f"{proc}/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            command = " ".join(file.read().replace("\0", " ").split())
        owner = os.stat(f"{proc}/{pid}").st_uid
    except OSError:
        return f"process {pid}"
    try:
        user = pwd.getpwuid(owner).pw_name
    except KeyError:
        user = str(owner)
    shown = command if len(command) <= _SHOWN_COMMAND else f"{command[:_SHOWN_COMMAND]}…"
    return f"process {pid} of {user} ({shown})"
