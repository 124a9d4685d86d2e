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
from typing import TYPE_CHECKING, Callable

from ansible_collections.openlun.iscsi.plugins.module_utils._host.block_devices import BlockDevice, BlockDevices
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.live_use import LiveUse, Use
from ansible_collections.openlun.iscsi.plugins.module_utils._host.signatures import PARTITION_TABLE, signatures

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.hugetlbfs import Run
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host


class BlockUse:
    """The uses of a host's disks, as of now. ``claim`` opens a disk exclusively; it raises OSError when it cannot."""

    def __init__(self, host: Host, run: Run, claim: Callable[[str], int]) -> None:
        self._run = run
        self._claim = claim
        self._devices = BlockDevices(host)
        self._uses = LiveUse(host)

    def settle(self) -> None:
        """Let udev end looking at disks: it opens them for a moment."""
        self._run(["udevadm", "settle", "--timeout=30"])

    def of_disks(self, disks: Iterable[str], nodes: Iterable[str] = ()) -> list[Use]:
        """Every use of the disks and their partitions; ``nodes`` are names of other device nodes of the same hardware.

        Raises HostError.
        """
        trees = [self._devices.tree(disk) for disk in disks]
        found = [use for tree in trees for use in self._of_tree(tree)]
        return found + list(self._uses.by_processes([device for tree in trees for device in tree], nodes))

    def _of_tree(self, tree: list[BlockDevice]) -> Iterator[Use]:
        uses = {device: list(self._uses.of_device(device)) for device in tree}
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
