# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a disk that is in use, and that it stays where it is."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from fake_pci import FakePci, Plugged, bring, devices
from hypothesis import given, settings
from hypothesis import strategies as st

A, B = "0000:01:00.0", "0000:02:00.0"
DISK, PART = "nvme0n1", "nvme0n1p2"
UIO = "uio_pci_generic"


def mount(host: FakePci, number: str, point: str, source: str = "none", pid: str = "900") -> None:
    host.process(pid, mounts=f"42 22 {number} / {point} rw - xfs {source} rw\n")


def mount_btrfs(host: FakePci, label: str) -> None:
    """A mount whose number and source say nothing about this disk."""
    host.put(f"/sys/fs/btrfs/1234/devices/{DISK}", "")
    host.put("/sys/fs/btrfs/1234/label", f"{label}\n")


def mount_array(host: FakePci, point: str) -> None:
    host.hold(PART, "md0", md__level="raid1\n")
    mount(host, "252:7", point)


def sign(host: FakePci, name: str, kind: str, usage: str = "filesystem", label: str | None = None) -> None:
    host.signatures[f"/dev/{name}"] = [{"type": kind, "usage": usage, **({"label": label} if label else {})}]


def swap(host: FakePci, path: str) -> None:
    host.put("/proc/swaps", f"Filename\tType\tSize\tUsed\tPriority\n{path} partition 262140 0 -2\n")


LIVE: dict[str, Callable[[FakePci], None]] = {
    f"/dev/{PART} is mounted at /srv": lambda host: mount(host, "259:2", "/srv"),
    f"/dev/{DISK} is mounted at /a b": lambda host: mount(host, "259:0", "/a\\040b"),
    f"/dev/{DISK} is mounted at /of/a/service": lambda host: mount(host, "0:44", "/of/a/service", f"/dev/{DISK}"),
    f"/dev/{PART} is mounted at /: the system runs from it": lambda host: mount(host, "259:2", "/"),
    f"/dev/{PART} is used as swap": lambda host: swap(host, f"/dev/{PART}"),
    f"/dev/{PART} is an LVM physical volume of vg-data, and its logical volume lv_1 is active": lambda host: host.hold(
        PART, "dm-0", dm__name="vg--data-lv_1\n", dm__uuid="LVM-abc\n"
    ),
    f"/dev/{DISK} holds the encrypted volume secret, which is open": lambda host: host.hold(
        DISK, "dm-0", dm__name="secret\n", dm__uuid="CRYPT-LUKS2-abc\n"
    ),
    f"/dev/{DISK} is a path of the multipath device mpatha": lambda host: host.hold(
        DISK, "dm-0", dm__name="mpatha\n", dm__uuid="mpath-3600\n"
    ),
    f"/dev/{DISK} is part of the device-mapper device odd": lambda host: host.hold(
        DISK, "dm-0", dm__name="odd\n", dm__uuid="\n"
    ),
    f"/dev/{PART} is a member of the md array md0": lambda host: host.hold(PART, "md0", md__level="raid1\n"),
    f"/dev/{DISK} is part of the bcache device bcache0": lambda host: host.hold(DISK, "bcache0", bcache__x=""),
    f"/dev/{DISK} is mounted at other places, as part of the btrfs pool": lambda host: mount_btrfs(host, "pool"),
    f"/dev/{PART} is open in process 812 of ": lambda host: host.process("812", opens=f"/dev/{PART}"),
    "/dev/nvme0 is open in process 812 of ": lambda host: host.process("812", opens="/dev/nvme0"),
    f"/dev/{DISK}, or a partition of it, is claimed": lambda host: host.claimed.add(DISK),
    f"/dev/{DISK} cannot be read (Input/output error)": lambda host: host.signatures.update(
        {f"/dev/{DISK}": "Input/output error"}
    ),
    "/dev/md0, which is on /dev/nvme0n1p2, is mounted at /srv": lambda host: mount_array(host, "/srv"),
}
"""What is said -> how the disk is used: nobody can want that away."""

CONTENT: dict[str, Callable[[FakePci], None]] = {
    f"/dev/{PART} is an LVM physical volume of vg_data": lambda host: sign(host, PART, "LVM2_member", "raid"),
    f"/dev/{DISK} has a file system, ext4 (label files)": lambda host: sign(host, DISK, "ext4", label="files"),
    f"/dev/{DISK} is a member of the md array vm:0": lambda host: sign(
        host, DISK, "linux_raid_member", "raid", label="vm:0"
    ),
    f"/dev/{PART} is swap space": lambda host: sign(host, PART, "swap", "other"),
    f"/dev/{DISK} is part of a ZFS pool (label tank)": lambda host: sign(host, DISK, "zfs_member", label="tank"),
    f"/dev/{DISK} is an encrypted volume (LUKS)": lambda host: sign(host, DISK, "crypto_LUKS", "crypto"),
    f"/dev/{DISK} has a partition table, gpt": lambda host: host.signatures.update(
        {f"/dev/{DISK}": [{"type": kind, "usage": "partition-table"} for kind in ("gpt", "gpt", "PMBR")]}
    ),
    f"/dev/{DISK} is a member of a RAID, isw_raid_member": lambda host: sign(host, DISK, "isw_raid_member", "raid"),
    f"/dev/{DISK} has a signature of minix": lambda host: sign(host, DISK, "minix", "unheard-of"),
}
"""What is said -> what is on the disk: who knows it may give it up."""


def with_disks(root: Path) -> FakePci:
    host = FakePci(root)
    host.plug(Plugged(A, "S-A", parts=2))
    host.plug(Plugged(B, "S-B"))
    return host


@pytest.fixture
def host(tmp_path: Path) -> FakePci:
    return with_disks(tmp_path)


def refusal(host: FakePci, **declared: str) -> str:
    with pytest.raises(HostError) as error:
        bring(host, {"address": A, **declared})
    assert host.driver(A) == "nvme"
    return str(error.value)


@pytest.mark.parametrize("says", LIVE)
def test_a_disk_that_is_used_is_refused_whoever_wants_it(host: FakePci, says: str) -> None:
    LIVE[says](host)
    expected = f"{A} (nvme0, serial S-A): not bound to {UIO} because {says}"
    assert expected in refusal(host) or f" and {says}" in refusal(host)
    assert says in refusal(host, wipe_ok_serial="S-A")


@pytest.mark.parametrize("says", CONTENT)
def test_a_disk_with_something_on_it_is_refused_unless_its_serial_number_is_said(host: FakePci, says: str) -> None:
    CONTENT[says](host)
    assert refusal(host) == (
        f"{A} (nvme0, serial S-A): not bound to {UIO} because {says}. "
        "If that may be lost, set wipe_ok_serial to S-A. Nothing was changed."
    )
    assert "wipe_ok_serial is S-B, which is another disk" in refusal(host, wipe_ok_serial="S-B")
    bring(host, {"address": A, "wipe_ok_serial": "S-A"})
    assert host.driver(A) == UIO


def test_several_signatures_are_all_named(host: FakePci) -> None:
    host.signatures[f"/dev/{DISK}"] = [{"type": kind, "usage": "filesystem"} for kind in ("ext4", "zonefs")]
    assert "has a file system, ext4 and /dev/nvme0n1 has a file system, zonefs" in refusal(host)


def test_of_a_disk_with_used_partitions_its_partition_table_is_no_news(host: FakePci) -> None:
    sign(host, DISK, "gpt", "partition-table")
    sign(host, PART, "xfs")
    assert f"because /dev/{PART} has a file system, xfs. If" in refusal(host)


def test_a_disk_without_a_serial_number_cannot_be_given_up(host: FakePci) -> None:
    host.unplug(A)
    host.plug(Plugged(A, ""))
    sign(host, DISK, "xfs")
    assert "If that may be lost, remove that with wipefs." in refusal(host)


def test_a_controller_that_does_not_answer_is_refused(host: FakePci) -> None:
    host.put(f"/sys/devices/pci0000:00/{A}/nvme/nvme0/state", "dead\n")
    assert "its controller is dead" in refusal(host, wipe_ok_serial="S-A")


def test_without_wipefs_nothing_is_taken(host: FakePci, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(words: list[str]) -> tuple[int, str, str]:
        return (127, "", f"{words[0]} is not installed") if words[0] == "wipefs" else (0, "", "")

    monkeypatch.setattr(FakePci, "__call__", lambda _self, words: missing(words))
    assert f"/dev/{DISK} cannot be read (wipefs is not installed)" in refusal(host)


def test_a_namespace_with_several_ways_is_a_disk_of_each_controller(host: FakePci) -> None:
    shared = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0"
    host.put(f"{shared}/nvme0n1/dev", "259:9\n")
    for controller in ("nvme0", "nvme1"):
        host.put(f"{shared}/{controller}", "")
    for directory in ("/sys/block", "/sys/class/block"):
        host.link(f"{directory}/nvme0n1", host.path(f"{shared}/nvme0n1"))
    assert [devices(host).devices()[address].disks for address in (A, B)] == [("nvme0n1",), ("nvme0n1", "nvme1n1")]
    mount(host, "259:9", "/srv")
    with pytest.raises(HostError, match="/dev/nvme0n1 is mounted at /srv"):
        bring(host, {"address": B})


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from((A, B)), st.sampled_from(sorted({*LIVE, *CONTENT})), min_size=1))
def test_either_all_are_taken_or_none_is_touched(uses: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as root:
        host = with_disks(Path(root))
        if A in uses:
            {**LIVE, **CONTENT}[uses[A]](host)
        else:
            host.claimed.add(host.disk(B))
        with pytest.raises(HostError):
            bring(host, {"address": A}, {"address": B})
        assert (host.driver(A), host.driver(B), host.told) == ("nvme", "nvme", [])
