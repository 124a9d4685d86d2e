# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the engine's files go, and which manager runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._service.errors import ServiceError
from ansible_collections.openlun.iscsi.plugins.module_utils._service.layout import MAX_SOCKET_PATH, layout
from ansible_collections.openlun.iscsi.plugins.module_utils._service.manager import choose
from hypothesis import given
from hypothesis import strategies as st


def test_root_has_the_directories_of_the_system() -> None:
    paths = layout(None, None, 0, "/root")
    assert paths.socket == "/run/openlun-iscsi/rpc.sock"
    assert paths.state_dir == "/var/lib/openlun-iscsi"
    assert paths.archive == "/opt/openlun-iscsi/openlun-iscsi.pyz"


def test_others_have_everything_in_their_home() -> None:
    paths = layout(None, None, 1000, "/home/ann")
    assert paths.home == "/home/ann/.local/share/openlun-iscsi"
    assert {path.startswith(paths.home) for path in (*paths.directories, paths.socket, paths.pid_file)} == {True}


def test_a_home_gathers_everything_for_root_too() -> None:
    assert layout("/srv/t/", None, 0, "/root") == layout("/srv/t", None, 1000, "/home/ann")


def test_a_socket_elsewhere_does_not_make_its_directory_the_engines() -> None:
    paths = layout(None, "/var/tmp/spdk.sock", 0, "/root")
    assert "/var/tmp" in paths.directories
    assert "/var/tmp" not in paths.owned_directories


@given(st.text("ab/é", min_size=1, max_size=150))
def test_a_socket_is_accepted_exactly_when_the_system_can_bind_it(name: str) -> None:
    path = "/" + name.strip("/").replace("//", "_") + "x"
    if len(path.encode()) <= MAX_SOCKET_PATH:
        assert layout("/srv", path, 0, "/root").socket
    else:
        with pytest.raises(ServiceError, match="107"):
            layout("/srv", path, 0, "/root")


def test_a_relative_socket_is_refused() -> None:
    with pytest.raises(ServiceError, match=r"rpc\.sock: not an absolute path"):
        layout(None, "rpc.sock", 0, "/root")


@pytest.mark.parametrize(
    ("option", "uid", "booted", "manager"),
    [
        ("auto", 0, True, "systemd"),
        ("auto", 0, False, "process"),
        ("auto", 1000, True, "process"),
        ("process", 0, True, "process"),
        ("systemd", 0, False, "systemd"),
    ],
)
def test_the_manager_fits_the_host(tmp_path: Path, option: str, uid: int, booted: bool, manager: str) -> None:
    marker = tmp_path / "system"
    if booted:
        marker.mkdir()
    assert choose(option, uid, str(marker)) == manager
