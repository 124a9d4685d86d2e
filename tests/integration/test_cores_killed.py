# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers that are killed: another one takes their place, and nothing that was acknowledged is lost."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cluster import TWO_CORES, Cluster, is_there, needs_two_cores, ready
from engine_process import Launch, Target, die_with_parent, eventually, run
from pdu import cdb
from pdu.initiator import Closed, Initiator
from pdu.reservation import APTPL, READ_KEYS, REGISTER, keys, reserve_in_cdb, reserve_out_cdb, reserve_out_list

pytestmark = needs_two_cores

BLOCK = 512
BLOCKS = 8 * 2**20 // BLOCK
GOOD = 0
KILLS = 5
WRITES_BETWEEN = 200


class Writer:
    """Writes one number after the other, over all blocks again and again, and remembers what was acknowledged."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._next = 1
        self.acknowledged: dict[int, int] = {}
        """The last number by block."""
        self.count = 0
        self.lives = 0

    def run(self, stop: threading.Event) -> None:
        """Until told to stop; whenever the connection is lost there is a new one."""
        while not stop.is_set():
            try:
                with self._target.connect() as initiator:
                    initiator.login(self._target.name)
                    self.lives += 1
                    ready(initiator)
                    while not stop.is_set():
                        self._write(initiator)
            except (Closed, OSError):
                continue

    def _write(self, initiator: Initiator) -> None:
        number, self._next = self._next, self._next + 1
        block = number * 7919 % BLOCKS
        assert initiator.write(cdb.write_16(block, 1), content(number), immediate=BLOCK).status == GOOD
        self.acknowledged[block] = number
        self.count += 1

    def wait_for_more(self) -> None:
        mark = self.count + WRITES_BETWEEN
        eventually(lambda: self.count >= mark, "more writes")

    def check(self) -> None:
        """Every block has what was acknowledged last, or what was under way when it ended."""
        with self._target.login() as initiator:
            ready(initiator)
            for block, number in self.acknowledged.items():
                data = initiator.read(cdb.read_16(block, 1), BLOCK).data
                assert data == content(number) or int.from_bytes(data[:8], "big") > number


def content(number: int) -> bytes:
    return number.to_bytes(8, "big") * (BLOCK // 8)


@pytest.mark.parametrize("kind", ["malloc", "file", "tmpfs"])
def test_no_acknowledged_write_is_lost(cluster: Cluster, kind: str, tmp_path: Path) -> None:
    engine = cluster.engine
    if kind == "malloc":
        engine.malloc("Disk", 8)
    else:
        directory = tmp_path if kind == "file" else engine.directory
        engine.aio("Disk", directory / "disk", size=BLOCKS * BLOCK)
    writers = [Writer(cluster.node("victim", "Disk")), Writer(cluster.node("other"))]
    stop = threading.Event()
    threads = [threading.Thread(target=writer.run, args=(stop,)) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        for _each in range(KILLS):
            for writer in writers:
                writer.wait_for_more()
            cluster.kill(1)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for writer in writers:
        writer.check()
    assert writers[0].lives > KILLS
    assert writers[1].lives == 1  # served by the other worker, which nothing happened to
    assert [worker["restarts"] for worker in cluster.workers()] == [KILLS, 0]


def test_what_was_configured_is_there_after_a_worker_was_killed(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    engine = cluster.engine
    engine.rpc("bdev_null_create", name="N0", num_blocks=2048, block_size=BLOCK)
    engine.rpc("iscsi_target_node_add_lun", name=target.name, bdev_name="N0", lun_id=5)
    engine.rpc("bdev_set_qos_limit", name="N0", rw_mbytes_per_sec=10)
    before = engine.rpc("framework_get_config", name="iscsi")
    with target.login() as initiator:
        serial = ready(initiator).read(cdb.inquiry(0x80), 255).data
    cluster.kill(1)
    with target.login() as initiator:
        assert ready(initiator).read(cdb.inquiry(0x80), 255).data == serial
        eventually(lambda: initiator.execute(cdb.unit_ready(), lun=5).status == GOOD, "LUN 5")
        # Changes reach the new one as they did the old one.
        engine.rpc("iscsi_target_node_remove_lun", name=target.name, lun_id=5)
        eventually(lambda: initiator.execute(cdb.unit_ready(), lun=5).status != GOOD, "LUN 5 to go")
    assert engine.rpc("framework_get_config", name="iscsi") != before


def test_unmapped_memory_reads_as_zeroes_whoever_reads_it(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    with target.login() as initiator:
        assert ready(initiator).write(cdb.write_16(0, 64), b"x" * BLOCK * 64).status == GOOD
        same = bytes.fromhex("9308") + (0).to_bytes(8, "big") + (32).to_bytes(4, "big") + bytes(2)  # WRITE SAME, UNMAP
        assert initiator.write(same, bytes(BLOCK)).status == GOOD
    cluster.kill(1)
    with target.login() as initiator:
        data = ready(initiator).read(cdb.read_16(0, 64), 64 * BLOCK).data
        assert data == bytes(32 * BLOCK) + b"x" * BLOCK * 32
        status = initiator.read(bytes.fromhex("9e12") + bytes(8) + (32).to_bytes(4, "big") + bytes(2), 32).data
        assert int.from_bytes(status[16:20], "big") == 32  # GET LBA STATUS: so many are not mapped
        assert status[20] & 0x0F == 1


def test_a_login_waits_for_the_next_worker(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    pid = cluster.pid_of(1)
    os.kill(pid, signal.SIGSTOP)  # it cannot even be told from one that is slow
    with target.connect() as initiator:
        initiator.send(initiator.login_pdu({"InitiatorName": initiator.name, "TargetName": target.name}))
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Closed):
            initiator.receive_login()
    # Whoever comes when it is known to be gone waits.
    eventually(lambda: cluster.workers()[0]["restarts"] == 1, "its end")
    with target.login() as initiator:
        assert ready(initiator).tsih
        assert cluster.worker_of(target) == 1
    assert cluster.pid_of(1) != pid


def test_reservations_that_are_kept_survive_a_worker(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    with target.login() as initiator:
        out = ready(initiator).write(reserve_out_cdb(REGISTER), reserve_out_list(0, 99, APTPL))
        assert out.status == GOOD
    cluster.kill(1)
    with target.login() as initiator:
        assert keys(ready(initiator).read(reserve_in_cdb(READ_KEYS), 1024).data)[1] == [99]


@pytest.mark.parametrize("kind", ["file", "tmpfs", "direct", "uring"])
@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_file_that_lost_its_name_is_served_on(cluster: Cluster, tmp_path: Path, kind: str, is_replaced: bool) -> None:
    engine = cluster.engine
    path = (engine.directory if kind == "tmpfs" else tmp_path) / "disk"
    if kind == "uring":
        path.write_bytes(bytes(2**20))
        engine.rpc("bdev_uring_create", name="Disk", filename=str(path))
    else:
        engine.aio("Disk", path, size=2**20, **({"direct": True} if kind == "direct" else {}))
    target = cluster.node("disk0", "Disk")
    with target.login() as initiator:
        assert ready(initiator).write(cdb.write_10(0, 1), content(7)).status == GOOD
    path.unlink()
    if is_replaced:
        path.write_bytes(bytes(2**20))
    cluster.kill(1)
    with target.login() as initiator:
        assert ready(initiator).read(cdb.read_10(0, 1), BLOCK).data == content(7)
        assert initiator.write(cdb.write_10(0, 1), content(8)).status == GOOD
    cluster.kill(1)
    with target.login() as initiator:
        assert ready(initiator).read(cdb.read_10(0, 1), BLOCK).data == content(8)
    assert [worker["whole"] for worker in cluster.workers()] == [True, True]


def test_a_worker_that_cannot_open_a_disk_serves_the_others(cluster: Cluster, tmp_path: Path) -> None:
    engine = cluster.engine
    engine.aio("A0", tmp_path / "disk", size=2**20)
    lost, other = cluster.node("lost", "A0"), cluster.node("other")
    third = cluster.node("third")
    with lost.login(), third.login():
        assert cluster.worker_of(lost) == cluster.worker_of(third) == 1
    os.truncate(tmp_path / "disk", 100)
    cluster.kill(1)
    for target in (other, third):
        with target.login() as initiator:
            assert ready(initiator).tsih
    assert "bdev_aio_create failed there, and not here" in engine.words()
    assert [worker["whole"] for worker in cluster.workers()] == [False, True]
    engine.rpc("iscsi_delete_target_node", name=lost.name)
    engine.rpc("bdev_aio_delete", name="A0")
    assert [worker["restarts"] for worker in cluster.workers()] == [1, 0]


def test_a_replaced_archive_does_not_change_the_workers(launch: Launch, archive: Path, tmp_path: Path) -> None:
    copy = tmp_path / "engine.pyz"
    shutil.copy(archive, copy)
    cluster = Cluster(launch(*TWO_CORES, archive=copy))
    target = cluster.node("disk0")
    (tmp_path / "new").write_bytes(b"something else")
    (tmp_path / "new").replace(copy)
    cluster.kill(1)
    with target.login() as initiator:
        assert ready(initiator).tsih


def test_workers_are_started_from_source_files_too(tmp_path: Path) -> None:
    socket = tmp_path / "rpc.sock"
    module = "ansible_collections.openlun.iscsi.plugins.module_utils._engine.main"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            (sys.executable, "-m", module, "serve", "-r", socket, *TWO_CORES),
            stderr=log,
            preexec_fn=die_with_parent,
        )
    try:
        eventually(lambda: "serves RPC" in (tmp_path / "log").read_text(), "the engine")
        words = run(sys.executable, "-m", module, "rpc", "-s", socket, "engine_get_info").stdout
        assert words.count('"ready": true') == 2
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_a_worker_is_lean(cluster: Cluster) -> None:
    """Memory that it has to itself."""
    for pid in cluster.processes()[1:]:
        assert is_there(pid)
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup[1:]}
        assert sizes["Anonymous"] <= 30 * 1024


def test_a_client_with_recovery_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    """Libiscsi logs in again and sends anew what was not answered; the program above it learns of a lost nexus."""
    target = cluster.node("disk0")
    image = tmp_path / "image"
    image.write_bytes(os.urandom(8 * 2**20))
    command = ("qemu-img", "convert", "-n", "-W", "-f", "raw", "-O", "raw", "-r", "2M", image, target.url())
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as client:
        for _each in range(2):
            eventually(lambda: cluster.workers()[0]["sessions"] or client.poll() is not None, "its session")
            assert client.poll() is None, "it was done too soon"
            cluster.kill(1)
        _nothing, words = client.communicate(timeout=60)
    assert client.returncode == 0
    assert all("UNIT_ATTENTION" in line and "0x2907" in line for line in words.splitlines()), words
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", target.url(), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == image.read_bytes()


def test_histograms_of_bdevs_go_on_with_the_next_worker(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    cluster.engine.rpc("bdev_enable_histogram", name="M-disk0", enable=True, opc="write", granularity=3)
    cluster.kill(1)
    with target.login() as initiator:
        assert ready(initiator).write(cdb.write_16(0, 1), content(1)).status == GOOD
        assert initiator.read(cdb.read_16(0, 1), BLOCK).data == content(1)
    packed = base64.b64decode(cluster.engine.rpc("bdev_get_histogram", name="M-disk0")["histogram"])
    assert sum(struct.unpack(f"<{len(packed) // 8}Q", packed)) == 1


def test_a_node_on_a_disk_that_never_answers_can_be_deleted(cluster: Cluster) -> None:
    engine = cluster.engine
    engine.rpc("bdev_null_create", name="N0", num_blocks=2048, block_size=BLOCK)
    engine.rpc("bdev_error_create", base_name="N0")
    target = cluster.node("stuck", "EE_N0")
    engine.rpc("bdev_error_inject_error", name="EE_N0", io_type="write", error_type="pending")
    with target.login() as initiator:
        ready(initiator)
        write = initiator.command(cdb.write_16(0, 1), flags=0xA1, length=BLOCK, data=content(1))
        initiator.send(write, initiator.nop_out(b"arrived"))
        assert initiator.receive().data == b"arrived"
    engine.rpc("iscsi_delete_target_node", name=target.name)
    assert [worker["restarts"] for worker in cluster.workers()] == [0, 0]
