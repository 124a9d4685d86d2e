# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What uses a block device right now: mounts, swap, what is built on it, and processes that have it open."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Callable, Final, NamedTuple

from ansible_collections.openlun.iscsi.plugins.module_utils._host.block_devices import BlockDevice, BlockDevices
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.hugetlbfs import plain_path
from ansible_collections.openlun.iscsi.plugins.module_utils._host.processes import called, described, opened, pids

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host

SWAPS: Final = "/proc/swaps"
_SYSTEM: Final = frozenset(("/", "/boot", "/boot/efi", "/efi", "/usr"))
"""A disk that is mounted there is what the host boots and runs from."""


class Use(NamedTuple):
    """One thing that speaks against taking a disk: a sentence that names the block device, without its full stop."""

    sentence: str
    live: bool


class LiveUse:
    """The uses of a host's block devices, as of now. All of them are live."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._devices = BlockDevices(host)

    def of_device(self, device: BlockDevice, passed: Callable[[str], bool] = lambda _name: False) -> Iterator[Use]:
        """Holders, mounts and swap on it and on what is built on it.

        ``passed`` says of a device that is built on it, by its name, that neither it nor what is on it counts.
        """
        holders = [holder for holder in self._devices.holders(device.name) if not passed(holder.device.name)]
        for holder in holders:
            yield Use(f"{device.path} {holder.relation}", live=True)
        above = [each for holder in holders for each in (holder.device, *self._devices.above(holder.device.name))]
        for each in (device, *above):
            where = "" if each is device else f", which is on {device.path},"
            for point in self._mounted(each):
                system = ": the system runs from it" if point in _SYSTEM else ""
                yield Use(f"{each.path}{where} is mounted at {point}{system}", live=True)
            if self._is_swap(each):
                yield Use(f"{each.path}{where} is used as swap", live=True)

    def by_processes(
        self, devices: list[BlockDevice], nodes: Iterable[str] = (), lookers: Collection[str] = ()
    ) -> Iterator[Use]:
        """Processes that have one of them open, except programs that are called like one of the ``lookers``.

        ``nodes`` are names of other device nodes of the same hardware.
        """
        names = {f"/dev/{name}": f"/dev/{name}" for name in nodes}
        names.update({device.path: device.path for device in devices})
        numbers = {device.number: device.path for device in devices}
        proc = self._host.path("/proc")
        for pid in pids(proc):
            if int(pid) == os.getpid() or (lookers and called(pid, proc) in lookers):
                continue
            for link, target in opened(pid, proc):
                path = names.get(target)
                if path is None and target.startswith("/dev/"):  # a node with another name
                    path = numbers.get(self._number(link) or "")
                if path is not None:
                    yield Use(f"{path} is open in {described(pid, proc)}", live=True)
                    break

    def _mounted(self, device: BlockDevice) -> list[str]:
        points = [point for names, point in self._mounts if device.number in names or device.path in names]
        volume = None if points else self._devices.btrfs(device.name)
        # What services see of the system's disk besides is no news.
        points = sorted(_SYSTEM.intersection(points)) or list(dict.fromkeys(points))
        return points + ([f"other places, as part of the btrfs {volume}"] if volume else [])

    @cached_property
    def _mounts(self) -> list[tuple[frozenset[str], str]]:
        """What names its device (its number, path, and the number of that path), and the mount point of each mount.

        Of every mount namespace: proc_pid_mountinfo(5).
        """
        seen = set()
        found: dict[tuple[str, str, str], None] = {}
        for pid in ("self", *pids(self._host.path("/proc"))):
            try:
                space = os.readlink(self._host.path(f"/proc/{pid}/ns/mnt"))
                lines = self._host.read(f"/proc/{pid}/mountinfo").splitlines() if space not in seen else []
            except (OSError, HostError):  # it ended
                continue
            seen.add(space)
            for line in lines:
                left, _dash, right = line.partition(" - ")
                fields = left.split()
                found[fields[2], plain_path(right.split()[1]), plain_path(fields[4])] = None
        return [
            (frozenset(filter(None, (number, source, self._devices.at(source)))), point)
            for number, source, point in found
        ]

    def _is_swap(self, device: BlockDevice) -> bool:
        paths = [plain_path(line.split()[0]) for line in self._host.read(SWAPS).splitlines()[1:]]
        return any(device.path == path or self._devices.at(path) == device.number for path in paths)

    def _number(self, link: str) -> str | None:
        try:
            found = os.stat(link)
        except OSError:
            return None
        return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
