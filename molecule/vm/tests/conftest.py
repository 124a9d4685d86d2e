# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for all tests of a machine."""

from __future__ import annotations

import pytest
from pdu import initiator
from vm import target
from vm.image import ROOT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the role to take a disk from the kernel waits until it can."""
    if "iscsi_target_pci_devices:" in (ROOT / "roles/iscsi_target/defaults/main.yml").read_text():
        return
    for item in items:
        if item.get_closest_marker("nvme"):
            item.add_marker(pytest.mark.skip(reason="the role takes no disks from the kernel yet"))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initiator, "TIMEOUT", float(target.SECONDS))
