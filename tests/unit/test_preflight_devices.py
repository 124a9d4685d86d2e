# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight says of bdevs that an engine drives itself, and of the devices behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._host.device_preflight import device_problems
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci import Request
from fake_pci import FakePci, Plugged, bring, devices

A, B = "0000:01:00.0", "0000:02:00.0"
UIO = "uio_pci_generic"


@pytest.fixture
def host(tmp_path: Path) -> FakePci:
    host = FakePci(tmp_path)
    host.plug(Plugged(A, "S-A"))
    host.plug(Plugged(B, "S-B"))
    return host


def problems(
    host: FakePci, *declared: dict[str, str], address: str = A, pages: int = 1, expect: bool = False, **bdev: Any
) -> list[str]:
    nvme = {"name": "NVMe1", "type": "nvme", "address": address, **bdev}
    others = [{"name": "disk0", "type": "aio", "path": "/srv/disk0.img"}]
    request = Request(declared, expect_modules=expect)
    return list(device_problems(devices(host), request, [*others, nvme], pages))


def test_a_device_that_will_be_taken_is_no_problem(host: FakePci) -> None:
    assert problems(host, {"address": A}) == []
    assert problems(host, {"serial": "S-A"}, address="01:00.0") == []
    assert host.told == []


def test_a_device_that_nobody_takes_is_a_problem(host: FakePci) -> None:
    (problem,) = problems(host, {"address": B})
    assert problem == (
        f"bdev NVMe1: its device {A} (nvme0, serial S-A) has nvme as its driver. Declare it in "
        "iscsi_target_pci_devices, to take it from the kernel."
    )
    assert problems(host, {"address": B}, state="absent") == []


def test_a_device_that_was_taken_by_somebody_else_is_no_problem(host: FakePci) -> None:
    bring(host, {"address": A})
    assert problems(host) == []


def test_a_device_that_is_given_back_cannot_be_served(host: FakePci) -> None:
    (problem,) = problems(host, {"address": A, "driver": "kernel"})
    assert "gives its device" in problem


def test_a_device_that_the_host_lacks_is_a_problem(host: FakePci) -> None:
    (problem,) = problems(host, address="0000:09:00.0")
    assert problem == (
        f"bdev NVMe1: this host has no PCI device 0000:09:00.0. Its storage controllers are: {A} (nvme0, serial S-A), "
        f"{B} (nvme1, serial S-B)."
    )


def test_a_disk_in_use_is_the_one_problem(host: FakePci) -> None:
    host.claimed = {"nvme0n1"}
    (problem,) = problems(host, {"address": A})
    assert problem.startswith(f"{A} (nvme0, serial S-A): not bound to {UIO} because /dev/nvme0n1, or a partition")


def test_without_hugepages_no_disk_can_be_driven(host: FakePci) -> None:
    (problem,) = problems(host, {"address": A}, pages=0)
    assert problem.startswith("bdev NVMe1: a driver in user space needs hugepages, and this host has none.")


def test_a_module_that_the_kernel_lacks_is_a_problem_unless_a_package_brings_it(host: FakePci) -> None:
    host.modules.clear()
    (problem,) = problems(host, {"address": A})
    assert f"has no module {UIO}" in problem
    assert problems(host, {"address": A}, expect=True) == []


def test_declarations_that_make_no_sense_are_a_problem(host: FakePci) -> None:
    (problem,) = problems(host, {"address": "first"})
    assert "'first' is no PCI address" in problem
