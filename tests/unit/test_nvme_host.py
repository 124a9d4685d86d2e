# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the NVMe driver wants of the host: sysfs, locks, memory, and surviving the loss of a mapping."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import (
    Busy,
    EngineError,
    Invalid,
    NoDevice,
    Unsupported,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.nvme import device, memory, numa, pci, uio, vfio
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.nvme.claim import Claim
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.nvme.memory import HUGE, PAGE, DmaMemory, HugePage
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.nvme.pci import PciFunction
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.sigbus import BusGuard
from hypothesis import given
from hypothesis import strategies as st

ADDRESS = "0000:03:00.0"
BAR = 16384


class Tree:
    """A sysfs with PCI functions, and a /dev."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.dev = root / "dev"
        self.dev.mkdir()

    def add(self, address: str, driver: str = "", kind: int = pci.NVME_CLASS) -> Path:
        path = self.root / "bus/pci/devices" / address
        path.mkdir(parents=True)
        (path / "class").write_text(f"0x{kind:06x}\n")
        (path / "numa_node").write_text("1\n")
        (path / "config").write_bytes(bytes(64))
        (path / "resource0").write_bytes(bytes(BAR))
        if driver:
            place = self.root / "bus/pci/drivers" / driver
            place.mkdir(parents=True, exist_ok=True)
            (path / "driver").symlink_to(place)
        return path

    def iommu(self, address: str, kind: str) -> None:
        group = self.root / "kernel/iommu_groups/7"
        group.mkdir(parents=True)
        (group / "type").write_text(f"{kind}\n")
        (self.root / "bus/pci/devices" / address / "iommu_group").symlink_to(group)

    def uio(self, address: str) -> None:
        (self.root / "bus/pci/devices" / address / "uio/uio0").mkdir(parents=True)
        os.mkfifo(self.dev / "uio0")  # never readable by itself, as the real one

    def function(self, address: str = ADDRESS) -> PciFunction:
        return PciFunction(address, str(self.root))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.mark.parametrize(
    ("text", "address"), [("0000:03:00.0", ADDRESS), ("03:00.0", ADDRESS), ("0001:0A:1f.7", "0001:0a:1f.7")]
)
def test_addresses_are_written_in_full(text: str, address: str) -> None:
    assert pci.full_address(text) == address


@pytest.mark.parametrize("text", ["", "3:0.0", "0000:03:00", "0000:03:00.8", "../../etc", "0000:03:00.0/"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match=r"is not a PCI address, such as 0000:03:00\.0"):
        pci.full_address(text)


def test_a_function_tells_its_driver_and_group(tree: Tree) -> None:
    tree.add(ADDRESS, "vfio-pci")
    tree.iommu(ADDRESS, "DMA-FQ")
    function = tree.function()
    assert (function.driver, function.iommu_group, function.translated) == ("vfio-pci", "7", True)
    assert function.numa_node == 1


def test_a_missing_device_is_answered_with_those_there_are(tree: Tree) -> None:
    tree.add("0000:04:00.0")
    tree.add("0000:05:00.0", kind=0x020000)
    with pytest.raises(NoDevice, match=r"0000:03:00.0: there is no PCI device .*of this host: 0000:04:00.0\.$"):
        tree.function()
    with pytest.raises(NoDevice, match=r"0000:05:00.0: not an NVMe controller"):
        tree.function("0000:05:00.0")


def test_a_host_without_nvme_says_so(tree: Tree) -> None:
    with pytest.raises(NoDevice, match="This host has no NVMe controllers"):
        tree.function()


@pytest.mark.parametrize(
    ("driver", "message"),
    [
        (
            "nvme",
            "bound to the kernel's driver nvme, so .* Bind it to vfio-pci or uio_pci_generic .* pci_driver module",
        ),
        ("", "bound to no driver, so the engine cannot use it"),
    ],
)
def test_a_device_of_the_kernel_is_left_alone(tree: Tree, driver: str, message: str) -> None:
    tree.add(ADDRESS, driver)
    with pytest.raises(device.NotUsable, match=message):
        device._check_usable(tree.function())


def test_other_processors_than_x86_are_refused(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.add(ADDRESS, "vfio-pci")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(Unsupported, match="x86-64 only, and this is aarch64"):
        device._check_usable(tree.function())


def claim(tmp_path: Path) -> Claim:
    return Claim(ADDRESS, str(tmp_path))


def test_uio_maps_registers_and_allows_memory_only_when_told(tree: Tree, tmp_path: Path) -> None:
    path = tree.add(ADDRESS, "uio_pci_generic")
    (path / "config").write_bytes(bytes(4) + b"\x04\0" + bytes(58))  # a process that was killed left it on
    tree.uio(ADDRESS)
    opened = uio.UioDevice(tree.function(), BusGuard(), claim(tmp_path), str(tree.dev))
    try:
        assert len(opened.words) == BAR // 4
        opened.words[5] = 0x12345678
        assert (path / "resource0").read_bytes()[20:24] == b"\x78\x56\x34\x12"
        command = int.from_bytes((path / "config").read_bytes()[4:6], "little")
        assert command == pci.COMMAND_MEMORY | pci.COMMAND_NO_INTX
        opened.master(True)
        assert (path / "config").read_bytes()[4] == pci.COMMAND_MEMORY | pci.COMMAND_MASTER
        opened.master(False)
        assert (path / "config").read_bytes()[4] == pci.COMMAND_MEMORY
    finally:
        opened.close()


def test_uio_behind_an_iommu_is_refused(tree: Tree, tmp_path: Path) -> None:
    tree.add(ADDRESS, "uio_pci_generic")
    tree.uio(ADDRESS)
    tree.iommu(ADDRESS, "DMA")
    with pytest.raises(Unsupported, match=r"an IOMMU translates its addresses \(group 7\).*Bind it to vfio-pci"):
        uio.UioDevice(tree.function(), BusGuard(), claim(tmp_path), str(tree.dev))


def test_uio_behind_an_iommu_that_passes_everything_is_fine(tree: Tree, tmp_path: Path) -> None:
    tree.add(ADDRESS, "uio_pci_generic")
    tree.uio(ADDRESS)
    tree.iommu(ADDRESS, "identity")
    uio.UioDevice(tree.function(), BusGuard(), claim(tmp_path), str(tree.dev)).close()


def test_what_cannot_be_opened_is_named(tree: Tree, tmp_path: Path) -> None:
    path = tree.add(ADDRESS, "uio_pci_generic")
    tree.uio(ADDRESS)
    (path / "resource0").unlink()
    with pytest.raises(EngineError, match=r"0000:03:00.0: .*/resource0: No such file or directory"):
        uio.UioDevice(tree.function(), BusGuard(), claim(tmp_path), str(tree.dev))


def test_vfio_without_an_iommu_is_refused(tree: Tree, tmp_path: Path) -> None:
    tree.add(ADDRESS, "vfio-pci")
    with pytest.raises(Unsupported, match="no IOMMU guards it"):
        vfio.VfioDevice(tree.function(), BusGuard(), claim(tmp_path), str(tree.dev))


def test_vfio_devices_that_are_not_there_are_named(tree: Tree, tmp_path: Path) -> None:
    tree.add(ADDRESS, "vfio-pci")
    tree.iommu(ADDRESS, "DMA")
    with pytest.raises(EngineError, match=r"0000:03:00.0: .*/dev/vfio: No such file"):
        vfio.VfioDevice(tree.function(), BusGuard(), claim(tmp_path), str(tree.dev))


_TRY_TO_LOCK = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    print("busy")
"""
_LOCK = """
import fcntl, os, struct, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
file.write(struct.pack("i", os.getpid()))
file.flush()
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_device_has_one_user_and_the_second_learns_who_it_is(tmp_path: Path) -> None:
    mine = claim(tmp_path)
    attempt = subprocess.run(
        [
            sys.executable,
            "-c",
            _TRY_TO_LOCK,
            str(tmp_path / f"spdk_pci_lock_{ADDRESS}"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert attempt.stdout == "busy\n"
    mine.release()

    other = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _LOCK,
            str(tmp_path / f"spdk_pci_lock_{ADDRESS}"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(Busy, match=f"0000:03:00.0: process {other.pid} drives it already"):
            claim(tmp_path)
        assert other.stdin is not None
        other.stdin.close()
    claim(tmp_path).release()


def test_physical_addresses_come_from_the_page_map(tmp_path: Path) -> None:
    entries = (0, 1 << 63 | 0x1234, 1 << 63)
    pagemap = tmp_path / "pagemap"
    pagemap.write_bytes(b"".join(entry.to_bytes(8, "little") for entry in entries))
    assert uio.physical_address(4096 + 8, str(pagemap)) == 0x1234 * 4096 + 8
    for virtual in (0, 8192):  # not present; present, but its place is kept from us
        with pytest.raises(EngineError, match=r"does not tell where memory is.*as root, or bind"):
            uio.physical_address(virtual, str(pagemap))


def pages(count: int) -> list[HugePage]:
    return [HugePage(mmap.mmap(-1, HUGE)) for _each in range(count)]


def dma(supply: list[HugePage], limit: int = 32) -> DmaMemory:
    def take() -> HugePage:
        if not supply:
            raise EngineError("no 2 MiB hugepage is free")
        return supply.pop()

    places = iter(range(0x1000_0000, 0x8000_0000, 2 * HUGE))
    return DmaMemory(lambda _page: next(places), take, limit)


@given(st.lists(st.integers(1, memory.LARGEST), min_size=1, max_size=60))
def test_pieces_are_large_enough_and_never_overlap(lengths: list[int]) -> None:
    store = dma(pages(34))
    taken = []
    for length in lengths:
        piece = store.allocate(length)
        if piece is None:
            break
        assert len(piece.view) >= length
        taken.append((piece.bus, piece.bus + len(piece.view), piece))
    taken.sort(key=lambda each: each[0])
    assert all(one[1] <= other[0] for one, other in zip(taken, taken[1:]))
    for _start, _end, piece in taken:
        piece.free()
    store.close()


@given(st.integers(1, memory.LARGEST))
def test_prp_entries_name_every_page_of_a_piece(length: int) -> None:
    store = dma(pages(3))
    piece = store.allocate(length)
    assert piece is not None
    first, second = piece.prps(length)
    named = [first]
    count = -(-length // PAGE)
    if count == 2:
        named.append(second)
    elif count > 2:
        fixed = store._fixed
        at = second - fixed.bus
        list_bytes = fixed.view[at : at + 8 * (count - 1)]
        assert at // PAGE == (at + 8 * (count - 1) - 1) // PAGE  # no list goes over its page
        named += list(list_bytes.cast("Q"))
        list_bytes.release()
    assert named == [piece.bus + number * PAGE for number in range(count)]
    store.close()


def test_memory_of_one_size_is_cut_anew_for_another() -> None:
    store = dma(pages(2), limit=1)
    small = store.allocate(512)
    assert small is not None
    assert store.allocate(memory.LARGEST) is None
    small.free()
    large = store.allocate(memory.LARGEST)
    assert large is not None
    assert store.allocate(512) is None
    store.close()


def test_it_goes_on_with_what_there_is_when_hugepages_run_out() -> None:
    store = dma(pages(3))
    pieces = [store.allocate(memory.LARGEST) for _each in range(5)]
    assert [piece is not None for piece in pieces] == [True, True, True, True, False]  # two a page, of two pages
    store.close()


def test_without_any_hugepage_nothing_is_kept() -> None:
    supply = pages(1)
    [page] = supply
    with pytest.raises(EngineError, match="no 2 MiB hugepage is free"):
        dma(supply)
    assert page._memory is None


_LOSE_MAPPING = """
import ctypes, mmap, os, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.nvme.device import Window
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.sigbus import BusGuard
fd = os.memfd_create("registers")
os.ftruncate(fd, 16384)
window = Window(fd, 16384, 0, BusGuard())
window.words[1] = 7
print(window.words[1])
os.ftruncate(fd, 0)
window.words[2] = 5
print(hex(window.words[1]), hex(window.words[3000]))
if sys.argv[2] == "close":
    window.close()
other = os.memfd_create("other")
os.ftruncate(other, 4096)
lost = mmap.mmap(other, 4096)
os.ftruncate(other, 0)
print(lost[0])
"""


@pytest.mark.parametrize("then", ["close", "go on"])
def test_registers_that_vanish_read_as_ones_and_other_memory_that_vanishes_ends_the_process(then: str) -> None:
    from conftest import COLLECTIONS

    done = subprocess.run(
        [sys.executable, "-c", _LOSE_MAPPING, str(COLLECTIONS), then], capture_output=True, text=True, check=False
    )
    assert done.stdout == "7\n0xffffffff 0xffffffff\n", done.stderr
    assert done.returncode == -7  # SIGBUS


def test_a_page_knows_where_it_is() -> None:
    page = HugePage(mmap.mmap(-1, HUGE))
    page.view[:4] = b"here"
    assert ctypes.string_at(page.virtual, 4) == b"here"
    page.give_back()


def policy() -> tuple[int, int]:
    """This thread's way to choose memory: the kernel's number of it, and the first nodes."""
    mode, mask = ctypes.c_int(), (ctypes.c_ulong * 16)()
    if ctypes.CDLL(None).syscall(239, ctypes.byref(mode), mask, 1024, None, 0):
        pytest.skip("this kernel knows no NUMA policies")
    return mode.value, mask[0]


def test_memory_near_a_device_is_preferred_only_while_it_is_taken() -> None:
    before = policy()
    with numa.near(0):
        assert policy() == (1, 1)
    assert policy() == before
    with numa.near(-1):
        assert policy() == before
    with numa.near(77):  # no such node
        assert policy() == before
