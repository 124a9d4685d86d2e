# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The initiator after a reboot and a changed inventory, as its users see it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from vm.machine import Machine

if TYPE_CHECKING:
    from testinfra.host import Host

BASE = "iqn.2016-06.io.spdk"
PORTALS = {"data": "10.9.0.1:3260", "files": "10.9.0.1:3260", "memory": "fd09::1:3260"}
"""As the links of udev have them."""


def _link(target: str, lun: int) -> str:
    return f"/dev/disk/by-path/ip-{PORTALS[target]}-iscsi-{BASE}:{target}-lun-{lun}"


def test_the_volume_is_mounted_after_a_reboot_with_what_was_written_to_it(host: Host) -> None:
    mount = host.mount_point("/srv/data")
    assert (mount.exists, mount.filesystem) == (True, "ext4")
    assert host.run("cd /srv/data && sha256sum --check data.sum && cmp data copy.1").rc == 0


def test_it_is_mounted_by_its_uuid_after_the_network(host: Host) -> None:
    (line,) = [line for line in host.file("/etc/fstab").content_string.splitlines() if "/srv/data" in line]
    assert line.startswith("UUID=")
    assert "_netdev" in line


def test_it_is_an_nvme_disk_that_the_engine_drives(host: Host) -> None:
    assert host.check_output("blockdev --getsize64 %s", _link("data", 0)) == str(64 << 20)
    driver = Machine("storage").run("basename $(realpath /sys/bus/pci/devices/0000:01:00.0/driver)")
    assert driver.strip() == "uio_pci_generic"


@pytest.mark.parametrize(
    ("target", "lun", "size"), [("files", 0, 24 << 20), ("memory", 0, 8 << 20), ("memory", 1, 8 << 20)]
)
def test_grown_and_new_luns_are_there(host: Host, target: str, lun: int, size: int) -> None:
    assert host.check_output("blockdev --getsize64 %s", _link(target, lun)) == str(size)


def test_there_is_one_session_for_each_target_that_is_wanted(host: Host) -> None:
    said = host.check_output("iscsiadm -m session")
    assert sorted(line.split()[3] for line in said.splitlines()) == [f"{BASE}:{name}" for name in PORTALS]


def test_what_they_send_has_checksums_and_both_sides_proved_who_they_are(host: Host) -> None:
    said = host.check_output("iscsiadm -m session -P 2")
    for digest in ("HeaderDigest", "DataDigest"):
        assert re.findall(rf"{digest}: (\S+)", said) == ["CRC32C"] * len(PORTALS)
    proofs = {each.partition(" ")[0]: each for each in said.split("Target: ")[1:]}
    for name, proof in (("username", "client"), ("username_in", "storage")):
        assert re.search(rf"^\s*{name}: {proof}$", proofs[f"{BASE}:files"], re.MULTILINE)


def test_a_volume_that_was_pruned_left_nothing(host: Host) -> None:
    assert not host.mount_point("/srv/scratch").exists
    assert "/srv/scratch" not in host.file("/etc/fstab").content_string
    assert host.run("ls /etc/iscsi/nodes/*scratch*").rc != 0


def test_only_root_can_read_the_records(host: Host) -> None:
    modes = host.check_output("find /etc/iscsi/nodes -type f -printf '%m\\n'").split()
    assert set(modes) == {"600"}


def test_no_secret_is_in_the_journal(host: Host) -> None:
    assert host.run("journalctl --no-pager | grep -e client-proves -e storage-proves").rc != 0
