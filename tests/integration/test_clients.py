# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine seen by other people's clients: libiscsi's tools, its test suite and qemu-img."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conformance.report import PASS, outcomes
from engine_process import Launch, Target, run

pytestmark = pytest.mark.usefixtures("engine_survives")


# -- libiscsi's tools


def test_iscsi_ls_lists_targets_with_their_luns(launch: Launch) -> None:
    engine = launch()
    engine.initiator_group()
    port = engine.portal_group()
    engine.node("one", engine.malloc("M0", 64))
    engine.node("two", engine.malloc("M1", 256), engine.malloc("M2", 1024, 4096))
    lines = [
        re.sub(r"\s+", " ", line) for line in run("iscsi-ls", "-s", f"iscsi://127.0.0.1:{port}").stdout.splitlines()
    ]
    # iscsi-ls shows the last first, and a size a block too small
    assert [line.split(" (")[0] for line in lines] == [
        f"Target:iqn.2016-06.io.spdk:two Portal:127.0.0.1:{port},1",
        "Lun:0 Type:DIRECT_ACCESS",
        "Lun:1 Type:DIRECT_ACCESS",
        f"Target:iqn.2016-06.io.spdk:one Portal:127.0.0.1:{port},1",
        "Lun:0 Type:DIRECT_ACCESS",
    ]
    assert re.findall(r"Size:(\w+)", "".join(lines)) == ["255M", "1023M", "63M"]


def test_iscsi_inq_reads_the_standard_inquiry(target: Target) -> None:
    text = run("iscsi-inq", target.url()).stdout
    assert "Peripheral Qualifier:CONNECTED" in text
    assert "Peripheral Device Type:DIRECT_ACCESS" in text


def page(target: Target, code: int) -> str:
    return run("iscsi-inq", "-e", "1", "-c", str(code), target.url()).stdout


def test_iscsi_inq_reads_the_supported_pages(target: Target) -> None:
    assert {"00", "80", "83", "b0"} <= set(re.findall(r"Page:0x(\w\w)", page(target, 0)))


def test_the_serial_number_stays_the_same(target: Target) -> None:
    serial = re.search(r"Unit Serial Number:\[(.*)\]", page(target, 0x80))
    assert serial
    assert serial.group(1).strip()
    assert page(target, 0x80) == page(target, 0x80)


def test_the_device_identification_names_the_disk_and_the_target(target: Target) -> None:
    text = page(target, 0x83)
    assert "NAA" in text
    assert target.name in text


def test_the_block_limits_page_is_there(target: Target) -> None:
    assert re.search(r"maximum transfer length:\d+", page(target, 0xB0), re.IGNORECASE)


def test_the_capacity_is_that_of_the_disk(target: Target) -> None:
    text = run("iscsi-readcapacity16", target.url()).stdout
    assert re.search(r"RETURNED LOGICAL BLOCK ADDRESS:131071", text)
    assert re.search(r"LOGICAL BLOCK LENGTH IN BYTES:512", text)


def test_an_unknown_lun_is_an_error_for_the_client(target: Target) -> None:
    result = run("iscsi-readcapacity16", target.url(7), check=False)
    assert result.returncode != 0


# -- libiscsi's test suite


SKIPPED = {
    # what a thin disk of 512-byte blocks behind one portal is not for; make conformance has the other kinds
    *("CompareAndWrite.InvalidDataOutSize", "WriteSame10.InvalidDataOutSize", "WriteSame16.InvalidDataOutSize"),
    *("WriteSame10.UnmapUnaligned", "WriteSame16.UnmapUnaligned", "WriteAtomic16.VPD", "ReadOnly.ReadOnlySBC"),
    *("NoMedia.NoMediaSBC", "StartStopUnit.Simple", "StartStopUnit.PwrCnd", "StartStopUnit.NoLoej"),
    *(f"PreventAllow.{name}" for name in ("Simple", "Eject", "ITNexusLoss", "Logout", "2ITNexuses")),
    *(f"PreventAllow.{name}Reset" for name in ("Warm", "Cold", "LUN")),
}
FAMILIES = (
    *("CompareAndWrite", "ExtendedCopy", "GetLBAStatus", "Inquiry", "Mandatory", "ModeSense6", "OrWrite", "Prefetch10"),
    *("Prefetch16", "PrinReadKeys", "PrinServiceactionRange", "PrinReportCapabilities", "ProutRegister"),
    *("ProutReserve", "ProutClear", "ProutPreempt", "Read6", "Read10", "Read12", "Read16", "ReadCapacity10"),
    *("ReadCapacity16", "ReadDefectData10", "ReadDefectData12", "ReceiveCopyResults", "ReportSupportedOpcodes"),
    *("Reserve6", "TestUnitReady", "Unmap", "Verify10", "Verify12", "Verify16", "Write10", "Write12", "Write16"),
    *("WriteAtomic16", "WriteSame10", "WriteSame16", "WriteVerify10", "WriteVerify12", "WriteVerify16"),
    *("iSCSIcmdsn", "iSCSIdatasn", "iSCSIResiduals", "iSCSITMF"),
)


def conformance(family: str, url: str) -> dict[str, str]:
    """The outcome of each test of a family of iscsi-test-cu, by its name with the family's."""
    text = run("iscsi-test-cu", "-d", "-V", "-t", f"ALL.{family}", url, check=False, timeout=300).stdout
    return outcomes(text)


@pytest.mark.parametrize("family", FAMILIES)
def test_libiscsi_finds_no_fault(target: Target, family: str) -> None:
    found = conformance(family, target.url())
    assert PASS in found.values()
    assert {name: outcome for name, outcome in found.items() if outcome != PASS and name not in SKIPPED} == {}


# -- qemu


@pytest.mark.parametrize("block_size", [512, 4096])
def test_qemu_img_copies_an_image_in_and_out(launch: Launch, tmp_path: Path, block_size: int) -> None:
    engine = launch()
    engine.initiator_group()
    port = engine.portal_group()
    name = engine.node("disk", engine.malloc("M0", 16, block_size))
    url = f"iscsi://127.0.0.1:{port}/{name}/0"
    image, copy = tmp_path / "image", tmp_path / "copy"
    image.write_bytes(os.urandom(16 * 2**20))
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, url)
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", url, copy)
    assert copy.read_bytes() == image.read_bytes()


def test_qemu_img_sees_the_size(target: Target) -> None:
    assert json.loads(run("qemu-img", "info", "--output=json", target.url()).stdout)["virtual-size"] == 64 * 2**20


def test_qemu_img_runs_deep_queues_of_reads_and_writes(target: Target) -> None:
    for direction in ([], ["-w"]):
        bench = [
            "qemu-img",
            "bench",
            "-f",
            "raw",
            "-t",
            "none",
            "-c",
            "2000",
            "-d",
            "32",
            "-s",
            "65536",
            "-S",
            "65536",
            *direction,
        ]
        assert "Run completed" in run(*bench, target.url()).stdout


def test_two_clients_at_once_do_not_disturb_each_other(target: Target, tmp_path: Path) -> None:
    other = target.engine.node("other", target.engine.malloc("Other0", 64))
    urls = [target.url(), f"iscsi://{target.portal}/{other}/0"]
    images = [tmp_path / "one", tmp_path / "two"]
    for image in images:
        image.write_bytes(os.urandom(64 * 2**20))
    with ThreadPoolExecutor(2) as both:
        copies = [both.submit(run, "qemu-img", "convert", "-n", "-O", "raw", *pair) for pair in zip(images, urls)]
        for copy in copies:
            copy.result()
    for image, url in zip(images, urls):
        assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, url).stdout
