# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses a disk: what would lose its storage if the disk went."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from . import disks
from .fstab import plain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from .._host.sysfs import Host

_MOUNTS: Final = "/proc/self/mountinfo"
_SWAPS: Final = "/proc/swaps"
_LOOKERS: Final = frozenset(("multipathd", "udevadm", "systemd-udevd", "(udev-worker)", "blkid", "smartd", "udisksd"))
"""Programs that open disks to look at them. They let go when the disk does."""


def users(host: Host, disk: str, leaving: Collection[str]) -> list[str]:
    """Sentences without their end, each of a use; none when it may go.

    ``leaving`` are the disks that go with it: a multipath map that keeps another path keeps its users.
    """
    return list(dict.fromkeys([*_kernel(host, disk, leaving), *_processes(host, disk)]))


def _kernel(host: Host, device: str, leaving: Collection[str]) -> Iterator[str]:
    for each in [device, *disks.partitions(host, device)]:
        yield from _direct(host, each)
        for holder in disks.holders(host, each):
            transparent = _is_path_layer(host, holder)
            if transparent and not set(disks.slaves(host, holder)) <= set(leaving):
                continue
            if not transparent:
                yield f"/dev/{each} is held by {_called(host, holder)}"
            yield from _kernel(host, holder, {*leaving, holder})


def _is_path_layer(host: Host, device: str) -> bool:
    """A multipath map or a partition of one: by itself no use."""
    uuid = host.read(f"/sys/block/{device}/dm/uuid")
    return uuid.startswith("mpath-") or bool(re.match(r"part\d+-mpath-", uuid))


def _called(host: Host, device: str) -> str:
    name = disks.map_name(host, device)
    return f"/dev/mapper/{name}" if name != device else f"/dev/{device}"


def _direct(host: Host, device: str) -> Iterator[str]:
    number = host.read(f"{disks.sysfs(host, device)}/dev").strip()
    name = _called(host, device)
    for line in host.read(_MOUNTS).splitlines():
        left, _dash, right = line.partition(" - ")
        fields, source = left.split(), right.split()
        same = len(fields) > 4 and (fields[2] == number or (len(source) > 1 and _leads_to(host, source[1], device)))
        if same:
            yield f"{name} is mounted at {plain(fields[4])}"
    for line in host.read(_SWAPS).splitlines()[1:]:
        if _leads_to(host, line.split()[0], device):
            yield f"{name} is swap"


def _leads_to(host: Host, path: str, device: str) -> bool:
    """Whether a path of a mount table means the device; file systems of several disks have a number of their own."""
    if not path.startswith("/dev/"):
        return False
    return os.path.basename(os.path.realpath(host.path(plain(path)))) == device


def _processes(host: Host, disk: str) -> Iterator[str]:
    """Programs that have the disk itself open, such as a virtual machine or a database without a file system."""
    devices = {f"/dev/{name}" for name in [disk, *disks.partitions(host, disk)]}
    for pid in filter(str.isdigit, host.names("/proc")):
        directory = host.path(f"/proc/{pid}/fd")
        try:
            opened = {os.readlink(os.path.join(directory, number)) for number in os.listdir(directory)}
        except OSError:
            continue  # it ended, or it is not ours to look at
        name = host.read(f"/proc/{pid}/comm").strip()
        if not devices.isdisjoint(opened) and name not in _LOOKERS and int(pid) != os.getpid():
            yield f"{min(devices & opened)} is open in process {pid} ({name})"
