# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who listens on a TCP port (proc(5): net/tcp, net/tcp6 and the fd directories)."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from typing import TYPE_CHECKING

from ansible_collections.openlun.iscsi.plugins.module_utils._host.processes import described, opened, pids

if TYPE_CHECKING:
    from collections.abc import Iterator

_LISTEN = "0A"
_LOOKS = 4
_BETWEEN = 0.05
"""Seconds from one look to the next."""


def is_taken(address: str, port: int) -> bool:
    """Whether the kernel refuses to bind because somebody listens. Raises OSError for every other refusal.

    Who is gone a moment later, such as another one who looks, has not taken it.
    """
    for look in range(_LOOKS):
        if look:
            time.sleep(_BETWEEN)
        if not _refuses(address, port):
            return False
    return True


def _refuses(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False


def holder(address: str, port: int, proc: str = "/proc") -> str:
    """Who listens on the port, as words that fit behind "taken by"."""
    inodes = set(_inodes(address, port, proc))
    if not inodes:
        return "somebody who was gone a moment later"
    process = _process(inodes, proc)
    if process is not None:
        return process
    if os.geteuid() != 0:
        return "a process of another user (root sees which: ss -ltnp)"
    return "the kernel or another container, perhaps by a target made with targetcli"


def _inodes(address: str, port: int, proc: str) -> Iterator[str]:
    """Inodes of the listening sockets that keep ``address`` from being bound."""
    for table in ("tcp", "tcp6"):
        try:
            with open(f"{proc}/net/{table}", encoding="ascii") as rows:
                lines = rows.readlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for line in lines:
            fields = line.split()
            host, _colon, number = fields[1].partition(":")
            if fields[3] == _LISTEN and int(number, 16) == port and _collides(_decoded(host), address):
                yield fields[9]


def _collides(listening: str, wanted: str) -> bool:
    wildcards = ("0.0.0.0", "::")
    if listening == wanted or listening == "::":
        return True
    return (":" in listening) == (":" in wanted) and (listening in wildcards or wanted in wildcards)


def _decoded(host: str) -> str:
    """The kernel prints addresses as 32-bit words in the machine's byte order."""
    words = [int(host[offset : offset + 8], 16) for offset in range(0, len(host), 8)]
    packed = struct.pack(f"={len(words)}L", *words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _process(inodes: set[str], proc: str) -> str | None:
    links = {f"socket:[{inode}]" for inode in inodes}
    for pid in pids(proc):
        if any(target in links for _path, target in opened(pid, proc)):
            return described(pid, proc)
    return None
