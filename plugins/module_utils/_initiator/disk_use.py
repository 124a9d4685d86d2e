# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses a disk: what would lose its storage if the disk went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .._host.block_devices import BlockDevice, BlockDevices
from .._host.live_use import LiveUse

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from .._host.sysfs import Host

_LOOKERS: Final = frozenset(("multipathd", "udevadm", "systemd-udevd", "(udev-worker)", "blkid", "smartd", "udisksd"))
"""Programs that open disks to look at them. They let go when the disk does."""


class DiskUse:
    """The uses of a host's disks, as of now."""

    def __init__(self, host: Host) -> None:
        self._devices = BlockDevices(host)
        self._uses = LiveUse(host)

    def users(self, disk: str, leaving: Collection[str]) -> list[str]:
        """Sentences without their end, each of a use; none when it may go. Raises HostError.

        ``leaving`` are the disks that go with it: a multipath map that keeps another path keeps its users.
        """
        lost = [each for part in self._devices.tree(disk) for each in self._lost(part, leaving)]
        uses = [use for each in lost for use in self._uses.of_device(each, self._devices.is_multipath)]
        uses += self._uses.by_processes(lost, lookers=_LOOKERS)
        return list(dict.fromkeys(use.sentence for use in uses))

    def _lost(self, device: BlockDevice, leaving: Collection[str]) -> Iterator[BlockDevice]:
        """The device, and the multipath maps on it that have no other path."""
        yield device
        for holder in self._devices.holders(device.name):
            name = holder.device.name
            if self._devices.is_multipath(name) and set(self._devices.slaves(name)) <= set(leaving):
                yield from self._lost(holder.device, {*leaving, name})
