# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes the kernel reserve hugepages again at boot, in one way for each size.

A total of the default size is a line for sysctl.d(5), which every distribution has. Another size and single nodes
need a write to /sys, which is a line for tmpfiles.d(5). Both are applied before services start.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.hugepages import (
    GIGANTIC,
    boot_parameters,
    directory,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._host.page_sizes import Wish, parse_amount, show_amount

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.owned_files import OwnedFiles
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host

SYSCTL: Final = "/etc/sysctl.d/60-openlun-iscsi-hugepages.conf"
TMPFILES: Final = "/etc/tmpfiles.d"
CMDLINE: Final = "/proc/cmdline"

_PREFIX: Final = "openlun-iscsi-hugepages-"
_SUFFIX: Final = ".conf"
_SYSCTL_DIRECTORIES: Final = (
    "/etc/sysctl.d",
    "/run/sysctl.d",
    "/usr/local/lib/sysctl.d",
    "/usr/lib/sysctl.d",
    "/lib/sysctl.d",
)
_TMPFILES_DIRECTORIES: Final = (TMPFILES, "/run/tmpfiles.d", "/usr/local/lib/tmpfiles.d", "/usr/lib/tmpfiles.d")
_SYSCTL_CONF: Final = "/etc/sysctl.conf"
"""procps reads it after all others; systemd reads it by a link 99-sysctl.conf, where there is one."""
_SETTING: Final = re.compile(r"^\s*-?\s*vm[./]nr_hugepages(?:_mempolicy)?\s*=\s*(\d+)", re.MULTILINE)
_LINE: Final = re.compile(r"^w\S*\s+(\S*/hugepages-(\d+)kB/nr_hugepages)(?:\s+\S+){4}\s+(\d+)", re.MULTILINE)
_NODE: Final = re.compile(r"/node(\d+)/")


class Override(NamedTuple):
    """A file of somebody else that says another number at boot."""

    path: str
    setting: str
    value: int

    def told(self) -> dict[str, str | int]:
        return self._asdict()

    def sentence(self, wish: Wish) -> str:
        return (
            f"{self.path} sets {self.setting} to {self.value} at boot, where {_words(wish)} of "
            f"{show_amount(wish.size)} are declared. Remove that line."
        )


class BootFiles:
    """The files of a host that reserve hugepages at boot."""

    def __init__(self, host: Host, files: OwnedFiles, default_size: int | None) -> None:
        self._host = host
        self._files = files
        self._default = default_size

    def declared(self) -> dict[int, Wish]:
        """What our files ask for, by size. Raises HostError."""
        found: dict[int, Wish] = {}
        match = _SETTING.search(self._files.text(SYSCTL) or "")
        if match and self._default:
            found[self._default] = Wish(self._default, {None: int(match[1])})
        for path in self._files.ours(TMPFILES, _PREFIX, _SUFFIX):
            for place, size, count in _LINE.findall(self._files.text(path) or ""):
                wish = Wish(int(size) << 10, {_node(place): int(count)})
                found[wish.size] = _merged(wish, found.get(wish.size))
        return found

    def paths(self) -> list[str]:
        """Our files that are there. Raises HostError."""
        sysctl = [SYSCTL] if self._files.text(SYSCTL) is not None else []
        return sysctl + self._files.ours(TMPFILES, _PREFIX, _SUFFIX)

    def wanted(self, wishes: Iterable[Wish], persistent: bool) -> dict[str, str | None]:
        """Path to text for these sizes; a node that is not named keeps what is declared for it. Raises HostError."""
        has = self.declared()
        texts: dict[str, str | None] = {}
        for wish in wishes:
            in_sysctl = persistent and wish.size == self._default and wish.total is not None
            if wish.size == self._default:
                texts[SYSCTL] = f"vm.nr_hugepages = {wish.total}\n" if in_sysctl else None
            path = f"{TMPFILES}/{_PREFIX}{wish.size >> 10}kB{_SUFFIX}"
            texts[path] = _lines(_merged(wish, has.get(wish.size))) if persistent and not in_sysctl else None
        return texts

    def overrides(self, wish: Wish) -> Iterator[Override]:
        """Files of others that say something else about this size at boot. Raises HostError."""
        if wish.size == self._default:
            yield from self._sysctl_overrides(wish)
        ours = set(self._files.ours(TMPFILES, _PREFIX, _SUFFIX))
        for path in _effective(self._host, _TMPFILES_DIRECTORIES):
            for place, size, count in [] if path in ours else _LINE.findall(self._host.read(path)):
                if int(size) << 10 == wish.size and _differs(wish, _node(place), int(count)):
                    yield Override(path, place, int(count))

    def _sysctl_overrides(self, wish: Wish) -> Iterator[Override]:
        """The last one counts. For single nodes every one does: what comes first, sysctl.d or tmpfiles.d, is open."""
        last: Override | None = None
        real = [path for path in _effective(self._host, _SYSCTL_DIRECTORIES) if path != SYSCTL]
        for path in [*real, *([_SYSCTL_CONF] if self._host.exists(_SYSCTL_CONF) else [])]:
            later = path == _SYSCTL_CONF or os.path.basename(path) > os.path.basename(SYSCTL)
            values = _SETTING.findall(self._host.read(path)) if later or wish.total is None else []
            if values:
                last = Override(path, "vm.nr_hugepages", int(values[-1]))
        if last is not None and last.value != wish.total:
            yield last

    def missing_parameters(self, wishes: Iterable[Wish]) -> list[str]:
        """What the kernel's command line lacks for the sizes that only it is sure to give. Raises HostError."""
        has = self._command_line()
        missing = []
        for wish in wishes:
            size, pages = boot_parameters(wish)
            if wish.size >= GIGANTIC and any(wish.places.values()) and has.get(wish.size) != pages:
                missing += [size, pages]
        return missing

    def _command_line(self) -> dict[int, str]:
        """``hugepages=`` by the size that precedes it."""
        found: dict[int, str] = {}
        size = self._default or 0
        for word in self._host.read(CMDLINE).split():
            name, _equals, value = word.partition("=")
            if name == "default_hugepagesz":
                size = self._default or 0
            elif name == "hugepagesz":
                size = _amount(value)
            elif name == "hugepages":
                found[size] = word
        return found


def _node(place: str) -> int | None:
    match = _NODE.search(place)
    return int(match[1]) if match else None


def _amount(text: str) -> int:
    try:
        return parse_amount(text)
    except HostError:
        return 0  # the kernel does not take it either


def _differs(wish: Wish, node: int | None, count: int) -> bool:
    """Whether pages of a node, or the total, that somebody else sets are in the way of what is declared."""
    if node is not None and wish.total is None and node not in wish.places:
        return False
    return wish.places.get(node) != count


def _merged(wish: Wish, has: Wish | None) -> Wish:
    """Nodes that are not named stay as they are declared; a total replaces nodes, and nodes a total."""
    if has is None or wish.total is not None or has.total is not None:
        return wish
    return wish._replace(places={**has.places, **wish.places})


def _lines(wish: Wish) -> str:
    return "".join(
        f"w {directory(wish.size, node)}/nr_hugepages - - - - {count}\n" for node, count in wish.places.items()
    )


def _words(wish: Wish) -> str:
    each = (f"{count} pages" + ("" if node is None else f" on node {node}") for node, count in wish.places.items())
    return " and ".join(each)


def _effective(host: Host, directories: Iterable[str]) -> list[str]:
    """The files of a .d family in the order in which they are read: by name, one of each name, /etc before /usr."""
    found: dict[str, str] = {}
    for place in directories:
        for name in host.names(place):
            if name.endswith(_SUFFIX):
                found.setdefault(name, f"{place}/{name}")
    return [found[name] for name in sorted(found) if os.path.isfile(host.path(found[name]))]
