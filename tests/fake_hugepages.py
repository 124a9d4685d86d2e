# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose kernel has hugepages, in a directory: it gives what it has, and no more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ansible_collections.openlun.iscsi.plugins.module_utils._host.reservation import Request, Reservation
from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host

POOL = re.compile(r"(?:/node(\d+)/hugepages|/mm/hugepages)/hugepages-(\d+)kB/nr_hugepages$")
FILES = ("nr_hugepages", "free_hugepages", "surplus_hugepages", "resv_hugepages")


class FakeKernel(Host):
    """``limits`` are the pages it can give for a size in KiB, ``compacted`` those after memory was compacted."""

    def __init__(self, root: Path, nodes: int = 1, sizes: tuple[int, ...] = (2048, 1048576)) -> None:
        super().__init__(str(root))
        self.nodes = nodes
        self.sizes = sizes
        self.limits: dict[int, int] = {}
        self.compacted: dict[int, int] = {}
        self.compactions = 0
        self.asked: list[tuple[str, int]] = []
        self.put("/proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\nHugepagesize: 2048 kB\n")
        self.put("/proc/self/mountinfo", "22 1 0:5 / / rw - ext4 /dev/vda rw\n")
        self.put("/proc/sys/vm/compact_memory", "")
        self.put("/proc/cmdline", "quiet\n")
        for size in sizes:
            for node in (None, *range(nodes)):
                for name in FILES:
                    self.put(f"{self.pool(size, node)}/{name}", "0\n")

    def put(self, path: str, text: str) -> None:
        place = Path(self.path(path))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def get(self, path: str) -> str:
        return Path(self.path(path)).read_text()

    def pool(self, size: int, node: int | None = None) -> str:
        parent = "/sys/kernel/mm/hugepages" if node is None else f"/sys/devices/system/node/node{node}/hugepages"
        return f"{parent}/hugepages-{size}kB"

    def pages(self, size: int = 2048, node: int | None = None) -> int:
        return self.number(f"{self.pool(size, node)}/nr_hugepages")

    def tell(self, path: str, text: str) -> None:
        super().tell(path, text)
        if path.endswith("compact_memory"):
            self.compactions += 1
            self.limits.update(self.compacted)
        match = POOL.search(path)
        if match:
            size, node = int(match[2]), int(match[1]) if match[1] else None
            self.asked.append((path, int(text)))
            self._give(size, node, int(text))

    def use(self, pages: int, promised: int = 0, size: int = 2048) -> None:
        """Some process uses pages of node 0."""
        for node in (None, 0):
            place = f"{self.pool(size, node)}/free_hugepages"
            self.put(place, f"{self.number(place) - pages}\n")
        self.put(f"{self.pool(size)}/resv_hugepages", f"{promised}\n")

    def _give(self, size: int, node: int | None, asked: int) -> None:
        limit = self.limits.get(size, 10**6)
        counts = [self.pages(size, each) for each in range(self.nodes)]
        if node is None:
            total = min(asked, limit)
            counts = [total // self.nodes + (each < total % self.nodes) for each in range(self.nodes)]
        else:
            others = sum(counts) - counts[node]
            counts[node] = min(asked, limit - others)
        for each, count in [(None, sum(counts)), *enumerate(counts)]:
            self.put(f"{self.pool(size, each)}/nr_hugepages", f"{count}\n")
            self.put(f"{self.pool(size, each)}/free_hugepages", f"{count}\n")


class FakeMounts:
    """The commands mount and umount, as they change the mount table of a fake host."""

    def __init__(self, host: FakeKernel) -> None:
        self.host = host
        self.busy = False

    def __call__(self, command: list[str]) -> tuple[int, str, str]:
        table = self.host.get("/proc/self/mountinfo")
        place = command[-1][len(self.host.root) :]
        if self.busy:
            return 32, "", "target is busy."
        if command[0] == "mount":
            options = command[4].split(",")
            mode = next(word for word in options if word.startswith("mode="))
            Path(command[-1]).chmod(int(mode[5:], 8))
            self.host.put(
                "/proc/self/mountinfo", f"{table}42 22 0:9 / {place} rw - hugetlbfs {command[5]} rw,{command[4]}\n"
            )
        else:
            self.host.put("/proc/self/mountinfo", "".join(line for line in table.splitlines(True) if place not in line))
        return 0, "", ""


def request(**options: Any) -> Request:
    """What the module makes of these options."""
    default: dict[str, Any] = {
        "pages": {},
        "mount": None,
        "memlock_user": None,
        "memlock": "unlimited",
        "allow_shrink": False,
        "persistent": True,
        "absent": False,
    }
    return Request(**{**default, **options})


def bring(host: FakeKernel, *, check: bool = False, **options: Any) -> dict[str, Any]:
    """The module's result."""
    return Reservation(host, FakeMounts(host)).bring(request(**options), apply=not check)
