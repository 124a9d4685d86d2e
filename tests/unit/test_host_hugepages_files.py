# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hugepages after a boot: the files that declare them, and the files of others that are in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.memlock import memlock_file
from ansible_collections.openlun.iscsi.plugins.module_utils._host.owned_files import MARKER
from fake_hugepages import FakeKernel, bring

SYSCTL = "/etc/sysctl.d/60-openlun-iscsi-hugepages.conf"
TMPFILES = "/etc/tmpfiles.d/openlun-iscsi-hugepages-2048kB.conf"
LARGE = "/etc/tmpfiles.d/openlun-iscsi-hugepages-1048576kB.conf"
NODE = "/sys/devices/system/node/node{}/hugepages/hugepages-2048kB/nr_hugepages"


@pytest.fixture
def host(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path, nodes=2)


def test_a_total_of_the_default_size_is_a_sysctl(host: FakeKernel) -> None:
    assert bring(host, pages={"2M": 8})["files"] == [SYSCTL]
    assert host.get(SYSCTL) == f"{MARKER}\nvm.nr_hugepages = 8\n"


def test_single_nodes_and_other_sizes_are_tmpfiles(host: FakeKernel) -> None:
    assert bring(host, pages={"2M": {1: 8}, "1G": 1})["files"] == [LARGE, TMPFILES]
    assert host.get(TMPFILES) == f"{MARKER}\nw {NODE.format(1)} - - - - 8\n"


def test_a_size_has_one_file_at_a_time(host: FakeKernel) -> None:
    bring(host, pages={"2M": 8})
    assert bring(host, pages={"2M": {0: 4}})["files"] == [TMPFILES]
    assert bring(host, pages={"2M": 8})["files"] == [SYSCTL]


def test_a_node_that_is_not_named_stays_declared(host: FakeKernel) -> None:
    bring(host, pages={"2M": {1: 8}})
    bring(host, pages={"2M": {0: 2}})
    assert [line.split()[-1] for line in host.get(TMPFILES).splitlines()[1:]] == ["8", "2"]


def test_what_is_not_to_persist_is_not_declared_any_more(host: FakeKernel) -> None:
    bring(host, pages={"2M": 8})
    result = bring(host, pages={"2M": 8}, persistent=False)
    assert result["files"] == []
    assert host.pages() == 8


@pytest.mark.parametrize("path", [SYSCTL, TMPFILES])
def test_a_file_of_somebody_else_is_not_touched(host: FakeKernel, path: str) -> None:
    host.put(path, "# mine\n")
    with pytest.raises(HostError, match=r"was not written by openlun\.iscsi"):
        bring(host, pages={"2M": 8})
    assert host.get(path) == "# mine\n"
    assert host.pages() == 0


@pytest.mark.parametrize(
    ("path", "text", "overrides"),
    [
        ("/etc/sysctl.d/90-x.conf", "vm.nr_hugepages = 5\n", True),
        ("/etc/sysctl.d/90-x.conf", "-vm/nr_hugepages=5\n", True),
        ("/usr/lib/sysctl.d/90-x.conf", "vm.nr_hugepages = 5\n", True),
        ("/etc/sysctl.conf", "vm.nr_hugepages = 5\n", True),
        ("/etc/tmpfiles.d/x.conf", "w /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages - - - - 5\n", True),
        ("/etc/sysctl.d/90-x.conf", "vm.nr_hugepages = 5\nvm.nr_hugepages = 8\n", False),
        ("/etc/sysctl.d/10-x.conf", "vm.nr_hugepages = 5\n", False),
        ("/etc/sysctl.d/90-x.conf", "# vm.nr_hugepages = 5\nvm.swappiness = 1\n", False),
        ("/etc/sysctl.d/90-x", "vm.nr_hugepages = 5\n", False),
    ],
)
def test_files_that_override_ours_at_boot_are_named(host: FakeKernel, path: str, text: str, overrides: bool) -> None:
    host.put(path, text)
    result = bring(host, pages={"2M": 8})
    assert [each["path"] for each in result["overrides"]] == ([path] if overrides else [])
    assert len(result["warnings"]) == overrides


def test_of_one_name_only_the_file_in_etc_counts(host: FakeKernel) -> None:
    host.put("/usr/lib/sysctl.d/90-x.conf", "vm.nr_hugepages = 5\n")
    host.put("/etc/sysctl.d/90-x.conf", "")
    assert bring(host, pages={"2M": 8})["overrides"] == []


@pytest.mark.parametrize(("node", "overrides"), [(0, 1), (1, 0)])
def test_pages_of_a_node_are_overridden_only_there(host: FakeKernel, node: int, overrides: int) -> None:
    host.put("/etc/tmpfiles.d/x.conf", f"w {NODE.format(node)} - - - - 5\n")
    assert len(bring(host, pages={"2M": {0: 8}})["overrides"]) == overrides


@pytest.mark.parametrize(
    ("pages", "command_line", "lacks"),
    [
        ({"1G": 2}, "quiet", ["hugepagesz=1G", "hugepages=2"]),
        ({"1G": {0: 1, 1: 2}}, "quiet", ["hugepagesz=1G", "hugepages=0:1,1:2"]),
        ({"1G": 2}, "hugepagesz=1G hugepages=2", []),
        ({"1G": 2}, "hugepagesz=1G hugepages=3", ["hugepagesz=1G", "hugepages=2"]),
        ({"1G": 2}, "hugepages=2", ["hugepagesz=1G", "hugepages=2"]),
        ({"1G": 2}, "hugepagesz=nonsense hugepages=2", ["hugepagesz=1G", "hugepages=2"]),
        ({"1G": 0}, "quiet", []),
        ({"2M": 2}, "quiet", []),
    ],
)
def test_boot_parameters_are_told_until_they_are_there(
    host: FakeKernel, pages: dict[str, Any], command_line: str, lacks: list[str]
) -> None:
    host.put("/proc/cmdline", command_line + "\n")
    assert bring(host, pages=pages)["boot_parameters"] == lacks


@pytest.mark.parametrize(("limit", "value"), [("unlimited", "unlimited"), ("1GiB", "1048576")])
def test_a_user_may_lock_memory(limit: str, value: str) -> None:
    path, text = memlock_file("db", limit)
    assert path == "/etc/security/limits.d/openlun-iscsi-memlock-db.conf"
    assert text == f"db soft memlock {value}\ndb hard memlock {value}\n"


@pytest.mark.parametrize("user", ["", "../x", "a b", "*", "a\nroot"])
def test_no_user_of_that_name(user: str) -> None:
    with pytest.raises(HostError, match="is no name of a user"):
        memlock_file(user, "unlimited")


def test_absent_removes_our_files_and_no_others(host: FakeKernel) -> None:
    host.put("/etc/security/limits.d/openlun-iscsi-memlock-other.conf", "other hard memlock 1\n")
    host.put("/etc/systemd/system/other.mount", f"{MARKER}\n[Mount]\nWhat=x\n")
    bring(host, pages={"2M": 8}, memlock_user="db", mount={"path": "/huge", "mode": "0700"})
    bring(host, absent=True)
    left = {
        path.name
        for path in Path(host.path("/etc")).rglob("*")
        if path.is_symlink() or path.is_file() or "wants" in path.name
    }
    assert left == {"openlun-iscsi-memlock-other.conf", "other.mount"}
