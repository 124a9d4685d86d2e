# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The purge playbook: shows what goes, does nothing unless it is confirmed, and keeps the files of disks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from role_play import Place

PURGE = "openlun.iscsi.purge"


@pytest.fixture
def place() -> Iterator[Place]:
    """A host that serves a disk."""
    place = Place()
    place.play()
    yield place
    place.remove()


def test_it_shows_the_plan_and_refuses_until_it_is_confirmed(place: Place) -> None:
    for flags, fails in ((["--check"], False), ([], True)):
        shown = place.play(*flags, book=PURGE, fails=fails).output
        assert "delete target node iqn.2016-06.io.spdk:disk0" in shown
        assert f"keep file {place.disk}, disk0" in shown
        assert "stop engine" in shown
        assert ("Not confirmed, so nothing was removed" in shown) == fails
    assert place.play().changed == 0

    place.play(book=PURGE, iscsi_target_purge_confirmed="true")
    assert not place.home.exists()
    assert place.disk.stat().st_size == 8 << 20

    again = place.play(book=PURGE, iscsi_target_purge_confirmed="true")
    assert again.changed == 0
    assert "There is nothing to remove." in again.output


def test_files_of_disks_go_only_when_it_is_said(place: Place) -> None:
    variables: dict[str, Any] = {"iscsi_target_purge_confirmed": "true", "iscsi_target_remove_files": "true"}
    assert f"remove file {place.disk}, disk0" in place.play(book=PURGE, **variables).output
    assert not place.home.exists()
    assert not place.disk.exists()
