# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target's host as a user of it sees it, after a reboot."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testinfra.host import Host

UNIT = "openlun-iscsi.service"


def test_the_service_started_at_boot_and_was_never_restarted(host: Host) -> None:
    shown = host.check_output("systemctl show %s -p ActiveState -p UnitFileState -p NRestarts", UNIT).split()
    assert sorted(shown) == ["ActiveState=active", "NRestarts=0", "UnitFileState=enabled"]


def test_the_configuration_came_back(host: Host) -> None:
    said = host.check_output("iscsi-ls -s iscsi://127.0.0.1")
    assert "iqn.2016-06.io.spdk:disk0" in said
    assert "Lun:1" in said.replace(" ", "")


def test_the_engine_is_root_and_gains_no_privileges(host: Host) -> None:
    """A driver in user space needs root. An engine without one has a user of its own: molecule/pair."""
    pid = host.check_output("systemctl show -P MainPID %s", UNIT)
    status = dict(line.split(":\t", 1) for line in host.check_output(f"cat /proc/{pid}/status").splitlines())
    assert host.check_output("systemctl show -P User %s", UNIT) == "root"
    assert status["NoNewPrivs"] == "1"


def test_hugepages_are_reserved_after_a_reboot(host: Host) -> None:
    assert host.file("/proc/sys/vm/nr_hugepages").content_string.strip() == "128"
