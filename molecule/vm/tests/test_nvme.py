# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An NVMe disk that the engine drives itself, and disks that nobody may take from the kernel."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from pdu import cdb
from vm.hardware import Disk
from vm.image import ROOT
from vm.machine import Machine
from vm.target import NAME, geometry, login

if TYPE_CHECKING:
    from testinfra.host import Host

LUN: Final = 2
DRIVER: Final = {"uio": "uio_pci_generic", "vfio": "vfio-pci"}[os.environ.get("VM_KIND", "uio")]
WRITTEN: Final = 4 << 20
"""Bytes at the disk's start that the kernel reads back when it has the disk again; see cleanup.yml."""
IN_USE: Final = {
    1: ("ext4",),
    2: ("LVM", "vg_data"),
    3: ("md0",),
    4: ("swap",),
    5: ("/mnt/mounted",),
}
"""What is said of the disk in each slot; see prepare.yml."""


def _address(slot: int) -> str:
    return f"0000:{slot + 1:02x}:00.0"


def _driver(host: Host, slot: int) -> str:
    return Path(host.check_output(f"readlink /sys/bus/pci/devices/{_address(slot)}/driver")).name


def test_the_disk_has_its_driver_after_a_reboot(host: Host) -> None:
    assert _driver(host, 0) == DRIVER
    assert host.check_output("systemctl is-active openlun-iscsi-pci.service") == "active"


def test_disks_in_use_are_refused_by_name(host: Host) -> None:
    slots = range(1, int(os.environ.get("VM_DISKS", "2")))
    declared = [{"address": _address(slot), "driver": DRIVER} for slot in (0, *slots)]
    variables = json.dumps({"iscsi_target_pci_devices": declared})
    command = ["ansible-playbook", "--inventory", str(ROOT / "build/vm/inventory.json"), "--extra-vars", variables]
    done = subprocess.run(
        [*command, str(ROOT / "molecule/vm/converge.yml")],
        env={name: value for name, value in os.environ.items() if name != "VM_RECORDS"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 2, said  # a host failed
    for slot in slots:
        (reason,) = set(re.findall(rf"{_address(slot)} \([^)]*\): not bound to {DRIVER} because [^.]*\.", said))
        assert [word for word in IN_USE[slot] if word not in reason] == []
        assert _driver(host, slot) == "nvme"


@pytest.mark.skipif(os.environ.get("VM_DISKS", "2") == "2", reason="left out of the short run")
def test_a_disk_that_was_unplugged_is_taken_again(host: Host) -> None:
    machine, disk = Machine(NAME), Disk(6, "unplugged")

    def bring(driver: str) -> list[str]:
        devices = [{"serial": disk.serial, "driver": driver}]
        result = host.ansible("openlun.iscsi.pci_driver", json.dumps({"devices": devices}), check=False)
        return [step["action"] for step in result["actions"]]

    machine.plug(disk)
    assert "bind" in bring(DRIVER)
    machine.unplug(disk.slot)
    machine.plug(disk)
    assert bring(DRIVER) == ["bind"]
    assert _driver(host, disk.slot) == DRIVER
    assert bring("kernel") == ["bind", "edit"]
    machine.unplug(disk.slot)


def test_an_initiator_reads_what_it_wrote() -> None:
    data = random.Random(1).randbytes(WRITTEN)
    step = 1 << 18
    with login() as session:
        _blocks, size = geometry(session, LUN)
        for start in range(0, len(data), step):
            written = session.write(cdb.write_10(start // size, step // size), data[start : start + step], lun=LUN)
            assert (written.status, written.residual) == (0, (0, 0))
        assert session.execute(cdb.synchronize_cache_10(), lun=LUN).status == 0
        assert session.read(cdb.read_10(0, step // size), step, lun=LUN).data == data[:step]
    (ROOT / "build/vm/written").write_text(f"{hashlib.sha256(data).hexdigest()} {len(data)}\n")
