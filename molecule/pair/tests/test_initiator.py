# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The initiator after a reboot and a changed inventory, as its users see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

BASE = "iqn.2016-06.io.spdk"


def test_the_volume_is_mounted_after_a_reboot_with_what_was_written_to_it(host: Host) -> None:
    mount = host.mount_point("/srv/files")
    assert (mount.exists, mount.filesystem) == (True, "ext4")
    assert host.run("cd /srv/files && sha256sum --check data.sum && cmp data copy").rc == 0


def test_it_is_mounted_by_its_uuid_after_the_network(host: Host) -> None:
    (line,) = [line for line in host.file("/etc/fstab").content_string.splitlines() if "/srv/files" in line]
    assert line.startswith("UUID=")
    assert "_netdev" in line


@pytest.mark.parametrize(
    ("target", "lun", "size"), [("files", 0, 48 << 20), ("memory", 0, 8 << 20), ("memory", 1, 8 << 20)]
)
def test_grown_and_new_luns_are_there(host: Host, target: str, lun: int, size: int) -> None:
    portal = {"files": "10.9.0.1:3260", "memory": "fd09::1:3260"}[target]
    link = f"/dev/disk/by-path/ip-{portal}-iscsi-{BASE}:{target}-lun-{lun}"
    assert host.check_output("blockdev --getsize64 %s", link) == str(size)


def test_there_is_one_session_for_each_target_that_is_wanted(host: Host) -> None:
    said = host.check_output("iscsiadm -m session")
    assert sorted(line.split()[3] for line in said.splitlines()) == [f"{BASE}:files", f"{BASE}:memory"]


def test_a_volume_that_was_pruned_left_nothing(host: Host) -> None:
    assert not host.mount_point("/srv/scratch").exists
    assert "/srv/scratch" not in host.file("/etc/fstab").content_string
    assert host.run("ls /etc/iscsi/nodes/*scratch*").rc != 0


def test_only_root_can_read_the_records(host: Host) -> None:
    modes = host.check_output("find /etc/iscsi/nodes -type f -printf '%%m\\n'").split()
    assert set(modes) == {"600"}


def test_no_secret_is_in_the_journal(host: Host) -> None:
    assert host.run("journalctl --no-pager | grep -e client-proves -e storage-proves").rc != 0
