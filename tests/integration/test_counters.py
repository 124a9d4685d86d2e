# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What initiators did is counted to the last command, in /metrics and in bdev_get_iostat."""

from __future__ import annotations

import re
import urllib.request
from typing import Any

import pytest
from engine_process import Engine, Launch, RpcError, Target, eventually, free_port
from in_process import TargetInProcess
from pdu import cdb, wire
from pdu.initiator import Initiator
from promtool import check_with_promtool

BLOCK = 512
DELAY_NS = 30_000_000
A, B = "iqn.2026-01.test:a", "iqn.2026-01.test:b"
ABORT_TASK = 1
TASK_ABORTED = 0x40


class Counted(Target):
    """A target whose engine serves metrics."""

    def metrics(self) -> str:
        port = self.engine.arguments[-1].rpartition(":")[2]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            return str(answer.read().decode())

    def counts(self, name: str, initiator: str, lun: int = 0) -> dict[str, int]:
        """The values of a metric of an initiator with a LUN, by its other labels."""
        who = re.escape(f'target="{self.name}",lun="{lun}",initiator="{initiator}",')
        found = re.findall(rf"^openlun_lun_{name}{{{who}(.*)}} (\d+)$", self.metrics(), re.MULTILINE)
        return {",".join(re.findall('"(.*?)"', labels)): int(value) for labels, value in found}

    def iostat(self, bdev: str) -> dict[str, Any]:
        (found,) = self.engine.rpc("bdev_get_iostat", names=[bdev])["bdevs"]
        return dict(found)

    def initiator(self, name: str, **keys: str) -> Initiator:
        return self.connect(name=name).login(self.name, **keys)


@pytest.fixture
def target(launch: Launch) -> Counted:
    """LUN 0 answers at once, LUN 1 after a while, LUN 2 fails when told to."""
    engine = launch("--http", f"127.0.0.1:{free_port()}")
    engine.initiator_group()
    port = engine.portal_group()
    for name in ("M0", "M1", "M2"):
        engine.malloc(name, 16)
    latencies = dict.fromkeys(("avg_read_latency", "p99_read_latency"), DELAY_NS // 1000)
    latencies.update(dict.fromkeys(("avg_write_latency", "p99_write_latency"), DELAY_NS // 1000))
    engine.rpc("bdev_delay_create", name="D1", base_bdev_name="M1", **latencies)
    engine.rpc("bdev_error_create", base_name="M2")
    return Counted(engine, port, engine.node("disk0", "M0", "D1", "EE_M2"))


def test_commands_that_are_carried_out_at_once(target: Counted) -> None:
    with target.initiator(A) as first, target.initiator(B) as second:
        for lba in range(5):
            assert first.read(cdb.read_10(lba, 8), 8 * BLOCK).status == 0
        assert first.read(cdb.read_16(0, 1), BLOCK).status == 0
        assert first.read(cdb.read_10(0, 0), BLOCK).status == 0  # no block at all
        assert first.write(cdb.write_10(0, 4), bytes(4 * BLOCK), immediate=4 * BLOCK).status == 0
        assert first.write(cdb.write_16(0, 2), bytes(2 * BLOCK)).status == 0  # asked for by R2T
        assert first.execute(cdb.unit_ready()).status == 0
        assert first.read(cdb.inquiry(), 255).status == 0
        assert first.read(cdb.read_10(2**31, 1), BLOCK).status == 2
        assert second.read(cdb.read_10(0, 1), BLOCK).status == 0
        # Several in one wake-up.
        flags = wire.FINAL | wire.READ | wire.SIMPLE
        several = [second.command(cdb.read_10(lba, 2), flags=flags, length=2 * BLOCK) for lba in range(10)]
        second.send(*several)
        for command in several:
            second.finish(command)
        expected = {"read": 8, "write": 2, "other": 2}
        assert target.counts("operations_total", A) == expected
        assert target.counts("latency_seconds_count", A) == expected
        assert target.counts("bytes_total", A) == {"read": 41 * BLOCK, "write": 6 * BLOCK}
        assert target.counts("errors_total", A) == {"check_condition,illegal_request": 1}
        assert target.counts("operations_total", B) == {"read": 11, "write": 0, "other": 0}
        assert target.counts("bytes_total", B) == {"read": 21 * BLOCK, "write": 0}
        assert target.counts("errors_total", B) == target.counts("operations_total", A, lun=1) == {}
    with target.initiator(A) as again:
        again.read(cdb.read_10(0, 1), BLOCK)
        assert target.counts("operations_total", A) == {**expected, "read": 9}
    stat = target.iostat("M0")
    assert (stat["num_read_ops"], stat["bytes_read"]) == (8 + 11, 63 * BLOCK)
    assert (stat["num_write_ops"], stat["bytes_written"]) == (2, 6 * BLOCK)
    for kind in ("read", "write"):
        least, most, total = (stat[f"{rank}{kind}_latency_ticks"] for rank in ("min_", "max_", ""))
        assert 0 < least <= most <= total
    check_with_promtool(target.metrics())


def test_commands_that_wait_take_their_own_time(target: Counted) -> None:
    with target.initiator(A) as initiator:
        assert initiator.read(cdb.read_10(0, 8), 8 * BLOCK, lun=1).status == 0
        assert initiator.read(cdb.read_10(0, 1), BLOCK).status == 0
        assert initiator.write(cdb.write_10(0, 1), bytes(BLOCK), immediate=BLOCK, lun=1).status == 0
    assert target.counts("operations_total", A, lun=1) == {"read": 1, "write": 1, "other": 0}
    assert target.counts("bytes_total", A, lun=1) == {"read": 8 * BLOCK, "write": BLOCK}
    stat = target.iostat("D1")
    assert (stat["bytes_read"], stat["bytes_written"]) == (8 * BLOCK, BLOCK)
    assert DELAY_NS < stat["read_latency_ticks"] == stat["min_read_latency_ticks"] == stat["max_read_latency_ticks"]
    assert stat["write_latency_ticks"] > DELAY_NS
    assert f'lun="1",initiator="{A}",operation="read",le="0.016777216"}} 0\n' in target.metrics()
    assert target.counts("operations_total", A)["read"] == 1


def test_failures_are_told_apart(target: Counted) -> None:
    target.engine.rpc("bdev_error_inject_error", name="EE_M2", io_type="read", error_type="failure", num=1)
    with target.initiator(A) as initiator, target.initiator(B) as other:
        assert initiator.read(cdb.read_10(0, 8), 8 * BLOCK, lun=2).status == 2
        assert initiator.read(cdb.read_10(0, 8), 8 * BLOCK, lun=2).status == 0
        assert initiator.execute(cdb.reserve_6(), lun=2).status == 0
        assert other.read(cdb.read_10(0, 8), 8 * BLOCK, lun=2).status == 0x18
    assert target.counts("errors_total", A, lun=2) == {"check_condition,medium_error": 1}
    assert target.counts("errors_total", B, lun=2) == {"reservation_conflict,": 1}
    assert target.counts("operations_total", A, lun=2) == {"read": 2, "write": 0, "other": 1}
    assert target.counts("bytes_total", A, lun=2) == {"read": 8 * BLOCK, "write": 0}
    stat = target.iostat("EE_M2")
    assert (stat["num_read_ops"], stat["io_error"]) == (1, {"failed": 1})
    check_with_promtool(target.metrics())


def test_unmap_and_what_is_copied_count_for_the_bdev(target: Counted) -> None:
    with target.initiator(A) as initiator:
        parameters = (22).to_bytes(2, "big") + (16).to_bytes(2, "big") + bytes(4) + bytes(8) + (4).to_bytes(4, "big")
        unmap = bytes([0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0])
        assert initiator.write(unmap, parameters + bytes(4), immediate=24).status == 0
        write_same = bytes([0x93, 0, *bytes(8), 0, 0, 0, 4, 0, 0])
        assert initiator.write(write_same, b"x" * BLOCK, immediate=BLOCK).status == 0
    stat = target.iostat("M0")
    assert (stat["num_unmap_ops"], stat["bytes_unmapped"]) == (1, 4 * BLOCK)
    assert 0 < stat["min_unmap_latency_ticks"] <= stat["unmap_latency_ticks"]
    assert stat["bytes_written"] == 4 * BLOCK
    assert target.counts("operations_total", A) == {"read": 0, "write": 0, "other": 2}


def test_what_is_beneath_counts_as_what_is_on_top(target: Counted) -> None:
    with target.initiator(A) as initiator:
        for lun in (1, 2):
            assert initiator.write(cdb.write_10(0, 4), bytes(4 * BLOCK), immediate=4 * BLOCK, lun=lun).status == 0
            assert initiator.read(cdb.read_10(0, 8), 8 * BLOCK, lun=lun).status == 0
    for top, beneath in (("D1", "M1"), ("EE_M2", "M2")):
        for key in ("num_read_ops", "bytes_read", "num_write_ops", "bytes_written"):
            assert 0 < target.iostat(beneath)[key] == target.iostat(top)[key]
    assert 0 < target.iostat("M1")["read_latency_ticks"] < target.iostat("D1")["read_latency_ticks"]
    assert 'openlun_bdev_bytes_total{bdev="M1",operation="read"} 4096\n' in target.metrics()
    target.engine.rpc("bdev_reset_iostat", name="M1")
    assert (target.iostat("M1")["num_read_ops"], target.iostat("D1")["num_read_ops"]) == (0, 1)


def test_an_aborted_command_is_counted_when_it_ends() -> None:
    with TargetInProcess() as target, target.login() as initiator:
        target.hold()
        command = initiator.command(cdb.read_10(0, 1), flags=wire.FINAL | wire.READ | wire.SIMPLE, length=BLOCK)
        initiator.send(command)
        target.wait_until_working()
        initiator.send(initiator.task_request(ABORT_TASK, ref_task_tag=command.itt))
        target.release()
        assert initiator.receive().opcode == wire.TASK_RESPONSE
        (use,) = target.iscsi.nodes[target.name].device.luns[0].uses.values()
        eventually(lambda: target.call(lambda: dict(use.errors)) == {(TASK_ABORTED, 0): 1}, "the abort is counted")
        assert (use.read.operations, use.read.bytes, target.disk.stats.read.operations) == (1, 0, 0)


def test_statistics_of_bdevs_are_reset_by_spdks_client(target: Counted) -> None:
    engine = target.engine

    def work() -> None:
        with target.initiator(A) as initiator:
            initiator.read(cdb.read_10(0, 1), BLOCK)

    work()
    before = target.iostat("M0")
    engine.spdk_rpc("bdev_reset_iostat", "-b", "M0", "-m", "maxmin")
    after = target.iostat("M0")
    assert after == {**before, "max_read_latency_ticks": 0, "min_read_latency_ticks": 0}
    engine.spdk_rpc("bdev_reset_iostat", "-m", "none")
    assert target.iostat("M0") == after
    engine.spdk_rpc("bdev_reset_iostat")
    assert not any(value for name, value in target.iostat("M0").items() if name != "name")
    work()
    assert engine.rpc("bdev_get_iostat", names=["M0"], reset_mode="all")["bdevs"][0]["num_read_ops"] == 1
    assert target.iostat("M0")["num_read_ops"] == 0
    assert target.counts("operations_total", A)["read"] == 2  # counters of initiators are never reset
    channel = engine.spdk_rpc("bdev_get_iostat", "-c", "--names", "M0")
    assert (channel["name"], channel["channels"][0]["num_read_ops"]) == ("M0", 0)
    with pytest.raises(RpcError, match="one bdev") as refusal:
        engine.rpc("bdev_get_iostat", per_channel=True)
    assert refusal.value.code == -22
    with pytest.raises(RpcError) as refusal:
        engine.rpc("bdev_reset_iostat", name="nope")
    assert refusal.value.code == -19


def test_borders_of_a_histogram(target: Counted) -> None:
    engine = target.engine
    with pytest.raises(RpcError, match="Bad address"):
        engine.rpc("bdev_get_histogram_borders", name="D1", borders=[1])
    engine.spdk_rpc("bdev_enable_histogram", "--histogram", "D1")
    with target.initiator(A) as initiator:
        initiator.read(cdb.read_10(0, 1), BLOCK, lun=1)
    answer = engine.spdk_rpc("bdev_get_histogram_borders", "D1", "--borders", "100,20000,100000000")
    assert answer == {"borders_count": [0, 0, 1, 1]}


def start_waiting(launch: Launch) -> Engine:
    return launch("--wait-for-rpc", state=True)


def test_options_of_sockets_and_buffers_are_kept(launch: Launch) -> None:
    engine = start_waiting(launch)
    assert engine.spdk_rpc("sock_impl_get_options", "-i", "posix")["recv_buf_size"] == 2097152
    engine.spdk_rpc("sock_impl_set_options", "-i", "posix", "-r", "65536", "--quickack")
    engine.spdk_rpc("sock_set_default_impl", "-i", "uring")
    assert engine.spdk_rpc("sock_get_default_impl") == {"impl_name": "uring"}
    engine.spdk_rpc("iobuf_set_options", "--small-pool-count", "4096", "--large-bufsize", "1048576")
    for method, params, code in (
        ("sock_impl_get_options", {"impl_name": "vpp"}, -32602),
        ("sock_impl_set_options", {"impl_name": "vpp"}, -32602),
        ("sock_set_default_impl", {"impl_name": "vpp"}, -32602),
        ("iobuf_set_options", {"small_pool_count": 63}, -22),
        ("iobuf_set_options", {"large_bufsize": "big"}, -32602),
    ):
        with pytest.raises(RpcError) as refusal:
            engine.rpc(method, **params)
        assert refusal.value.code == code, (method, params)
    engine.rpc("framework_start_init")
    for method in ("sock_impl_set_options", "sock_set_default_impl"):
        with pytest.raises(RpcError, match="before framework is initialized"):
            engine.rpc(method, impl_name="posix")
    saved = [engine.rpc("framework_get_config", name=name) for name in ("sock", "iobuf")]
    default, *implementations = saved[0]
    assert default == {"method": "sock_set_default_impl", "params": {"impl_name": "uring"}}
    (posix,) = (each["params"] for each in implementations if each["params"]["impl_name"] == "posix")
    assert (posix["recv_buf_size"], posix["send_buf_size"], posix["enable_quickack"]) == (65536, 2097152, True)
    assert saved[1][0]["params"]["small_pool_count"] == 4096
    engine.restart()
    engine.rpc("framework_start_init")
    assert [engine.rpc("framework_get_config", name=name) for name in ("sock", "iobuf")] == saved
