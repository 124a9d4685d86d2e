# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts of hugetlbfs: where programs make files out of hugepages, and who may.

Owner and mode are those of the mount's root directory, so they change without unmounting. The size of its pages and its
limit are options of the mount, which the kernel takes only at the start.
"""

from __future__ import annotations

import contextlib
import grp
import os
import re
import stat
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Final, NamedTuple

from ansible_collections.openlun.iscsi.plugins.module_utils._host import mount_units
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.page_sizes import parse_amount, show_amount
from ansible_collections.openlun.iscsi.plugins.module_utils._host.steps import Step
from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import explained

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host

MOUNTS: Final = "/proc/self/mountinfo"

_ESCAPED: Final = re.compile(r"\\([0-7]{3})")
_LARGEST_MODE: Final = 0o1777

Run = Callable[["list[str]"], "tuple[int, str, str]"]
"""Runs a command to its end: status, output, errors."""


class Mount(NamedTuple):
    """A mount that is declared. Sizes in bytes; ``limit`` None is no limit, ``gid`` None is not declared."""

    path: str
    page_size: int
    mode: int
    gid: int | None
    limit: int | None

    @property
    def options(self) -> str:
        words = [f"pagesize={show_amount(self.page_size)}", f"mode={self.mode:04o}"]
        words += [f"gid={self.gid}"] if self.gid is not None else []
        words += [f"size={self.limit}"] if self.limit is not None else []
        return ",".join(words)

    def told(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "page_size": show_amount(self.page_size),
            "mode": f"{self.mode:04o}",
            "gid": self.gid,
            "size": None if self.limit is None else show_amount(self.limit),
        }


class Mounted(NamedTuple):
    """A mount that is there."""

    path: str
    type: str
    source: str
    options: Mapping[str, str]

    @property
    def ours(self) -> bool:
        return self.type == "hugetlbfs" and self.source == mount_units.SOURCE

    @property
    def page_size(self) -> int:
        return parse_amount(self.options.get("pagesize", "2M"))

    @property
    def limit(self) -> int | None:
        return int(self.options["size"]) if "size" in self.options else None


def parse_mount(option: Mapping[str, Any], sizes: list[int], default_size: int | None) -> Mount:
    """The option ``mount``. ``sizes`` are those of the host. Raises HostError."""
    path = str(option["path"])
    if not os.path.isabs(path) or os.path.normpath(path) == "/" or re.search(r"[\n\0]", path):
        raise HostError(f"mount: {path!r} is no place for a mount. Write an absolute path of its own.")
    size = parse_amount(option["page_size"]) if option.get("page_size") else default_size
    if not sizes or size is None:
        raise HostError("mount: this host has no hugepages. It needs a kernel with CONFIG_HUGETLBFS.")
    if size not in sizes:
        offers = ", ".join(map(show_amount, sizes))
        raise HostError(f"mount: this host has no pages of {show_amount(size)}, but {offers}.")
    limit = parse_amount(option["size"]) if option.get("size") else None
    if limit is not None and (limit % size or not limit):
        raise HostError(f"mount: size {show_amount(limit)} is no multiple of its pages of {show_amount(size)}.")
    return Mount(os.path.normpath(path), size, _mode(option.get("mode")), _gid(option.get("group")), limit)


def _mode(value: Any) -> int:
    number = isinstance(value, int)  # YAML reads 0770 without quotes as octal, and 770 as what it does not mean
    text = f"{value:o}" if number else str(value)
    if (number and value > 0o777) or not re.fullmatch(r"0?[0-7]{3}|[01][0-7]{3}", text) or int(text, 8) > _LARGEST_MODE:
        raise HostError(f"mount: mode {value!r} is not one. Write it in octal and in quotes, such as '0770'.")
    return int(text, 8)


def _gid(group: Any) -> int | None:
    if group is None or str(group).isdigit():
        return None if group is None else int(group)
    try:
        return grp.getgrnam(str(group)).gr_gid
    except KeyError:
        raise HostError(f"mount: this host has no group {group}. Make it first.") from None


class Hugetlbfs:
    """The mounts of a host. Methods that yield steps only look. All raise HostError."""

    def __init__(self, host: Host, run: Run) -> None:
        self._host = host
        self._run = run

    def mounted(self) -> list[Mounted]:
        """All mounts, hugetlbfs or not: proc_pid_mountinfo(5)."""
        found = []
        for line in self._host.read(MOUNTS).splitlines():
            left, _dash, right = line.partition(" - ")
            fields, kind = left.split(), right.split()
            options = dict(word.partition("=")[::2] for word in kind[2].split(","))
            found.append(Mounted(plain_path(fields[4]), kind[0], plain_path(kind[1]), options))
        return found

    def told(self) -> list[dict[str, Any]]:
        """The mounts of hugetlbfs, for a module's result and for diffs."""
        return [self._told(mount) for mount in self.mounted() if mount.type == "hugetlbfs"]

    def _told(self, mount: Mounted) -> dict[str, Any]:
        told = Mount(mount.path, mount.page_size, 0, None, mount.limit).told()
        try:
            has = self._stat(mount.path)
        except HostError:  # of another user, or below another mount
            return {**told, "mode": None}
        return {**told, "mode": f"{stat.S_IMODE(has.st_mode):04o}", "gid": has.st_gid}

    def at(self, path: str) -> Mounted | None:
        """What is on top there."""
        return next((mount for mount in reversed(self.mounted()) if mount.path == path), None)

    def shown(self, path: str) -> dict[str, Any] | None:
        """The hugetlbfs there, for a diff."""
        mount = self.at(path)
        return self._told(mount) if mount is not None and mount.type == "hugetlbfs" else None

    def settled(self, want: Mount) -> Mount:
        """The same with a group: when none is declared, the one it has, or root's for a new one."""
        if want.gid is not None:
            return want
        has = self.at(want.path)
        return want._replace(gid=0 if has is None else self._stat(want.path).st_gid)

    def bring(self, want: Mount) -> Iterator[Step]:
        """Steps to a mount as it is declared."""
        has = self.at(want.path)
        if has is None:
            self._check_empty(want.path, "Mounting would hide that: choose another path.")
            yield Step("mount", f"hugetlbfs {want.path}", "it was not", partial(self._mount, want))
            return
        if has.type != "hugetlbfs":
            raise HostError(f"{want.path}: is a mount of {has.type}. Choose another path.")
        differs = list(self._fixed_differences(has, want))
        if differs:
            if not has.ours:
                raise HostError(
                    f"{want.path}: was mounted by somebody else, with {' and '.join(differs)}. Choose another path."
                )
            self._check_empty(want.path, "Remove that first, because the mount has to be made again.")
            yield Step("remount", f"hugetlbfs {want.path}", ", ".join(differs), partial(self._remount, want))
            return
        access = list(self._access_differences(want))
        if access:
            yield Step("edit", f"hugetlbfs {want.path}", ", ".join(access), partial(self._give, want))

    def remove(self) -> Iterator[Step]:
        """Steps that unmount what is ours."""
        for mount in self.mounted():
            if mount.ours:
                self._check_empty(mount.path, "Remove that first, because it would be lost.")
                yield Step(
                    "unmount", f"hugetlbfs {mount.path}", "it goes", partial(self._unmount, mount.path, leave=True)
                )

    def _fixed_differences(self, has: Mounted, want: Mount) -> Iterator[str]:
        if has.page_size != want.page_size:
            yield f"pages of {show_amount(has.page_size)} instead of {show_amount(want.page_size)}"
        if has.limit != want.limit:
            yield f"size {_limit(has.limit)} instead of {_limit(want.limit)}"

    def _access_differences(self, want: Mount) -> Iterator[str]:
        has = self._stat(want.path)
        mode = stat.S_IMODE(has.st_mode)
        if mode != want.mode:
            yield f"mode {mode:04o} → {want.mode:04o}"
        if want.gid not in (None, has.st_gid):
            yield f"gid {has.st_gid} → {want.gid}"

    def _stat(self, path: str) -> os.stat_result:
        with explained(path):
            return os.stat(self._host.path(path))

    def _check_empty(self, path: str, advice: str) -> None:
        with explained(path):
            if not os.path.lexists(self._host.path(path)):
                return
            if os.path.islink(self._host.path(path)) or not os.path.isdir(self._host.path(path)):
                raise HostError(f"{path}: is not a directory. Choose another path.")
            names = self._host.names(path)
        if names:
            raise HostError(
                f"{path}: is not empty, it has {', '.join(names[:3])}{', …' if names[3:] else ''}. {advice}"
            )

    def _mount(self, want: Mount) -> None:
        with explained(want.path):
            os.makedirs(self._host.path(want.path), exist_ok=True)
        self._command(
            ["mount", "-t", "hugetlbfs", "-o", want.options, mount_units.SOURCE, self._host.path(want.path)],
            f"{want.path}: cannot be mounted",
        )

    def _unmount(self, path: str, leave: bool) -> None:
        """With ``leave`` its directory goes too, unless something is in it."""
        self._command(["umount", self._host.path(path)], f"{path}: cannot be unmounted")
        if leave:
            with contextlib.suppress(OSError):
                os.rmdir(self._host.path(path))

    def _remount(self, want: Mount) -> None:
        self._unmount(want.path, leave=False)
        self._mount(want)

    def _give(self, want: Mount) -> None:
        with explained(want.path):
            place = self._host.path(want.path)
            if want.gid is not None:
                os.chown(place, -1, want.gid)
            os.chmod(place, want.mode)

    def _command(self, command: list[str], failure: str) -> None:
        status, _output, errors = self._run(command)
        if status != 0:
            raise HostError(
                f"{failure}: {errors.strip() or f'status {status}'}. It needs root, and a path nobody uses."
            )


def _limit(limit: int | None) -> str:
    return "without limit" if limit is None else show_amount(limit)


def plain_path(text: str) -> str:
    """A path of a mount table, in which blanks and the like are octal numbers."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)
