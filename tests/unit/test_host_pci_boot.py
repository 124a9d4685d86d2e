# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of devices, and how they are taken again at boot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_boot import PROGRAM, RECORD, UNIT, Record
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_bus import Entry, main, parse, render
from fake_pci import FakeBus, FakePci, Plugged, bring
from hypothesis import given
from hypothesis import strategies as st

A, B = "0000:01:00.0", "0000:02:00.0"
UIO = "uio_pci_generic"

ADDRESSES = st.from_regex(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", fullmatch=True)
TEXTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)).map(str.strip)
ENTRIES = st.builds(Entry, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS)


@given(st.dictionaries(ADDRESSES, ENTRIES))
def test_what_is_written_can_be_read(entries: dict[str, Entry]) -> None:
    assert parse(render(entries)) == entries


@given(st.dictionaries(ADDRESSES, ENTRIES), st.dictionaries(ADDRESSES, ENTRIES, max_size=2), st.booleans())
def test_what_is_remembered_anew_replaces_what_was(
    old: dict[str, Entry], new: dict[str, Entry], persistent: bool
) -> None:
    record = Record(old, {}).having(new, persistent)
    assert new.items() <= record.all.items()
    assert not record.lasting.keys() & record.passing.keys()
    assert record.having(new, persistent) == record
    assert record.without(set(new)).having({}, persistent) == record.without(set(new))


@pytest.fixture
def booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePci:
    """A host that was booted after two disks had been taken: the kernel's driver has them."""
    host = FakePci(tmp_path)
    for address, serial in ((A, "S-A"), (B, "S-B")):
        host.plug(Plugged(address, serial))
        bring(host, {"address": address})
    for address in (A, B):
        device = host.plugged[address]
        host.unplug(address)
        host.plug(device)
    monkeypatch.setattr(subprocess, "run", lambda words, **_options: host(words))
    return host


def boot(host: FakePci) -> int:
    return main([host.path(RECORD)], FakeBus(host))


def test_at_boot_they_are_taken_whatever_is_on_them(booted: FakePci) -> None:
    booted.signatures["/dev/nvme0n1"] = [{"type": "ext4"}]
    assert boot(booted) == 0
    assert (booted.driver(A), booted.driver(B)) == (UIO, UIO)
    assert boot(booted) == 0


def test_a_device_that_nobody_has_yet_is_shown_to_the_kernels_driver_first(booted: FakePci) -> None:
    booted.tell("/sys/bus/pci/drivers/nvme/unbind", A)
    boot(booted)
    assert ["modprobe", "--quiet", "--", "pci:010802"] in booted.commands


@pytest.mark.parametrize(
    ("device", "says"),
    [
        (Plugged(A, "S-NEW"), "another disk, serial S-NEW, is there instead of serial S-A"),
        (Plugged(A, "S-A", id=("1b36", "0010")), "another device, 1b36:0010, is there instead of 144d:a80a"),
        (None, "there is no such device"),
    ],
)
def test_another_device_at_the_address_is_left_alone(
    booted: FakePci, capsys: pytest.CaptureFixture[str], device: Plugged | None, says: str
) -> None:
    booted.unplug(A)
    if device:
        booted.plug(device)
    assert boot(booted) == 1
    assert capsys.readouterr().err == f"{A} (serial S-A): not bound to {UIO} because {says}.\n"
    assert booted.driver(A) == ("nvme" if device else "")
    assert booted.driver(B) == UIO


def test_a_disk_that_came_into_use_is_left_alone(booted: FakePci, capsys: pytest.CaptureFixture[str]) -> None:
    booted.claimed = {"nvme0n1"}
    assert boot(booted) == 1
    assert "because /dev/nvme0n1 is in use" in capsys.readouterr().err
    assert (booted.driver(A), booted.override(A), booted.driver(B)) == ("nvme", "(null)", UIO)


def test_a_device_that_cannot_be_bound_goes_back(booted: FakePci, capsys: pytest.CaptureFixture[str]) -> None:
    booted.refuses = {(UIO, A)}
    assert boot(booted) == 1
    assert "the kernel did not do it; it has nvme now" in capsys.readouterr().err
    assert (booted.driver(A), booted.override(A)) == ("nvme", "(null)")


def test_the_program_needs_nothing_but_python(booted: FakePci) -> None:
    place = booted.path(PROGRAM)
    record = Path(booted.path("/empty"))
    record.write_text("# nothing\n")
    started = subprocess.Popen([sys.executable, "-I", place, str(record)], stderr=subprocess.PIPE)
    assert (started.communicate()[1], started.returncode) == (b"", 0)
    assert f" -I {PROGRAM} {RECORD}\n" in booted.read(UNIT)
