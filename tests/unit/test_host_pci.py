# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PCI devices and their drivers: taken, kept, moved, given back, and left alone when something fails."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_boot import PROGRAM, RECORD, UNIT, UNTIL_BOOT
from fake_pci import FakePci, Plugged, bring, devices

A, B, C = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"
UIO, VFIO = "uio_pci_generic", "vfio-pci"


@pytest.fixture
def host(tmp_path: Path) -> FakePci:
    host = FakePci(tmp_path)
    host.plug(Plugged(A, "S-A"))
    host.plug(Plugged(B, "S-B"))
    host.plug(Plugged(C, "S-C", model="Other disk"))
    return host


@pytest.fixture
def translated(tmp_path: Path) -> FakePci:
    """A host with an IOMMU."""
    host = FakePci(tmp_path)
    host.plug(Plugged(A, "S-A", group="5"))
    host.plug(Plugged(B, "S-B", group="6"))
    return host


def refusal(host: FakePci, *declared: dict[str, Any], **options: Any) -> str:
    """What is said against it, and that nothing was done."""
    before = {address: (host.driver(address), host.override(address)) for address in host.plugged}
    with pytest.raises(HostError) as error:
        bring(host, *declared, **options)
    assert {address: (host.driver(address), host.override(address)) for address in host.plugged} == before
    assert not host.exists(RECORD)
    return str(error.value)


def steps(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(step["action"], step["object"]) for step in result["actions"]]


def test_a_device_is_taken_and_a_second_run_does_nothing(host: FakePci) -> None:
    result = bring(host, {"address": A})
    assert result["actions"][:2] == [
        {"action": "load", "object": f"kernel module {UIO}", "why": "it is not loaded"},
        {"action": "bind", "object": f"PCI device {A}", "why": f"nvme → {UIO}"},
    ]
    assert (host.driver(A), host.driver(B), host.driver(C)) == (UIO, "nvme", "nvme")
    host.told.clear()
    assert not bring(host, {"address": A})["changed"]
    assert host.told == []


def test_check_mode_tells_what_a_run_does_and_does_nothing(host: FakePci, tmp_path: Path) -> None:
    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    for declared in ({"address": A}, {"serial": "S-A", "driver": "kernel"}):
        before = files()
        told = bring(host, declared, check=True)
        assert (files(), [words for words in host.commands if words[:2] == ["modprobe", "--"]]) == (before, [])
        done = bring(host, declared)
        assert told["changed"]
        assert (told["actions"], told["diff"]) == (done["actions"], done["diff"])
        again = bring(host, declared)
        assert done["diff"]["before"] != done["diff"]["after"] == again["diff"]["before"] == again["diff"]["after"]
        host.commands.clear()


def test_given_back_nothing_is_left(host: FakePci) -> None:
    bring(host, {"address": A}, {"address": B})
    bring(host, {"address": A, "driver": "kernel"})
    assert [host.driver(A), host.override(A)] == ["nvme", "(null)"]
    assert A not in host.read(RECORD)
    result = bring(host, {"serial": "S-B", "driver": "kernel"})
    assert ("disable", "unit openlun-iscsi-pci.service") in steps(result)
    assert not any(host.exists(path) for path in (RECORD, UNTIL_BOOT, PROGRAM, UNIT))
    assert host.names("/etc/systemd/system") == []


@pytest.mark.parametrize(
    "selector",
    [
        {"serial": "S-C"},
        {"model": "Other disk"},
        {"wwid": "eui.s-c"},
        {"address": "03:00.0"},
        {"class": "nvme", "serial": "S-C"},
    ],
)
def test_a_device_is_found_by_each_of_its_names_also_when_it_is_taken(host: FakePci, selector: dict[str, str]) -> None:
    assert bring(host, selector)["devices"][0]["address"] == C
    assert not bring(host, selector)["changed"]
    assert bring(host, {**selector, "driver": "kernel"})["changed"]
    assert host.driver(C) == "nvme"


def test_a_class_selects_all_its_devices(host: FakePci) -> None:
    bring(host, {"class": "0108"})
    assert {host.driver(address) for address in (A, B, C)} == {UIO}


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ([{"address": "3:0"}], "'3:0' is no PCI address"),
        ([{"class": "disks"}], "'disks' is no class"),
        ([{"driver": UIO}], "names no device"),
        ([{"serial": "S-D"}], f"serial S-D: this host has no such device. It has {A} (nvme0, serial S-A), "),
        ([{"address": A}, {"serial": "S-A", "driver": "kernel"}], "declared twice"),
    ],
)
def test_declarations_that_make_no_sense_are_named(host: FakePci, declared: list[dict[str, str]], says: str) -> None:
    assert says in refusal(host, *declared)


def test_a_serial_number_that_two_disks_have_is_ambiguous(host: FakePci) -> None:
    host.plug(Plugged("0000:04:00.0", "S-A"))
    assert "is not unique" in refusal(host, {"serial": "S-A"})


def test_what_is_no_storage_controller_is_refused(host: FakePci) -> None:
    host.plug(Plugged("0000:00:1b.0", "", kind="040300"))
    assert "it is no storage controller, but of class 040300" in refusal(host, {"address": "00:1b.0"})


def test_a_disk_behind_a_bridge_is_not_the_bridges(host: FakePci) -> None:
    host.plug(Plugged("0000:00:02.0", "", kind="060400"))
    bridge = Path(host.path("/sys/devices/pci0000:00/0000:00:02.0"))
    Path(host.path(f"/sys/devices/pci0000:00/{A}")).rename(bridge / A)
    host.link(f"/sys/bus/pci/devices/{A}", str(bridge / A))
    host.link("/sys/block/nvme0n1", str(bridge / A / "nvme/nvme0/nvme0n1"))
    found = devices(host).devices()
    assert (found["0000:00:02.0"].disks, found[A].disks) == ((), ("nvme0n1",))


def test_all_devices_are_looked_at_before_one_is_touched(host: FakePci) -> None:
    host.claimed = {host.disk(B), host.disk(C)}
    said = refusal(host, {"address": A}, {"address": B}, {"address": C})
    assert f"{B} (nvme1, serial S-B): not bound to {UIO}" in said
    assert f"{C} (nvme2, serial S-C): not bound to {UIO}" in said
    assert said.endswith("Nothing was changed.")


def test_when_one_cannot_be_bound_the_others_go_back(host: FakePci) -> None:
    host.refuses = {(UIO, C)}
    said = refusal(host, {"address": A}, {"address": B}, {"address": C})
    assert f"{C} (nvme2, serial S-C): not bound to {UIO} because the kernel bound no driver" in said
    assert "Everything is as it was before." in said


def test_a_disk_that_is_claimed_between_look_and_move_stays(host: FakePci, monkeypatch: pytest.MonkeyPatch) -> None:
    load = FakePci.load

    def mount_meanwhile(self: FakePci, driver: str) -> None:
        load(self, driver)
        self.claimed = {self.disk(A)}

    monkeypatch.setattr(FakePci, "load", mount_meanwhile)
    assert "because /dev/nvme0n1 is in use" in refusal(host, {"address": A})


def test_a_kernel_that_is_read_only_says_so(host: FakePci, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: FakePci, _path: str, _text: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(FakePci, "tell", refuse)
    said = refusal(host, {"address": A})
    assert "because Read-only file system. Everything is as it was before." in said


def test_a_disk_that_was_just_plugged_in_is_waited_for(host: FakePci, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = host.path("/sys/block/nvme0n1")
    hidden = Path(disk).rename(f"{host.root}/not-yet")
    state = f"/sys/devices/pci0000:00/{A}/nvme/nvme0/state"
    host.put(state, "resetting\n")

    def come(_seconds: float) -> None:
        if host.read(state) == "live\n":
            hidden.rename(disk)
        host.put(state, "live\n")

    monkeypatch.setattr(time, "sleep", come)
    host.signatures["/dev/nvme0n1"] = [{"type": "ext4", "usage": "filesystem"}]
    with pytest.raises(HostError, match="has a file system, ext4"):
        bring(host, {"address": A})


def test_what_could_not_go_back_is_named(host: FakePci) -> None:
    host.refuses = {(UIO, A), ("nvme", A)}
    with pytest.raises(HostError, match=f"{A}: has no driver now instead of nvme. Set its driver to kernel"):
        bring(host, {"address": A})
    host.refuses.clear()
    bring(host, {"address": A, "driver": "kernel"})
    assert host.driver(A) == "nvme"


def test_a_device_is_taken_again_after_it_was_unplugged_whatever_initiators_wrote(host: FakePci) -> None:
    bring(host, {"serial": "S-A"})
    host.unplug(A)
    with pytest.raises(HostError, match="serial S-A: this host has no such device"):
        bring(host, {"serial": "S-A"})
    host.plug(Plugged(A, "S-A"))
    host.signatures["/dev/nvme0n1"] = [{"type": "ext4", "usage": "filesystem"}]
    assert steps(bring(host, {"serial": "S-A"})) == [("bind", f"PCI device {A}")]
    assert host.driver(A) == UIO


def test_a_disk_that_moved_to_another_slot_is_remembered_there_alone(host: FakePci) -> None:
    bring(host, {"serial": "S-A"})
    host.unplug(A)
    host.plug(Plugged("0000:07:00.0", "S-A"))
    bring(host, {"serial": "S-A"})
    assert "[0000:07:00.0]" in host.read(RECORD)
    assert A not in host.read(RECORD)


def test_a_disk_that_moved_and_is_given_back_is_not_remembered_in_its_old_slot(host: FakePci) -> None:
    bring(host, {"serial": "S-A"})
    host.unplug(A)
    host.plug(Plugged("0000:07:00.0", "S-A"))
    bring(host, {"serial": "S-A", "driver": "kernel"})
    assert not host.exists(RECORD)


def test_another_disk_in_the_same_slot_is_looked_at_anew(host: FakePci) -> None:
    bring(host, {"address": A})
    host.unplug(A)
    host.plug(Plugged(A, "S-NEW"))
    host.signatures["/dev/nvme0n1"] = [{"type": "ext4", "usage": "filesystem"}]
    with pytest.raises(HostError, match="has a file system, ext4"):
        bring(host, {"address": A})


def test_a_device_that_is_gone_can_be_given_back(host: FakePci) -> None:
    bring(host, {"address": A})
    host.unplug(A)
    assert bring(host, {"serial": "S-A", "driver": "kernel"})["changed"]
    result = bring(host, {"serial": "S-A", "driver": "kernel"})
    assert not result["changed"]
    assert "there is nothing to give back" in result["warnings"][0]


def test_not_persistent_it_is_remembered_until_the_next_boot(host: FakePci) -> None:
    bring(host, {"serial": "S-A"}, persistent=False)
    assert not host.exists(RECORD)
    assert not host.exists(UNIT)
    assert not bring(host, {"serial": "S-A"}, persistent=False)["changed"]
    assert steps(bring(host, {"serial": "S-A"}))[0] == ("create", f"file {RECORD}")
    assert not host.exists(UNTIL_BOOT)


def test_a_record_of_somebody_else_is_not_touched(host: FakePci) -> None:
    host.put(RECORD, "[0000:01:00.0]\ndriver = nvme\n")
    with pytest.raises(HostError, match=r"was not written by openlun\.iscsi"):
        bring(host, {"address": A})


def test_between_drivers_of_user_space_a_device_moves_freely(translated: FakePci) -> None:
    translated.load(UIO)
    translated.unplug(A)
    translated.plug(Plugged(A, "S-A", group="5"), driver=UIO)
    result = bring(translated, {"address": A, "driver": VFIO})
    assert translated.driver(A) == VFIO
    assert "At boot any device 144d:a80a at this address is taken" in result["warnings"][0]


@pytest.mark.parametrize(
    "uses", [{"opens": "/dev/uio3"}, {"maps": f"7f00-7f01 rw-s 0 00:12 9  /sys/devices/pci0000:00/{A}/resource0\n"}]
)
@pytest.mark.parametrize("driver", ["kernel", "igb_uio"])
def test_a_device_that_a_program_drives_stays_with_it(host: FakePci, uses: dict[str, str], driver: str) -> None:
    host.modules.add("igb_uio")
    bring(host, {"address": A})
    host.process("812", **uses)
    with pytest.raises(HostError, match=r"it is driven by process 812 of \w+ \(/usr/bin/db -f\). Stop that first"):
        bring(host, {"address": A, "driver": driver})
    assert host.driver(A) == UIO
    assert bring(host, {"address": A, "driver": driver}, check=True, expect_idle=True)["changed"]


def test_behind_vfio_a_program_holds_the_whole_group(translated: FakePci) -> None:
    bring(translated, {"address": A})
    translated.process("812", opens="/dev/vfio/5")
    with pytest.raises(HostError, match="it is driven by process 812"):
        bring(translated, {"address": A, "driver": "kernel"})


def test_a_device_without_a_driver_cannot_be_looked_at(host: FakePci) -> None:
    host.unplug(A)
    host.plug(Plugged(A, "S-A"), driver="")
    assert "it has no driver, so that nobody can look" in refusal(host, {"address": A})
    bring(host, {"address": A, "driver": "kernel"})
    assert host.driver(A) == "nvme"


def test_a_half_done_change_is_finished(host: FakePci) -> None:
    bring(host, {"address": A})
    host.tell("/sys/bus/pci/drivers/uio_pci_generic/unbind", A)
    bring(host, {"address": A})
    assert host.driver(A) == UIO


# Which driver fits


def test_auto_is_vfio_where_there_is_an_iommu(translated: FakePci) -> None:
    bring(translated, {"address": A})
    assert translated.driver(A) == VFIO


def test_vfio_needs_an_iommu_unless_the_kernel_does_without(host: FakePci) -> None:
    assert "because it needs an IOMMU" in refusal(host, {"address": A, "driver": VFIO})
    host.put("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n")
    bring(host, {"address": A, "driver": VFIO})
    assert host.driver(A) == VFIO


def test_uio_is_refused_while_an_iommu_translates(translated: FakePci) -> None:
    assert "an IOMMU translates its addresses" in refusal(translated, {"address": A, "driver": UIO})
    translated.put("/sys/kernel/iommu_groups/5/type", "identity\n")
    bring(translated, {"address": A, "driver": UIO})
    assert translated.driver(A) == UIO


def test_uio_is_refused_while_the_kernel_is_locked_down(host: FakePci) -> None:
    host.put("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    assert "the kernel is locked down" in refusal(host, {"address": A})


@pytest.mark.parametrize(("kind", "refused"), [("040300", True), ("060400", False), ("010802", True)])
def test_the_whole_iommu_group_goes_to_user_space(translated: FakePci, kind: str, refused: bool) -> None:
    mate = translated.plug(Plugged("0000:01:00.1", "S-M", kind=kind, group="5"))
    if refused:
        said = refusal(translated, {"address": A})
        assert mate in said
        assert "is in the same IOMMU group 5. Declare that with vfio-pci, too" in said
    else:
        bring(translated, {"address": A})
    if kind == "010802":
        bring(translated, {"address": A}, {"address": mate})
        assert {translated.driver(A), translated.driver(mate)} == {VFIO}


def test_a_module_that_the_kernel_lacks_is_named_unless_it_is_about_to_come(host: FakePci) -> None:
    host.modules.clear()
    said = refusal(host, {"address": A})
    assert f"the kernel 6.1.0-fake has no module {UIO}. Ubuntu has it in linux-modules-extra-6.1.0-fake" in said
    assert bring(host, {"address": A}, check=True, expect_modules=True)["changed"]


def test_what_there_is_is_told(host: FakePci) -> None:
    bring(host, {"address": A})
    host.claimed = {host.disk(B)}
    found = devices(host).look([])
    assert [device["driver"] for device in found["devices"]] == [UIO, "nvme", "nvme"]
    assert [bool(device["in_use"]) for device in found["devices"]] == [False, True, False]
    assert found["drivers"] == {VFIO: "available", UIO: "loaded", "igb_uio": "missing"}
    assert [device["address"] for device in devices(host).look([{"serial": "S-C"}])["devices"]] == [C]
