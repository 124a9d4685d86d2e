# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host can serve what is declared for it; looks only. Every problem is one sentence with a next step."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, Callable

from ansible_collections.openlun.iscsi.plugins.module_utils._host.addresses import host_addresses, is_local
from ansible_collections.openlun.iscsi.plugins.module_utils._host.listeners import holder, is_taken
from ansible_collections.openlun.iscsi.plugins.module_utils._state.portals import Portal, parse_portal
from ansible_collections.openlun.iscsi.plugins.module_utils._state.sizes import parse_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_ROUNDING = 1 << 20
"""Bytes: file systems keep a little for themselves."""


def declared_portals(portal_groups: Iterable[Mapping[str, Any]]) -> list[Portal]:
    """The portals of all groups that shall be there; those that are none are left to the module that makes them."""
    found = []
    for group in _present(portal_groups):
        for text in group.get("portals") or ():
            try:
                found.append(parse_portal(text))
            except ValueError:
                continue
    return found


def declared_directories(bdevs: Iterable[Mapping[str, Any]]) -> list[str]:
    """The directories of all files that shall be served."""
    return sorted({os.path.dirname(path) for path in _files(bdevs)})


def portal_problems(
    portals: Iterable[Portal], served: Iterable[Portal], taken_by: Callable[[str, int], str] = holder
) -> Iterator[str]:
    """Portals whose address this host lacks or whose port is taken; ``served`` ones are the engine's own."""
    mine = list(served)
    for portal in portals:
        host = portal.host.strip("[]")
        if not is_local(host):
            has = ", ".join(str(address) for address in host_addresses())
            yield f"portal {portal}: this host has no such address. It has {has}."
        elif not any(portal.overlaps(other) for other in mine):
            yield from _port_problem(portal, host, taken_by)


def _port_problem(portal: Portal, host: str, taken_by: Callable[[str, int], str]) -> Iterator[str]:
    try:
        if is_taken(host, portal.port):
            yield (
                f"portal {portal}: the port is taken by {taken_by(host, portal.port)}. "
                "Stop that, or give the portal another port."
            )
    except OSError as error:
        advice = " Ports below 1024 are for root: set become." if error.errno == errno.EACCES else ""
        yield f"portal {portal}: cannot be used ({error.strerror}).{advice}"


def file_problems(bdevs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """File systems that lack the room for the files that would be made or grown."""
    wanted: dict[int, list[tuple[str, int]]] = {}
    places: dict[int, str] = {}
    for path, size in _files(bdevs).items():
        directory = _existing(os.path.dirname(path))
        device = os.stat(directory).st_dev
        places[device] = directory
        wanted.setdefault(device, []).append((path, max(0, size - _allocated(path))))
    for device, files in wanted.items():
        free = os.statvfs(places[device])
        room = free.f_bavail * free.f_frsize
        needs = sum(size for _path, size in files)
        if needs and needs + _ROUNDING > room:
            names = ", ".join(path for path, size in files if size)
            yield (
                f"{names}: needs {_readable(needs)}, and the file system has {_readable(room)} free. "
                "Make room, choose another directory, or set sparse."
            )


def _files(bdevs: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Paths of files, not devices, with the bytes that are to be preallocated for them."""
    found = {}
    for bdev in _present(bdevs):
        path = bdev.get("path")
        if not path or not os.path.isabs(path) or path.startswith("/dev/"):
            continue
        try:
            size = 0 if bdev.get("sparse") or not bdev.get("size") else parse_size(str(bdev["size"]))
        except ValueError:
            size = 0  # the module that makes the bdev says what is wrong
        found[os.path.normpath(path)] = size
    return found


def _present(entries: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    return (entry for entry in entries if entry.get("state", "present") == "present")


def _existing(directory: str) -> str:
    """The directory itself, or the nearest one above it that is there."""
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    return directory


def _allocated(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _readable(size: int) -> str:
    """In MiB or GiB, for people."""
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size >> 20} MiB"
