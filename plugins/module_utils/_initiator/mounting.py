# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file system on a disk, mounted by its UUID now and at boot. Looks first, then acts; no data is overwritten."""

from __future__ import annotations

import os
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .._host.errors import HostError
from .._host.steps import Step
from .._host.sysfs import explained
from . import disks, fstab
from .nodes import BY_PATH, lun_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .._host.sysfs import Host
    from .iscsiadm import Run

_FSTAB: Final = "/etc/fstab"
_MOUNTS: Final = "/proc/self/mountinfo"
_SYSTEMD_RUNS: Final = "/run/systemd/system"
_NOTHING_FOUND: Final = 2  # blkid(8)
_BLANK_BYTES: Final = 1 << 20
_FORCED: Final = {"ext2": ["-F"], "ext3": ["-F"], "ext4": ["-F"]}
"""They ask whether a whole disk is meant."""


class Content(NamedTuple):
    """What is on a disk; the type is empty where there is nothing."""

    type: str
    uuid: str


class Want(NamedTuple):
    """The module's options."""

    state: str
    device: str | None
    target: str | None
    lun: int | None
    filesystem: str | None
    path: str | None
    options: str
    mkfs_options: list[str]
    force: bool


class Mounting:
    """File systems of one host. All methods raise HostError."""

    def __init__(self, host: Host, run: Run) -> None:
        self._host = host
        self._run = run

    def bring(self, want: Want, apply: bool) -> dict[str, Any]:
        """The module's result."""
        if want.path is not None and (not os.path.isabs(want.path) or os.path.normpath(want.path) == "/"):
            raise HostError(f"path: {want.path!r} is no place for a mount. Write an absolute path of its own.")
        devices = self._devices(want)
        if want.state == "absent":
            steps, before, after = self._absent(want, devices)
            device = None
        elif devices:
            device = self._mapped(devices[0])
            steps, before, after = self._present(want, device)
        elif apply or want.device is not None:
            raise HostError(_missing(want))
        else:
            steps, before, after = self._foretold(want)
            device = None
        for step in steps if apply else ():
            step.do()
        content = Content("", "") if device is None else self._content(device)
        return {
            "changed": bool(steps),
            "actions": [step.told() for step in steps],
            "device": device,
            "uuid": content.uuid or None,
            "filesystem": content.type or None,
            "diff": {"before": before, "after": after},
        }

    # To have it

    def _present(self, want: Want, device: str) -> tuple[list[Step], dict[str, Any], dict[str, Any]]:
        content = self._content(device)
        steps = list(self._make(want, device, content))
        before: dict[str, Any] = {"filesystem": content.type or None}
        after: dict[str, Any] = {"filesystem": content.type or want.filesystem}
        if want.path is not None:
            mounting, entry = self._mount(want, want.path, device, content)
            steps += mounting
            mounted = self._mounted_at(want.path)
            before.update(mounted=mounted is not None, fstab=self._shown(want.path))
            uuid = content.uuid or "(of the new file system)"
            after.update(mounted=True, fstab=entry(uuid).line())
        return steps, before, after

    def _foretold(self, want: Want) -> tuple[list[Step], dict[str, Any], dict[str, Any]]:
        """What check mode can tell before the session is there: whether it is mounted, not what is on the disk."""
        disk = f"LUN {want.lun or 0} of target {want.target}"
        if want.path is None:
            return [], {}, {}
        before = {"mounted": self._mounted_at(want.path) is not None, "fstab": self._shown(want.path)}
        if before["mounted"] and before["fstab"]:
            return [], before, before
        after = {"mounted": True, "fstab": f"{disk} at {want.path}"}
        return [Step("mount", want.path, f"{disk} was not there yet", lambda: None)], before, after

    def _make(self, want: Want, device: str, content: Content) -> Iterator[Step]:
        if content.type:
            if want.filesystem not in (None, content.type):
                raise HostError(
                    f"{device}: has {content.type} and not {want.filesystem}. Nothing was changed. If nobody needs "
                    f"what is on it, remove it by hand: wipefs --all {device}."
                )
            return
        if want.filesystem is None:
            if want.path is not None:
                raise HostError(f"{device}: has no file system. Say with filesystem which one to make.")
            return
        if not self._is_blank(device):
            raise HostError(
                f"{device}: has no file system that is known here, but is not empty. Nothing was changed. If nobody "
                f"needs what is on it: dd if=/dev/zero of={device} bs=1M count=1."
            )
        words = [f"mkfs.{want.filesystem}", "-q", *_FORCED.get(want.filesystem, []), *want.mkfs_options, device]
        failure = f"{device}: {want.filesystem} could not be made"
        yield Step("create", f"{want.filesystem} on {device}", "it was empty", partial(self._command, failure, *words))

    def _mount(self, want: Want, path: str, device: str, content: Content) -> tuple[list[Step], Any]:
        mounted = self._mounted_at(path)
        number = self._number(device)
        if mounted is not None and mounted != number:
            raise HostError(f"{path}: another disk is mounted there. Unmount it, or choose another path.")
        if mounted is None and not want.force and self._host.names(path):
            raise HostError(
                f"{path}: is not empty, and mounting would hide that. Move it away, or choose another path."
            )
        options = ",".join([*filter(None, want.options.split(",")), fstab.MARK])

        def entry(uuid: str) -> fstab.Entry:
            return fstab.Entry(f"UUID={uuid}", path, content.type or str(want.filesystem), options)

        has = fstab.find(self._host.read(_FSTAB), path)
        if has is not None and not has.ours and has.source != f"UUID={content.uuid}":
            raise HostError(f"{_FSTAB}: mounts {has.source} at {path}. Remove that line, or choose another path.")
        steps = []
        if has is None or has != entry(content.uuid):
            why = "it was missing" if has is None else "it differs"
            action = "create" if has is None else "edit"
            steps.append(Step(action, f"line of {path} in {_FSTAB}", why, partial(self._enter, path, device, entry)))
            if mounted is not None:
                failure = f"{path}: could not be mounted again"
                remount = partial(self._command, failure, "mount", "-o", "remount", path)
                steps.append(Step("remount", path, "its options may differ", remount))
        if mounted is None:
            steps.append(Step("mount", path, "it was not", partial(self._mount_now, path)))
        return steps, entry

    def _enter(self, path: str, device: str, entry: Any) -> None:
        """The UUID is known now, even of a file system that was just made."""
        text = fstab.replace(self._host.read(_FSTAB), path, entry(self._content(device).uuid))
        self._save(text)

    def _mount_now(self, path: str) -> None:
        with explained(path):
            os.makedirs(self._host.path(path), exist_ok=True)
        self._command(f"{path}: could not be mounted", "mount", path)

    # To have it no more

    def _absent(self, want: Want, devices: list[str]) -> tuple[list[Step], dict[str, Any], dict[str, Any]]:
        steps: list[Step] = []
        before: dict[str, Any] = {}
        found = [path for device in devices for path in self._places(device)]
        for path in [want.path] if want.path is not None else dict.fromkeys(found):
            mounted = self._mounted_at(path)
            before[path] = {"mounted": mounted is not None, "fstab": self._shown(path)}
            steps += self._unmount(want, path) if mounted is not None else []
            steps += self._forget(path)
        return steps, before, {path: {"mounted": False, "fstab": None} for path in before}

    def _places(self, device: str) -> list[str]:
        """Where a disk is mounted, and where a line of ours would mount it."""
        device = self._mapped(device)
        number, uuid = self._number(device), self._content(device).uuid
        entries = filter(None, map(fstab.parse, self._host.read(_FSTAB).splitlines()))
        lines = [entry.path for entry in entries if entry.ours and uuid and entry.source == f"UUID={uuid}"]
        return list(dict.fromkeys([*(path for each, path in self._mounts() if each == number), *lines]))

    def _unmount(self, want: Want, path: str) -> Iterator[Step]:
        users = self._users(path)
        if users and not want.force:
            raise HostError(
                f"{path}: not unmounted because it is used by {', '.join(users)}. Nothing was changed. Stop them, or "
                "set force: true, which takes their files away."
            )
        words = ["umount", *(["--lazy"] if users else []), path]
        why = f"it is not wanted{', although ' + ', '.join(users) + ' has it open' if users else ''}"
        yield Step("unmount", path, why, partial(self._command, f"{path}: could not be unmounted", *words))

    def _forget(self, path: str) -> Iterator[Step]:
        has = fstab.find(self._host.read(_FSTAB), path)
        if has is None:
            return
        if not has.ours:
            raise HostError(f"{_FSTAB}: the line of {path} was not written by openlun.iscsi. Remove it by hand.")
        yield Step("remove", f"line of {path} in {_FSTAB}", "it is not wanted", partial(self._leave, path))

    def _leave(self, path: str) -> None:
        self._save(fstab.replace(self._host.read(_FSTAB), path, None))

    def _users(self, path: str) -> list[str]:
        """Processes that have something open below a mount point."""
        found = []
        root = os.path.normpath(path)
        for pid in filter(str.isdigit, self._host.names("/proc")):
            directory = self._host.path(f"/proc/{pid}")
            links = [os.path.join(directory, name) for name in ("cwd", "root")]
            try:
                links += [os.path.join(directory, "fd", name) for name in os.listdir(os.path.join(directory, "fd"))]
                opened = {os.readlink(link) for link in links}
            except OSError:
                continue  # it ended
            if any(name == root or name.startswith(f"{root}/") for name in opened) and int(pid) != os.getpid():
                found.append(f"process {pid} ({self._host.read(f'/proc/{pid}/comm').strip()})")
        return found

    # Looking

    def _devices(self, want: Want) -> list[str]:
        """Names of the disk that there are; of all disks of a target when no LUN is named and they are to go."""
        if want.device is not None:
            return [want.device] if self._is_disk(want.device) else []
        if want.target is None:
            return []
        any_lun = want.state == "absent" and want.lun is None
        lun = r"\w+" if any_lun else re.escape(lun_name(want.lun or 0))
        name = re.compile(rf"ip-.+-iscsi-{re.escape(want.target)}-lun-{lun}")
        found = [f"{BY_PATH}/{each}" for each in self._host.names(BY_PATH) if name.fullmatch(each)]
        return [device for device in found if self._is_disk(device)]

    def _is_disk(self, device: str) -> bool:
        path = os.path.realpath(self._host.path(device))
        return self._host.exists(device) and self._host.exists(disks.sysfs(self._host, os.path.basename(path)))

    def _mapped(self, device: str) -> str:
        """The disk, or the multipath map above it: what is on one path is on all of them."""
        name = os.path.basename(os.path.realpath(self._host.path(device)))
        mapped = disks.multipath_map(self._host, name)
        return device if mapped is None else f"/dev/mapper/{disks.map_name(self._host, mapped)}"

    def _number(self, device: str) -> str:
        name = os.path.basename(os.path.realpath(self._host.path(device)))
        return self._host.read(f"{disks.sysfs(self._host, name)}/dev").strip()

    def _content(self, device: str) -> Content:
        code, output, errors = self._run(["blkid", "-p", "-o", "export", device])
        if code == _NOTHING_FOUND:
            return Content("", "")
        if code:
            told = errors.strip() or f"status {code}"
            raise HostError(f"{device}: blkid cannot tell what is on it: {told}. Look at: wipefs {device}.")
        values = dict(line.partition("=")[::2] for line in output.splitlines())
        if "TYPE" not in values:
            table = values.get("PTTYPE", "something")
            raise HostError(f"{device}: has a partition table ({table}) and no file system. Name a partition of it.")
        return Content(values["TYPE"], values.get("UUID", ""))

    def _is_blank(self, device: str) -> bool:
        """What has no signature may still be a database: only zeros are free."""
        with explained(device), open(self._host.path(device), "rb") as disk:
            return not any(disk.read(_BLANK_BYTES))

    def _mounted_at(self, path: str) -> str | None:
        """The device number of what is on top at a mount point."""
        found = [number for number, place in self._mounts() if place == os.path.normpath(path)]
        return found[-1] if found else None

    def _mounts(self) -> list[tuple[str, str]]:
        """Device number and mount point of every mount (proc_pid_mountinfo(5))."""
        lines = [line.split() for line in self._host.read(_MOUNTS).splitlines()]
        return [(fields[2], fstab.plain(fields[4])) for fields in lines]

    def _shown(self, path: str) -> str | None:
        has = fstab.find(self._host.read(_FSTAB), path)
        return None if has is None else has.line()

    def _save(self, text: str) -> None:
        self._host.save(_FSTAB, text)
        if self._host.exists(_SYSTEMD_RUNS):
            self._command(f"{_FSTAB}: systemd did not read it", "systemctl", "daemon-reload")

    def _command(self, failure: str, *words: str) -> None:
        try:
            code, output, errors = self._run(list(words))
        except OSError as error:
            raise HostError(f"{failure}: {words[0]} is not installed.") from error
        if code:
            raise HostError(f"{failure}: {(errors or output).strip() or f'status {code}'}.")


def _missing(want: Want) -> str:
    if want.device is None and want.target is None:
        return "device: is needed, or target. Give one of the names that the module session returns in by_path."
    named = want.device or f"LUN {want.lun or 0} of target {want.target}"
    return f"{named}: there is no such disk. Is its session up? See the module session."


def wanted(options: Mapping[str, Any]) -> Want:
    """The options of the module."""
    return Want(**{name: options[name] for name in Want._fields})
