# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's pools of hugepages: what they have, and how they grow and shrink.

Source: Documentation/admin-guide/mm/hugetlbpage.rst. ``nr_hugepages`` counts surplus pages too; those go back by
themselves when they are not used any more, so what is reserved is the difference.
"""

from __future__ import annotations

import contextlib
import errno
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.page_sizes import Wish, show_amount
from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import explained

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host

POOLS: Final = "/sys/kernel/mm/hugepages"
NODES: Final = "/sys/devices/system/node"
COMPACT: Final = "/proc/sys/vm/compact_memory"
MEMINFO: Final = "/proc/meminfo"
GIGANTIC: Final = 1 << 30
"""Bytes: pages from this size on are hardly ever found in memory that has been used."""

_ATTEMPTS: Final = 5
_POOL: Final = re.compile(r"hugepages-(\d+)kB")
_NODE: Final = re.compile(r"node(\d+)")


class Count(NamedTuple):
    """Pages of one size, of the host or of a node. ``total`` is without surplus pages."""

    total: int
    free: int
    surplus: int


class Pool(NamedTuple):
    """All pages of one size (bytes), by NUMA node and those of the host under None.

    ``promised`` ones are free, but belong to a mapping that has not touched them.
    """

    size: int
    promised: int
    counts: Mapping[int | None, Count]

    @property
    def host(self) -> Count:
        return self.counts[None]

    @property
    def nodes(self) -> dict[int, Count]:
        return {node: count for node, count in self.counts.items() if node is not None}

    @property
    def busy(self) -> int:
        """How many pages cannot be given back: used or promised."""
        return max(0, self.host.total + self.host.surplus - self.host.free) + self.promised

    def told(self) -> dict[str, Any]:
        """For a module's result."""
        return {
            "size": show_amount(self.size),
            "bytes": self.size,
            **self.host._asdict(),
            "reserved": self.promised,
            "nodes": {str(node): count._asdict() for node, count in self.nodes.items()},
        }


class Change(NamedTuple):
    """A pool, or its part on a node, that is to have another number of pages."""

    size: int
    node: int | None
    have: int
    want: int

    @property
    def bytes(self) -> int:
        return (self.want - self.have) * self.size

    @property
    def shown(self) -> str:
        return f"hugepages {show_amount(self.size)}" + ("" if self.node is None else f" on node {self.node}")


class Hugepages:
    """The pools of a host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def pools(self) -> dict[int, Pool]:
        """By size in bytes; none when the kernel has no hugepages. Raises HostError."""
        sizes = sorted(int(match[1]) << 10 for match in map(_POOL.fullmatch, self._host.names(POOLS)) if match)
        return {size: self._pool(size) for size in sizes}

    def default_size(self) -> int | None:
        """Bytes of the size that ``vm.nr_hugepages`` counts; None without hugepages. Raises HostError."""
        return self.memory().get("Hugepagesize")

    def memory(self) -> dict[str, int]:
        """Those lines of /proc/meminfo that are amounts, in bytes. Raises HostError."""
        fields = (line.split() for line in self._host.read(MEMINFO).splitlines())
        return {words[0].rstrip(":"): int(words[1]) << 10 for words in fields if words[2:] == ["kB"]}

    def _pool(self, size: int) -> Pool:
        nodes = sorted(int(match[1]) for match in map(_NODE.fullmatch, self._host.names(NODES)) if match)
        places = [None, *(node for node in nodes if self._host.exists(directory(size, node)))]
        return Pool(
            size,
            self._host.number(f"{directory(size, None)}/resv_hugepages"),
            {node: self._count(size, node) for node in places},
        )

    def _count(self, size: int, node: int | None) -> Count:
        place = directory(size, node)
        surplus = self._host.number(f"{place}/surplus_hugepages")
        return Count(
            self._host.number(f"{place}/nr_hugepages") - surplus,
            self._host.number(f"{place}/free_hugepages"),
            surplus,
        )

    def plan(self, wishes: Iterable[Wish], allow_shrink: bool) -> tuple[list[Change], list[str]]:
        """What has to change, and what stays larger because it may not shrink. Raises HostError."""
        pools = self.pools()
        changes: list[Change] = []
        kept: list[str] = []
        for wish in wishes:
            pool = _known(pools, wish)
            differing = [
                Change(wish.size, node, pool.counts[node].total, want)
                for node, want in wish.places.items()
                if pool.counts[node].total != want
            ]
            changes += [change for change in differing if change.want > change.have or allow_shrink]
            kept += [
                f"{change.shown}: {change.have} pages stay, {change.want} are declared. "
                "Set allow_shrink to give the others back."
                for change in differing
                if change.want < change.have and not allow_shrink
            ]
        _check_busy(pools, changes)
        self._check_room(changes)
        return sorted(changes, key=lambda change: change.bytes), kept

    def _check_room(self, changes: list[Change]) -> None:
        needs = sum(change.bytes for change in changes)
        available = self.memory().get("MemAvailable", needs)
        if needs > available:
            asked = ", ".join(f"{change.shown} {change.have} → {change.want}" for change in changes)
            advice = "Ask for fewer pages, or give the host more memory."
            raise HostError(
                f"{asked}: needs {needs >> 20} MiB more, and the host has {available >> 20} MiB available. "
                f"{advice} Nothing was changed."
            )

    def apply(self, changes: list[Change]) -> None:
        """Make the changes, all or none. Raises HostError that names what was asked for and what the kernel gave."""
        before = self.pools()
        for change in changes:
            try:
                got = self._set(change)
            except HostError:
                self._restore(before, changes)
                raise
            if got != change.want:
                self._restore(before, changes)
                raise HostError(
                    shortage(change, got),
                    shortage={
                        "size": show_amount(change.size),
                        "node": change.node,
                        "requested": change.want,
                        "got": got,
                    },
                )

    def _set(self, change: Change) -> int:
        """Ask, and while the kernel gives too little but makes progress, compact memory and ask again."""
        got = -1
        for _attempt in range(_ATTEMPTS):
            before = got
            got = self._ask(change)
            if got >= change.want or got == before or not self._compact():
                break
        return got

    def _ask(self, change: Change) -> int:
        path = f"{directory(change.size, change.node)}/nr_hugepages"
        with explained(path):
            try:
                self._host.tell(path, f"{change.want}\n")
            except OSError as error:
                # Kernels that cannot make gigantic pages at run time say EINVAL; the count tells the rest.
                if error.errno not in (errno.EINVAL, errno.ENOMEM):
                    raise
        return self._count(change.size, change.node).total

    def _compact(self) -> bool:
        """Move used pages together. False when the kernel cannot."""
        try:
            self._host.tell(COMPACT, "1\n")
        except OSError:
            return False
        return True

    def _restore(self, before: Mapping[int, Pool], changes: list[Change]) -> None:
        """Give every pool that was touched its pages back, on the nodes where they were."""
        for size in {change.size for change in changes}:
            pool = before[size]
            for node, count in pool.counts.items():
                # As far as it goes: the first error is the one to be told.
                with contextlib.suppress(HostError):
                    if (node is not None or not pool.nodes) and self._count(size, node).total != count.total:
                        self._ask(Change(size, node, 0, count.total))


def directory(size: int, node: int | None) -> str:
    """Where the kernel tells about the pages of a size (bytes), of the host or of a node."""
    parent = POOLS if node is None else f"{NODES}/node{node}/hugepages"
    return f"{parent}/hugepages-{size >> 10}kB"


def boot_parameters(wish: Wish) -> list[str]:
    """What the kernel's command line has to say for these pages: admin-guide/kernel-parameters, ``hugepages=``."""
    each = (str(count) if node is None else f"{node}:{count}" for node, count in wish.places.items())
    return [f"hugepagesz={show_amount(wish.size)}", f"hugepages={','.join(each)}"]


def shortage(change: Change, got: int) -> str:
    """What to say when the kernel gave other than asked for."""
    words = " ".join(boot_parameters(Wish(change.size, {change.node: change.want})))
    if change.size >= GIGANTIC:
        why = "Pages of this size can hardly be had from a kernel that runs."
        advice = f"Add {words} to the kernel's command line and reboot, or use smaller pages."
    else:
        why = "Its memory is too fragmented or too full, also after compaction."
        advice = f"Ask for fewer pages, free memory, or reserve them at boot: {words} on the kernel's command line."
    asked = f"{change.shown}: {change.want} pages were requested, the kernel gave {got}"
    return f"{asked}. {why} {advice} The pages are as they were before."


def _known(pools: Mapping[int, Pool], wish: Wish) -> Pool:
    if not pools:
        raise HostError(
            f"This host has no hugepages: {POOLS} is missing. It needs a kernel with CONFIG_HUGETLBFS, and in a "
            "container the /sys of its host."
        )
    if wish.size not in pools:
        offers = ", ".join(map(show_amount, pools))
        raise HostError(f"hugepages {show_amount(wish.size)}: this host has no pages of that size, but {offers}.")
    pool = pools[wish.size]
    missing = [str(node) for node in wish.places if node not in pool.counts]
    if missing:
        has = ", ".join(map(str, pool.nodes)) or "none"
        shown = f"hugepages {show_amount(wish.size)}"
        raise HostError(f"{shown}: this host has no NUMA node {', '.join(missing)}. Its nodes are: {has}.")
    return pool


def _check_busy(pools: Mapping[int, Pool], changes: Iterable[Change]) -> None:
    """Pages that somebody uses are not taken: the kernel would let them run out as surplus, but not free a byte."""
    freed: dict[int, int] = {}
    for change in changes:
        pool = pools[change.size]
        freed[change.size] = freed.get(change.size, 0) + change.have - change.want
        count = pool.counts[change.node]
        used = max(0, count.total + count.surplus - count.free)
        stays = used if change.node is not None else pool.busy
        if change.want < change.have and change.want < stays:
            raise HostError(_busy(change.shown, change.want, used, pool.promised))
    for size, pages in freed.items():
        pool = pools[size]
        left = pool.host.total - pages
        if pages > 0 and left < pool.busy:
            used = pool.busy - pool.promised
            raise HostError(_busy(f"hugepages {show_amount(size)}", left, used, pool.promised))


def _busy(shown: str, want: int, used: int, promised: int) -> str:
    return (
        f"{shown}: cannot shrink to {want} pages. In use are {used}, reserved by processes {promised} more. "
        "Stop those that use them, or ask for more pages. Nothing was changed."
    )
