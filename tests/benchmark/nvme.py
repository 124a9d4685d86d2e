# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the engine's NVMe driver with the kernel's, in a virtual machine with two NVMe disks, one for each.

Prints a table of medians; writes build/bench/nvme.json. Emulation decides much of it, so look at the ratios, and there
is no threshold: it informs, it does not judge.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from vm.hardware import KINDS, Disk
from vm.machine import Machine

ROOT: Final = Path(__file__).resolve().parents[2]
OURS, THEIRS = Disk(0, "bench0"), Disk(1, "bench1")
_DRIVERS: Final = {"uio": "uio_pci_generic", "vfio": "vfio-pci"}
_PREPARE: Final = """
modprobe {driver}
echo 40 >/proc/sys/vm/nr_hugepages
echo {driver} >/sys/bus/pci/devices/{address}/driver_override
echo {address} >/sys/bus/pci/devices/{address}/driver/unbind
echo {address} >/sys/bus/pci/drivers_probe
ls /sys/bus/pci/devices/{theirs}/nvme/*/ | grep -o 'nvme[0-9]*n1$'
"""


def measure(kind: str, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """The samples that the guest printed."""
    machine = Machine("bench-nvme")
    machine.down()
    machine.up(KINDS[kind])
    try:
        for disk in (OURS, THEIRS):
            machine.plug(disk)
        machine.put(ROOT / "build/openlun-iscsi.pyz", "/root/openlun-iscsi.pyz")
        machine.put(ROOT / "tests/benchmark/nvme_guest.py", "/root/nvme_guest.py")
        prepare = _PREPARE.format(driver=_DRIVERS[kind], address=OURS.address, theirs=THEIRS.address)
        name = machine.run(prepare).split()[-1]
        command = f"python3 /root/nvme_guest.py {OURS.address} /dev/{name} {rounds} {seconds}"
        printed = machine.run(command, timeout=600 + rounds * seconds * 60)
    finally:
        machine.down()
    return [json.loads(line) for line in printed.splitlines()]


def table(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a kind of work: the medians, and how many times the kernel's ours is."""
    rows = []
    for work in dict.fromkeys(sample["work"] for sample in samples):
        rates = {
            driver: statistics.median(
                sample["rate"] for sample in samples if (sample["work"], sample["driver"]) == (work, driver)
            )
            for driver in ("user space", "kernel")
        }
        rows.append({"work": work, **rates, "ratio": rates["user space"] / rates["kernel"]})
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round: does it work, roughly how fast")
    parser.add_argument("--kind", choices=KINDS, default="uio", help="vfio: by interrupts, behind an IOMMU")
    parser.add_argument("--rounds", type=int, help="rounds to take the median of (default 5)")
    parser.add_argument("--seconds", type=float, help="seconds a measurement (default 3)")
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 5)
    seconds = options.seconds or (1 if options.quick else 3)
    facts = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{len(os.sched_getaffinity(0))} cores; QEMU, software emulation, driver {_DRIVERS[options.kind]}",
        "load at start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "rounds": f"{rounds}, {seconds} s a measurement, medians",
    }
    samples = measure(options.kind, rounds, seconds)
    rows = table(samples)
    for key, value in facts.items():
        print(f"{key}: {value}")
    print(f"\n{'operations a second':32}{'user space':>12}{'kernel':>10}{'ratio':>8}")
    for row in rows:
        print(f"{row['work']:32}{row['user space']:12.0f}{row['kernel']:10.0f}{row['ratio']:7.2f}×")
    (ROOT / "build/bench").mkdir(parents=True, exist_ok=True)
    results = {"facts": facts, "table": rows, "samples": samples}
    (ROOT / "build/bench/nvme.json").write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
