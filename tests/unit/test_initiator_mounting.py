# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems on disks of the network: made on what is empty, mounted once, and never at the cost of data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator import fstab
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.mounting import Mounting, Want
from hypothesis import given
from hypothesis import strategies as st

TARGET = "iqn.2016-06.io.spdk:pgdata"
LINK = f"/dev/disk/by-path/ip-10.0.0.1:3260-iscsi-{TARGET}-lun-0"
ROOT_LINE = "UUID=1-2 / ext4 defaults 0 1\n"


class FakeMounts:
    """A host with one iSCSI disk, sdb. ``contents`` is what blkid says of it."""

    def __init__(self, root: Path) -> None:
        self.host = Host(str(root))
        self.root = root
        self.contents: dict[str, str] = {}
        self.commands: list[list[str]] = []
        for directory in ("dev/disk/by-path", "sys/block/sdb", "proc/self", "etc"):
            (root / directory).mkdir(parents=True)
        (root / LINK.lstrip("/")).symlink_to("../../sdb")
        (root / "dev/sdb").write_bytes(bytes(4096))
        (root / "sys/block/sdb/dev").write_text("8:16\n")
        (root / "etc/fstab").write_text(ROOT_LINE)

    def bring(self, *, check: bool = False, **options: Any) -> dict[str, Any]:
        defaults = {"state": "present", "options": "defaults,_netdev", "mkfs_options": [], "force": False}
        given: dict[str, Any] = {**dict.fromkeys(Want._fields), **defaults, **options}
        if given["device"] is None and "target" not in options and given["state"] == "present":
            given["target"] = TARGET
        return Mounting(self.host, self.run).bring(Want(**given), apply=not check)

    def run(self, words: list[str]) -> tuple[int, str, str]:
        self.commands.append(words)
        program = words[0].partition(".")
        if program[0] == "blkid":
            output = "".join(f"{name}={value}\n" for name, value in self.contents.items())
            return (0, output, "") if output else (2, "", "")
        if program[0] == "mkfs":
            self.contents = {"TYPE": program[2], "UUID": "0f3b-7ef8"}
        elif program[0] == "mount":
            self.mountinfo("8:16", words[-1])
        elif program[0] == "umount":
            self.mountinfo(None, "")
        return 0, "", ""

    def mountinfo(self, number: str | None, path: str) -> None:
        line = "" if number is None else f"36 35 {number} / {path} rw - ext4 /dev/x rw\n"
        (self.root / "proc/self/mountinfo").write_text(line)

    @property
    def fstab(self) -> str:
        return (self.root / "etc/fstab").read_text()


@pytest.fixture
def host(tmp_path: Path) -> FakeMounts:
    return FakeMounts(tmp_path)


def acts(result: dict[str, Any]) -> list[str]:
    return [each["action"] for each in result["actions"]]


def test_an_empty_disk_gets_a_file_system_a_line_and_a_mount_and_then_nothing(host: FakeMounts) -> None:
    told = host.bring(filesystem="ext4", path="/srv", check=True)
    assert host.fstab == ROOT_LINE
    done = host.bring(filesystem="ext4", path="/srv")
    assert told["actions"] == done["actions"]
    assert acts(done) == ["create", "create", "mount"]
    assert (done["uuid"], done["filesystem"]) == ("0f3b-7ef8", "ext4")
    assert host.fstab == f"{ROOT_LINE}UUID=0f3b-7ef8 /srv ext4 defaults,_netdev,{fstab.MARK} 0 0\n"
    again = host.bring(filesystem="ext4", path="/srv")
    assert (again["changed"], again["diff"]["before"]) == (False, again["diff"]["after"])


@pytest.mark.parametrize(
    ("contents", "data", "options", "says"),
    [
        ({"TYPE": "xfs", "UUID": "9"}, b"", {"filesystem": "ext4"}, "has xfs and not ext4. Nothing was changed"),
        ({"PTTYPE": "gpt"}, b"", {"filesystem": "ext4"}, "has a partition table"),
        ({}, b"a database", {"filesystem": "ext4"}, "is not empty. Nothing was changed"),
        ({}, b"", {"path": "/srv"}, "has no file system. Say with filesystem"),
    ],
)
def test_nothing_on_a_disk_is_overwritten(
    host: FakeMounts, contents: dict[str, str], data: bytes, options: dict[str, Any], says: str
) -> None:
    host.contents = contents
    (host.root / "dev/sdb").write_bytes(bytes(100) + data)
    with pytest.raises(HostError, match=says):
        host.bring(**options, force=True)
    assert not any(command[0].startswith("mkfs") for command in host.commands)
    assert host.fstab == ROOT_LINE


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda host: host.mountinfo("8:99", "/srv"), "another disk is mounted there"),
        (lambda host: (host.root / "srv/data").mkdir(parents=True), "is not empty, and mounting would hide"),
        (
            lambda host: (host.root / "etc/fstab").write_text("/dev/sdz /srv xfs defaults 0 0\n"),
            "mounts /dev/sdz at /srv",
        ),
    ],
)
def test_a_mount_point_that_is_in_use_is_refused(host: FakeMounts, prepare: Any, says: str) -> None:
    host.contents = {"TYPE": "ext4", "UUID": "1"}
    prepare(host)
    before = host.fstab
    with pytest.raises(HostError, match=says):
        host.bring(path="/srv")
    assert host.fstab == before


def test_other_options_are_written_and_mounted_again(host: FakeMounts) -> None:
    host.bring(filesystem="xfs", path="/srv")
    assert acts(host.bring(path="/srv", options="noatime,_netdev")) == ["edit", "remount"]
    assert "/srv xfs noatime,_netdev," in host.fstab
    assert not host.bring(path="/srv", options="noatime,_netdev")["changed"]


def test_a_multipath_map_is_used_instead_of_its_paths(host: FakeMounts) -> None:
    dm = host.root / "sys/block/dm-0"
    (dm / "dm").mkdir(parents=True)
    (dm / "dm/uuid").write_text("mpath-3600\n")
    (dm / "dm/name").write_text("mpatha\n")
    (host.root / "sys/block/sdb/holders/dm-0").mkdir(parents=True)
    (host.root / "dev/mapper").mkdir()
    (host.root / "dev/mapper/mpatha").write_bytes(bytes(4096))
    assert host.bring(filesystem="ext4")["device"] == "/dev/mapper/mpatha"
    assert host.commands[-2][-1] == "/dev/mapper/mpatha"


def test_check_mode_before_the_login_tells_the_mount_and_a_run_names_the_disk(host: FakeMounts) -> None:
    (host.root / LINK.lstrip("/")).unlink()
    assert acts(host.bring(filesystem="ext4", path="/srv", check=True)) == ["mount"]
    with pytest.raises(HostError, match=f"LUN 0 of target {TARGET}: there is no such disk"):
        host.bring(filesystem="ext4", path="/srv")


@pytest.mark.parametrize("by", [{"path": "/srv"}, {"target": TARGET}, {"device": LINK}])
def test_it_is_unmounted_and_forgotten_by_path_or_by_disk(host: FakeMounts, by: dict[str, Any]) -> None:
    host.bring(filesystem="ext4", path="/srv")
    assert acts(host.bring(state="absent", **by)) == ["unmount", "remove"]
    assert host.fstab == ROOT_LINE
    assert not host.bring(state="absent", **by)["changed"]


def test_a_mount_in_use_names_the_process_and_stays(host: FakeMounts) -> None:
    host.bring(filesystem="ext4", path="/srv")
    process = host.root / "proc/812"
    (process / "fd").mkdir(parents=True)
    (process / "comm").write_text("postgres\n")
    (process / "cwd").symlink_to("/")
    (process / "root").symlink_to("/")
    (process / "fd/4").symlink_to("/srv/base/1")
    host.commands.clear()
    with pytest.raises(HostError, match=r"process 812 \(postgres\)\. Nothing was changed"):
        host.bring(state="absent", path="/srv")
    assert not any(command[0] == "umount" for command in host.commands)
    host.bring(state="absent", path="/srv", force=True)
    assert ["umount", "--lazy", "/srv"] in host.commands


def test_a_line_of_the_administrators_is_not_removed(host: FakeMounts) -> None:
    (host.root / "etc/fstab").write_text("/dev/sdz /srv xfs defaults 0 0\n")
    with pytest.raises(HostError, match="was not written by openlun"):
        host.bring(state="absent", path="/srv")


LINES = st.sampled_from(["", "# a comment", "UUID=1 / ext4 defaults 0 1", "tmpfs /tmp tmpfs", "nonsense", "\t"])
PATHS = st.sampled_from(["/srv", "/srv/my data", "/srv/tab\there", "/tmp2"])


@given(st.lists(LINES), PATHS)
def test_an_entry_comes_and_goes_and_leaves_the_file_as_it_was(lines: list[str], path: str) -> None:
    text = "".join(f"{line}\n" for line in lines)
    entry = fstab.Entry("UUID=7", path, "ext4", f"defaults,{fstab.MARK}")
    written = fstab.replace(text, path, entry)
    assert fstab.find(written, path) == entry
    assert fstab.replace(written, path, entry) == written
    assert fstab.replace(written, path, None) == text
