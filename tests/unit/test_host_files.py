# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of the administrator's, some of which hold secrets: what is replaced, and what is left where it cannot be."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host


def test_a_file_keeps_the_bytes_that_are_no_text(tmp_path: Path) -> None:
    host, path = Host(str(tmp_path)), tmp_path / "fstab"
    path.write_bytes(b"# caf\xe9\n")
    host.save("/fstab", f"{host.read('/fstab')}UUID=7 /srv\n")
    assert path.read_bytes() == b"# caf\xe9\nUUID=7 /srv\n"


def test_a_secret_is_private_even_where_the_file_was_not(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_text("old")
    path.chmod(0o644)
    Host(str(tmp_path)).save("/record", "secret", 0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_left_of_a_file_that_cannot_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "record").mkdir()
    with pytest.raises(HostError, match=r"^/record: "):
        Host(str(tmp_path)).save("/record", "secret", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["record"]
