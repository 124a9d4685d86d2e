# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a disk is in use, and by what. Everything that speaks against taking it is named.

What is alive (mounted, held, open) speaks against it for good. What only lies there, a signature, may be given up by
who knows what it is.
"""

from __future__ import annotations

import errno
import os
from functools import cached_property
from typing import TYPE_CHECKING, Callable, Final, NamedTuple

from ansible_collections.openlun.iscsi.plugins.module_utils._host.block_devices import BlockDevice, BlockDevices
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.hugetlbfs import plain_path
from ansible_collections.openlun.iscsi.plugins.module_utils._host.processes import described, opened, pids
from ansible_collections.openlun.iscsi.plugins.module_utils._host.signatures import PARTITION_TABLE, signatures

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.hugetlbfs import Run
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host

SWAPS: Final = "/proc/swaps"
_SYSTEM: Final = frozenset(("/", "/boot", "/boot/efi", "/efi", "/usr"))
"""A disk that is mounted there is what the host boots and runs from."""


class Use(NamedTuple):
    """One thing that speaks against taking a disk: a sentence that names the block device, without its full stop."""

    sentence: str
    live: bool


class BlockUse:
    """The uses of a host's disks, as of now. ``claim`` opens a disk exclusively; it raises OSError when it cannot."""

    def __init__(self, host: Host, run: Run, claim: Callable[[str], int]) -> None:
        self._host = host
        self._run = run
        self._claim = claim
        self._devices = BlockDevices(host)

    def settle(self) -> None:
        """Let udev end looking at disks: it opens them for a moment."""
        self._run(["udevadm", "settle", "--timeout=30"])

    def of_disks(self, disks: Iterable[str], nodes: Iterable[str] = ()) -> list[Use]:
        """Every use of the disks and their partitions; ``nodes`` are names of other device nodes of the same hardware.

        Raises HostError.
        """
        trees = [self._devices.tree(disk) for disk in disks]
        found = [use for tree in trees for use in self._of_tree(tree)]
        return found + list(self._open([device for tree in trees for device in tree], nodes))

    def _of_tree(self, tree: list[BlockDevice]) -> Iterator[Use]:
        uses = {device: list(self._live(device)) for device in tree}
        yield from (use for each in uses.values() for use in each)
        disk, *_partitions = tree
        if not any(uses.values()):
            yield from self._unclaimable(disk)
        contents = {device: list(self._content(device)) for device in tree if not uses[device]}
        partitions = any(uses[device] or contents.get(device) for device in tree[1:])
        for device, content in contents.items():
            for usage, use in content:
                # That a disk has partitions goes without saying when something is in them.
                if not (device is disk and usage == PARTITION_TABLE and partitions):
                    yield use

    def _live(self, device: BlockDevice) -> Iterator[Use]:
        for holder in self._devices.holders(device.name):
            yield Use(f"{device.path} {holder.relation}", live=True)
        for each in (device, *self._devices.above(device.name)):
            where = "" if each is device else f", which is on {device.path},"
            for point in self._mounted(each):
                system = ": the system runs from it" if point in _SYSTEM else ""
                yield Use(f"{each.path}{where} is mounted at {point}{system}", live=True)
            if self._is_swap(each):
                yield Use(f"{each.path}{where} is used as swap", live=True)

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

    def _unclaimable(self, disk: BlockDevice) -> Iterator[Use]:
        """The kernel's own word, for what shows itself nowhere else: an imported ZFS pool, a running mkfs."""
        try:
            os.close(self._claim(disk.name))
        except OSError as error:
            if error.errno == errno.EBUSY:
                yield Use(f"{disk.path}, or a partition of it, is claimed by the kernel or by a program", live=True)
            else:
                yield Use(f"{disk.path} cannot be opened ({error.strerror})", live=True)

    def _content(self, device: BlockDevice) -> Iterator[tuple[str, Use]]:
        try:
            for usage, sentence in signatures(device.path, self._run):
                yield usage, Use(sentence, live=False)
        except HostError as error:
            yield "", Use(str(error), live=True)  # what cannot be read cannot be given up either

    def _open(self, devices: list[BlockDevice], nodes: Iterable[str]) -> Iterator[Use]:
        """Processes that have one of them open."""
        names = {f"/dev/{name}": f"/dev/{name}" for name in nodes}
        names.update({device.path: device.path for device in devices})
        numbers = {device.number: device.path for device in devices}
        proc = self._host.path("/proc")
        for pid in pids(proc):
            if int(pid) == os.getpid():
                continue
            for link, target in opened(pid, proc):
                path = names.get(target)
                if path is None and target.startswith("/dev/"):  # a node with another name
                    path = numbers.get(self._number(link) or "")
                if path is not None:
                    yield Use(f"{path} is open in {described(pid, proc)}", live=True)
                    break

    def _number(self, link: str) -> str | None:
        try:
            found = os.stat(link)
        except OSError:
            return None
        return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
