# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block devices as the kernel knows them: partitions, what is built on them, and their numbers."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host

BLOCK: Final = "/sys/class/block"
BTRFS: Final = "/sys/fs/btrfs"

_VOLUME: Final = re.compile(r"((?:[^-]|--)+)-((?:[^-]|--)+)")
"""A dm device of LVM: volume group and logical volume, with their own hyphens doubled."""

_MULTIPATH: Final = re.compile(r"(part\d+-)?mpath-")
"""The UUID of a dm device that is several paths to a disk, or a partition of one."""


class BlockDevice(NamedTuple):
    """``number`` is major:minor, ``mapped`` the name that device-mapper has for it."""

    name: str
    number: str
    mapped: str = ""

    @property
    def path(self) -> str:
        return f"/dev/mapper/{self.mapped}" if self.mapped else node(self.name)


class Holder(NamedTuple):
    """A block device that is built on another one. ``relation`` says what makes the lower one part of it."""

    device: BlockDevice
    relation: str


def node(name: str) -> str:
    """The device node of a name in /sys."""
    return "/dev/" + name.replace("!", "/")


class BlockDevices:
    """Those of one host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def device(self, name: str) -> BlockDevice:
        directory = f"{BLOCK}/{name}"
        return BlockDevice(
            name, self._host.read(f"{directory}/dev").strip(), self._host.read(f"{directory}/dm/name").strip()
        )

    def tree(self, disk: str) -> list[BlockDevice]:
        """A disk and its partitions."""
        names = self._host.names(f"{BLOCK}/{disk}")
        parts = [name for name in names if self._host.exists(f"{BLOCK}/{disk}/{name}/partition")]
        return [self.device(name) for name in (disk, *parts)]

    def holders(self, name: str) -> Iterator[Holder]:
        """What is built directly on it."""
        for holder in self._host.names(f"{BLOCK}/{name}/holders"):
            yield Holder(self.device(holder), self._relation(holder))

    def slaves(self, name: str) -> list[str]:
        """The names of what it is directly built on."""
        return self._host.names(f"{BLOCK}/{name}/slaves")

    def is_multipath(self, name: str) -> bool:
        """Whether it is a multipath map or a partition of one."""
        return bool(_MULTIPATH.match(self._host.read(f"{BLOCK}/{name}/dm/uuid")))

    def above(self, name: str) -> Iterator[BlockDevice]:
        """Everything that is built on it, also on what is built on it."""
        for holder in self.holders(name):
            yield holder.device
            yield from self.above(holder.device.name)

    def btrfs(self, name: str) -> str | None:
        """The mounted btrfs file system that it is a part of: its label, or else its UUID."""
        for uuid in self._host.names(BTRFS):
            if self._host.exists(f"{BTRFS}/{uuid}/devices/{name}"):
                return self._host.read(f"{BTRFS}/{uuid}/label").strip() or uuid
        return None

    def at(self, path: str) -> str | None:
        """major:minor of a device's node, whatever it is called; None when it is none."""
        try:
            found = os.stat(self._host.path(path))
        except OSError:
            return None
        if not (stat.S_ISBLK(found.st_mode) or stat.S_ISCHR(found.st_mode)):
            return None
        return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"

    def _relation(self, holder: str) -> str:
        name = self._host.read(f"{BLOCK}/{holder}/dm/name").strip()
        if name:
            kind = self._host.read(f"{BLOCK}/{holder}/dm/uuid").partition("-")[0]
            return _mapped(kind, name)
        if self._host.exists(f"{BLOCK}/{holder}/md"):
            return f"is a member of the md array {holder}"
        if self._host.exists(f"{BLOCK}/{holder}/bcache"):
            return f"is part of the bcache device {holder}"
        return f"is part of {node(holder)}"


def _mapped(kind: str, name: str) -> str:
    """What a device below a dm device is, by the prefix of the latter's UUID."""
    volume = _VOLUME.fullmatch(name)
    if kind == "LVM" and volume:
        group, logical = (part.replace("--", "-") for part in volume.groups())
        return f"is an LVM physical volume of {group}, and its logical volume {logical} is active"
    if kind == "CRYPT":
        return f"holds the encrypted volume {name}, which is open"
    if kind == "mpath":
        return f"is a path of the multipath device {name}"
    return f"is part of the device-mapper device {name}"
