# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight finds out about a host."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._host.addresses import host_addresses, is_local
from ansible_collections.openlun.iscsi.plugins.module_utils._host.listeners import holder, is_taken
from ansible_collections.openlun.iscsi.plugins.module_utils._host.preflight import (
    declared_directories,
    declared_portals,
    file_problems,
    portal_problems,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._state.portals import Portal, parse_portal
from engine_process import free_port

NOWHERE = "192.0.2.77"  # RFC 5737: documentation only


def test_the_loopback_address_is_among_those_of_the_host() -> None:
    assert ("127.0.0.1", "lo") in host_addresses()


@pytest.mark.parametrize(("address", "local"), [("127.0.0.1", True), ("0.0.0.0", True), (NOWHERE, False)])
def test_an_address_is_local_or_not(address: str, local: bool) -> None:
    assert is_local(address) == local


@pytest.mark.parametrize("wanted", ["127.0.0.1", "0.0.0.0"])
def test_who_listens_is_named(wanted: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        assert is_taken(wanted, port)
        assert holder(wanted, port).startswith(f"process {os.getpid()} of ")


def test_a_listener_on_another_address_is_not_in_the_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_taken("127.0.0.2", server.getsockname()[1])


def test_a_listener_without_a_process_is_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    row = "   0: 0100007F:0CBC 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 777 1 0 100 0\n"
    (tmp_path / "net/tcp").write_text("header\n" + row)
    taken_by = holder("127.0.0.1", 3260, str(tmp_path))
    assert ("kernel" if os.geteuid() == 0 else "another user") in taken_by
    assert "gone" in holder("127.0.0.1", 3261, str(tmp_path))


def test_an_address_of_another_host_is_a_problem_that_lists_our_own() -> None:
    (problem,) = portal_problems([Portal(NOWHERE, 3260)], [])
    assert problem.startswith(f"portal {NOWHERE}:3260: this host has no such address. It has ")
    assert "127.0.0.1 (lo)" in problem


def test_a_taken_port_is_a_problem_unless_the_engine_itself_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        wanted = Portal("127.0.0.1", server.getsockname()[1])
        (problem,) = portal_problems([wanted], [])
        assert problem.startswith(f"portal {wanted}: the port is taken by process {os.getpid()} of ")
        assert list(portal_problems([wanted], [Portal("0.0.0.0", wanted.port)])) == []


def test_who_is_gone_a_moment_later_has_not_taken_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        wanted = Portal("127.0.0.1", server.getsockname()[1])
        monkeypatch.setattr(time, "sleep", lambda _seconds: server.close())
        assert list(portal_problems([wanted], [])) == []


def test_a_free_port_is_no_problem() -> None:
    assert list(portal_problems([Portal("127.0.0.1", free_port())], [])) == []


def test_only_portals_that_shall_be_there_count() -> None:
    groups: list[dict[str, Any]] = [
        {"tag": 1, "portals": ["127.0.0.1", "not a portal"]},
        {"tag": 2, "portals": ["127.0.0.1:3261"], "state": "absent"},
        {"tag": 3},
    ]
    assert declared_portals(groups) == [parse_portal("127.0.0.1:3260")]


def test_files_that_do_not_fit_are_a_problem(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "disk.img")
    (problem,) = file_problems([{"name": "d", "path": path, "size": "8192TiB"}])
    assert problem.startswith(f"{path}: needs 8388608.0 GiB, and the file system has ")


@pytest.mark.parametrize(
    "change", [{"sparse": True}, {"state": "absent"}, {"size": "1MiB"}, {"path": "/dev/sdz"}, {"size": "a lot"}]
)
def test_what_takes_no_room_is_no_problem(tmp_path: Path, change: dict[str, object]) -> None:
    bdev = {"name": "d", "path": str(tmp_path / "disk.img"), "size": "8192TiB", **change}
    assert list(file_problems([bdev])) == []


def test_room_that_a_file_has_already_is_not_wanted_again(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(1 << 43)
    assert list(file_problems([{"name": "d", "path": str(path), "size": 1 << 43}])) == []


def test_directories_are_those_of_files_not_of_devices() -> None:
    bdevs = [{"name": "a", "path": "/srv/b/a.img"}, {"name": "b", "path": "/dev/sdb"}, {"name": "c", "type": "malloc"}]
    assert declared_directories(bdevs) == ["/srv/b"]
