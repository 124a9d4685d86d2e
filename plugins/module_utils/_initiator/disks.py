# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of the kernel's: what sysfs and the links of udev tell about them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .._host.sysfs import Host

_SECTOR: Final = 512
"""sysfs counts in these, whatever the blocks of the disk are."""
_LINKS: Final = ("/dev/disk/by-path", "/dev/disk/by-id")


def size(host: Host, disk: str) -> int:
    """In bytes; 0 when it is gone."""
    return host.number(f"/sys/block/{disk}/size") * _SECTOR


def multipath_map(host: Host, disk: str) -> str | None:
    """The device-mapper device, such as dm-0, whose path the disk is."""
    return next((name for name in holders(host, disk) if is_multipath(host, name)), None)


def holders(host: Host, device: str) -> list[str]:
    """What the kernel has built on a disk or a partition."""
    return host.names(f"{sysfs(host, device)}/holders")


def slaves(host: Host, device: str) -> list[str]:
    return host.names(f"/sys/block/{device}/slaves")


def sysfs(host: Host, device: str) -> str:
    """The directory of a disk or a partition."""
    whole = f"/sys/block/{device}"
    return whole if host.exists(whole) else f"/sys/class/block/{device}"


def is_multipath(host: Host, device: str) -> bool:
    return host.read(f"/sys/block/{device}/dm/uuid").startswith("mpath-")


def map_name(host: Host, device: str) -> str:
    """The name of a device-mapper device, or its kernel name."""
    return host.read(f"/sys/block/{device}/dm/name").strip() or device


def links(host: Host, disk: str) -> dict[str, list[str]]:
    """The names by which it is found after a boot, too: ``{"by-path": […], "by-id": […]}``."""
    found: dict[str, list[str]] = {}
    for directory in _LINKS:
        paths = [f"{directory}/{name}" for name in host.names(directory)]
        found[os.path.basename(directory)] = [path for path in paths if resolved(host, path) == disk]
    return found


def resolved(host: Host, link: str) -> str | None:
    """The kernel's name of the device a link leads to."""
    try:
        return os.path.basename(os.readlink(host.path(link)))
    except OSError:
        return None


def told(host: Host, disk: str) -> dict[str, Any]:
    """Facts of a disk, for a module's result."""
    directory = f"/sys/block/{disk}"
    found = links(host, disk)
    mapped = multipath_map(host, disk)
    return {
        "device": f"/dev/{disk}",
        "size": size(host, disk),
        "block_size": host.number(f"{directory}/queue/logical_block_size"),
        "readonly": host.number(f"{directory}/ro") == 1,
        "vendor": host.read(f"{directory}/device/vendor").strip(),
        "model": host.read(f"{directory}/device/model").strip(),
        "wwid": host.read(f"{directory}/device/wwid").strip(),
        "by_path": found["by-path"],
        "by_id": found["by-id"],
        "multipath": None if mapped is None else f"/dev/mapper/{map_name(host, mapped)}",
    }
