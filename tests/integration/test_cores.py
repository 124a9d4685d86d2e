# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logins, changes and numbers of an engine on two cores."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import struct
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import Busy
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi import parting
from cluster import TWO_CORES, Cluster, is_there, needs_two_cores, ready
from engine_process import Engine, Launch, RpcError, Target, eventually, free_port, run
from in_process import TargetInProcess
from pdu import cdb, wire
from pdu.chap import ChapLogin
from pdu.checks import answers_pings
from pdu.initiator import OPERATIONAL, Initiator, LoginRefused
from pdu.joined import Joined
from pdu.reservation import (
    READ_KEYS,
    READ_RESERVATION,
    REGISTER,
    RESERVE,
    WRITE_EXCLUSIVE,
    keys,
    reservation,
    reserve_in_cdb,
    reserve_out_cdb,
    reserve_out_list,
)
from pdu.wire import Pdu, text_data

pytestmark = needs_two_cores

BLOCK = 512
GOOD = 0
NOT_FOUND = (2, 3)
LUNS_CHANGED = (6, 0x3F, 0x0E)


@contextlib.contextmanager
def logged_in(*targets: Target) -> Iterator[list[Initiator]]:
    """A session with each."""
    with contextlib.ExitStack() as stack:
        yield [ready(stack.enter_context(target.login())) for target in targets]


def identity(target: Target, initiator: Initiator) -> dict[str, str]:
    return {"InitiatorName": initiator.name, "SessionType": "Normal", "TargetName": target.name}


# -- logins


def test_nodes_are_spread_over_the_workers(cluster: Cluster) -> None:
    targets = [cluster.node(f"disk{number}") for number in range(4)]
    with logged_in(*targets) as initiators:
        assert [cluster.worker_of(target) for target in targets] == [1, 2, 1, 2]
        assert len({initiator.tsih for initiator in initiators}) == len(targets)
        shown = cluster.engine.rpc("iscsi_get_connections")
        assert len({each["id"] for each in shown}) == len(targets)
        assert cluster.engine.rpc("iscsi_get_stats")["running"] == len(targets)
        assert eventually(lambda: [each["sessions"] for each in cluster.workers()] == [2, 2], "the workers' word of it")


def test_discovery_is_the_main_processs_and_names_everything(cluster: Cluster) -> None:
    names = {cluster.node(f"disk{number}").name for number in range(3)}
    found = run("iscsi-ls", f"iscsi://127.0.0.1:{cluster.port}").stdout
    assert {name for name in names if name in found} == names


def test_who_wants_a_node_that_is_not_there_is_told_so(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    with target.connect() as initiator, pytest.raises(LoginRefused) as refusal:
        initiator.login("iqn.2016-06.io.spdk:other")
    assert refusal.value.status == NOT_FOUND


def test_a_login_may_come_byte_by_byte(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    with target.connect() as initiator:
        for byte in bytes(initiator.login_pdu({**identity(target, initiator), **OPERATIONAL})):
            initiator.send(bytes([byte]))
        initiator.receive_login()
        assert ready(initiator).tsih


def test_a_login_may_name_its_node_in_a_later_pdu(cluster: Cluster) -> None:
    """What the main process answered before it knew who serves the node is not answered again."""
    target = cluster.node("disk0")
    with target.connect() as initiator:
        text = text_data({**identity(target, initiator), **OPERATIONAL})
        half = text.index(b"TargetName") + 5
        for part, flags in ((text[:10], wire.CONTINUE), (text[10:half], wire.CONTINUE), (text[half:], wire.FINAL | 3)):
            request = initiator.login_pdu({})
            request = Pdu(
                wire.LOGIN, flags | 1 << 2, immediate=True, data=part, isid=initiator.isid, itt=0, cmd_sn=1, cid=0
            )
            initiator.send(request)
            response = initiator.receive()
            assert (response.opcode, response.status_class) == (wire.LOGIN_RESPONSE, 0)
            assert bool(response.data) is bool(flags & wire.FINAL)
        initiator.tsih = response.tsih
        assert response.stat_sn == 2
        assert ready(initiator).tsih


def test_a_connection_joins_its_session_and_a_new_session_ends_the_old_one(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    with target.login(MaxConnections="2") as first, Joined(first, 1) as second:
        second.join(target.name)
        assert (second.tsih, ready(second).execute(cdb.unit_ready()).status) == (first.tsih, GOOD)
        with target.login() as again:  # the same ISID
            assert ready(again).tsih != first.tsih
            assert first.is_closed()
            assert second.is_closed()


def test_chap_is_proved_to_the_worker(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    engine = cluster.engine
    engine.rpc("iscsi_create_auth_group", tag=7, secrets=[{"user": "alice", "secret": "wonderland-0001"}])
    engine.rpc("iscsi_target_node_set_auth", name=target.name, require_chap=True, chap_group=7)
    with target.connect() as initiator:
        login = ChapLogin(initiator, target.name).ask()
        login.prove("alice", "wonderland-0001")
        initiator.send(initiator.login_pdu(OPERATIONAL))
        initiator.receive_login()
        assert ready(initiator).tsih
    with target.connect() as initiator, pytest.raises(LoginRefused) as refusal:
        ChapLogin(initiator, target.name).ask().prove("alice", "not-the-secret-0")
    assert refusal.value.status == (2, 1)
    words = engine.words() + "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in cluster.processes())
    assert "wonderland" not in words


def test_who_does_not_speak_iscsi_is_dropped(cluster: Cluster) -> None:
    cluster.node("disk0")
    for data in (b"GET / HTTP/1.1\r\n\r\n" + bytes(100), b"\x43" + b"\xff" * 100):
        with Initiator(("127.0.0.1", cluster.port)) as initiator:
            initiator.send(data)
            assert initiator.is_closed()


def test_no_more_sessions_than_allowed_on_all_workers_together(launch: Launch) -> None:
    engine = launch(*TWO_CORES, "--wait-for-rpc")
    engine.rpc("iscsi_set_options", max_sessions=2)
    engine.rpc("framework_start_init")
    cluster = Cluster(engine)
    targets = [cluster.node(f"disk{number}") for number in range(3)]
    with logged_in(*targets[:2]):
        eventually(lambda: [each["sessions"] for each in cluster.workers()] == [1, 1], "the workers' word of it")
        with targets[2].connect() as third, pytest.raises(LoginRefused) as refusal:
            third.login(targets[2].name)
        assert refusal.value.status == (3, 2)


# -- changes


def test_what_changes_reaches_the_worker_before_it_is_answered(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    engine = cluster.engine
    with target.login() as initiator:
        ready(initiator)
        engine.malloc("More0", 4)
        engine.rpc("iscsi_target_node_add_lun", name=target.name, bdev_name="More0")
        assert initiator.execute(cdb.unit_ready()).response.sense == LUNS_CHANGED
        uuid = engine.rpc("bdev_get_bdevs", name="More0")[0]["uuid"]
        serial = initiator.read(cdb.inquiry(0x80), 255, lun=1).data[4:].decode()
        assert serial == uuid.replace("-", "")  # chosen at random, and the same everywhere
        engine.rpc("bdev_malloc_delete", name="More0")
        assert initiator.execute(cdb.unit_ready()).response.sense == LUNS_CHANGED
        assert initiator.execute(cdb.unit_ready(), lun=1).status != GOOD


def test_a_transaction_that_fails_is_none_for_the_workers(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    made = {"method": "bdev_null_create", "params": {"name": "N0", "num_blocks": 8, "block_size": 512}}
    add = {"method": "iscsi_target_node_add_lun", "params": {"name": target.name, "bdev_name": "N0"}}
    wrong = {"method": "iscsi_delete_target_node", "params": {"name": "nope"}}
    with target.login() as initiator:
        ready(initiator)
        with pytest.raises(RpcError):
            cluster.engine.rpc("engine_apply", calls=[made, add, wrong])
        assert initiator.execute(cdb.unit_ready()).status == GOOD
        cluster.engine.rpc("engine_apply", calls=[made, add])
        assert initiator.execute(cdb.unit_ready()).response.sense == LUNS_CHANGED
        eventually(lambda: initiator.execute(cdb.unit_ready(), lun=1).status == GOOD, "the new LUN")
    assert [worker["restarts"] for worker in cluster.workers()] == [0, 0]


def test_a_node_that_is_not_deleted_after_all_is_served_where_it_was(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    delete, wrong = ({"method": "iscsi_delete_target_node", "params": {"name": name}} for name in (target.name, "nope"))
    with pytest.raises(RpcError):
        cluster.engine.rpc("engine_apply", calls=[delete, wrong])
    with target.login() as initiator:
        ready(initiator)
        assert initiator.execute(cdb.unit_ready()).status == GOOD
    assert [worker["restarts"] for worker in cluster.workers()] == [0, 0]


def test_a_file_is_made_grown_and_removed_once(cluster: Cluster, tmp_path: Path) -> None:
    engine, path = cluster.engine, tmp_path / "disk"
    engine.aio("A0", path, size=2**20)
    target = cluster.node("disk0", "A0")
    with target.login() as initiator:
        ready(initiator)
        engine.rpc("bdev_aio_resize", name="A0", size=2**21)
        blocks = int.from_bytes(initiator.read(cdb.read_capacity_16(), 32).data[:8], "big")
        eventually(lambda: initiator.execute(cdb.unit_ready()).status == GOOD, "a unit that is ready")
        blocks = int.from_bytes(initiator.read(cdb.read_capacity_16(), 32).data[:8], "big") + 1
        assert blocks * BLOCK == path.stat().st_size == 2**21
        engine.rpc("bdev_aio_delete", name="A0", remove_file=True)
        assert initiator.execute(cdb.unit_ready()).status != GOOD
    assert not path.exists()
    assert [worker["restarts"] for worker in cluster.workers()] == [0, 0]


def test_a_node_that_is_deleted_asks_its_initiators_to_go(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    with target.login() as initiator:
        ready(initiator)
        initiator.send(initiator.nop_out(b""))
        initiator.receive()
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(20)
            control.connect(str(cluster.engine.socket))
            control.sendall(
                b'{"jsonrpc":"2.0","id":1,"method":"iscsi_delete_target_node","params":{"name":"%s"}}'
                % target.name.encode()
            )
            event = initiator.receive()
            assert (event.opcode, event.async_event) == (wire.ASYNC, 1)
            initiator.send(initiator.logout())
            assert initiator.receive().opcode == wire.LOGOUT_RESPONSE
            assert b'"result":true' in control.recv(1000)
    cluster.node("disk0", "M-disk0").login().close()
    assert [worker["restarts"] for worker in cluster.workers()] == [0, 0]


def test_a_mirror_that_lost_a_disk_is_saved_without_it(cluster: Cluster) -> None:
    engine = cluster.engine
    for name in ("A", "B"):
        engine.malloc(name, 4)
    engine.rpc("bdev_error_create", base_name="B")
    engine.rpc("bdev_raid_create", name="R0", raid_level="raid1", base_bdevs=["A", "EE_B"])
    target = cluster.node("disk0", "R0")
    engine.rpc("bdev_error_inject_error", name="EE_B", io_type="write", error_type="failure", num=1000)

    def bases() -> list[str]:
        (raid,) = engine.rpc("bdev_raid_get_bdevs", category="all")
        return [base["name"] for base in raid["base_bdevs_list"] if base["name"]]

    with target.login() as initiator:
        assert ready(initiator).write(cdb.write_10(0, 1), b"x" * BLOCK).status == GOOD
        assert eventually(lambda: bases() == ["A"], "the main process's knowledge of it")
    eventually(lambda: "EE_B" not in _saved_raid(engine), "a saved configuration without it")
    assert [worker["restarts"] for worker in cluster.workers()] == [0, 0]


def _saved_raid(engine: Engine) -> str:
    text = (engine.state_dir / "config.json").read_text()
    return next(line for line in text.splitlines() if "bdev_raid_create" in line)


# -- nodes that share a bdev


def test_nodes_on_one_disk_share_a_worker(cluster: Cluster) -> None:
    engine = cluster.engine
    engine.malloc("Base", 8)
    engine.rpc("bdev_split_create", base_bdev="Base", split_count=2)
    engine.rpc("bdev_passthru_create", base_bdev_name="Basep1", name="Pass")
    targets = [cluster.node("alone"), cluster.node("low", "Basep0"), cluster.node("high", "Pass")]
    with logged_in(*targets) as sessions:
        assert [cluster.worker_of(target) for target in targets] == [1, 2, 2]
        assert all(map(answers_pings, sessions))


def test_a_node_goes_to_another_worker_when_it_gets_a_disk_that_is_used_there(cluster: Cluster) -> None:
    one, other = cluster.node("one"), cluster.node("other")
    engine = cluster.engine
    with one.login() as stays, other.login() as goes:
        for session in (stays, goes):
            ready(session)
        assert (cluster.worker_of(one), cluster.worker_of(other)) == (1, 2)
        assert goes.write(cdb.write_10(5, 1), b"5" * BLOCK).status == GOOD
        for action, key, new in ((REGISTER, 0, 77), (RESERVE, 77, 0)):
            out = goes.write(reserve_out_cdb(action, WRITE_EXCLUSIVE), reserve_out_list(key, new))
            assert out.status == GOOD
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(20)
            control.connect(str(engine.socket))
            control.sendall(
                b'{"jsonrpc":"2.0","id":1,"method":"iscsi_target_node_add_lun",'
                b'"params":{"name":"%s","bdev_name":"M-one"}}' % other.name.encode()
            )
            event = goes.receive()
            assert (event.opcode, event.async_event) == (wire.ASYNC, 1)
            goes.send(goes.logout())
            assert goes.receive().opcode == wire.LOGOUT_RESPONSE
            assert b'"result":true' in control.recv(1000)
        assert stays.execute(cdb.unit_ready()).status == GOOD
        with other.login() as back:
            assert cluster.worker_of(other) == 1
            ready(back)
            # What it left behind came along: data, and reservations that are not even kept over a restart.
            assert back.read(cdb.read_10(5, 1), BLOCK).data == b"5" * BLOCK
            assert keys(back.read(reserve_in_cdb(READ_KEYS), 1024).data)[1] == [77]
            assert reservation(back.read(reserve_in_cdb(READ_RESERVATION), 1024).data) == (77, WRITE_EXCLUSIVE)
            assert stays.write(cdb.write_10(9, 1), b"9" * BLOCK).status == GOOD
            assert back.read(cdb.read_10(9, 1), BLOCK, lun=1).data == b"9" * BLOCK


def test_who_does_not_log_out_is_dropped_when_the_node_goes(cluster: Cluster) -> None:
    one, other = cluster.node("one"), cluster.node("other")
    with one.login() as stays, other.login() as goes:
        ready(stays), ready(goes)
        cluster.engine.rpc("iscsi_target_node_add_lun", name=other.name, bdev_name="M-one")
        assert goes.is_closed()
        assert stays.execute(cdb.unit_ready()).status == GOOD
        with other.login() as back:
            assert ready(back).execute(cdb.unit_ready(), lun=1).status == GOOD


@pytest.mark.parametrize("in_time", [True, False])
def test_a_node_does_not_go_before_its_disks_are_at_rest(in_time: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with TargetInProcess() as target:
        with target.login() as initiator:
            ready(initiator)
            target.hold()
            flags = wire.FINAL | wire.WRITE | wire.SIMPLE
            initiator.send(initiator.command(cdb.write_10(0, 1), flags=flags, length=BLOCK, data=bytes(BLOCK)))
            target.wait_until_working()
        if not in_time:
            monkeypatch.setattr(parting, "_REST_SECONDS", 0.05)
        leaving = target.begin(parting.see_off(target.iscsi, [target.name], 0, until_rest=True))
        if not in_time:
            with pytest.raises(Busy, match="still work on 1 commands"):
                leaving.result(20)
            return
        eventually(lambda: target.call(lambda: not target.iscsi.sessions.connections), "the end of its sessions")
        assert not leaving.done()
        target.release()
        leaving.result(20)
        with target.connect() as late, pytest.raises(LoginRefused) as refusal:
            late.login(target.name)
        assert refusal.value.status == (3, 1)


# -- numbers


def test_numbers_are_those_of_all_processes(cluster: Cluster) -> None:
    engine = cluster.engine
    targets = [cluster.node("one"), cluster.node("other")]
    for name in ("M-one", "M-other"):
        engine.rpc("bdev_enable_histogram", name=name, enable=True)
    for target in targets:
        engine.rpc("iscsi_enable_histogram", name=target.name, enable=True)
        with target.login() as initiator:
            ready(initiator)
            for lba in range(3):
                initiator.write(cdb.write_10(lba, 1), bytes(BLOCK))
            initiator.read(cdb.read_10(0, 2), 2 * BLOCK)
    shown = {each["name"]: each for each in engine.rpc("bdev_get_iostat")["bdevs"]}
    for name in ("M-one", "M-other"):
        counters = [shown[name][key] for key in ("num_write_ops", "bytes_written", "num_read_ops", "bytes_read")]
        assert counters == [3, 3 * BLOCK, 1, 2 * BLOCK]
        assert _counted(engine.rpc("bdev_get_histogram", name=name)) == 4
    for target in targets:
        assert _counted(engine.rpc("iscsi_get_histogram", name=target.name)) >= 4
    reactors = engine.rpc("framework_get_reactors")["reactors"]
    assert [each["tid"] for each in reactors] == cluster.processes()
    threads = engine.rpc("thread_get_stats")["threads"]
    assert [each["name"] for each in threads] == ["app_thread", *(f"iscsi_poll_group_{each}" for each in range(3))]
    engine.rpc("bdev_get_iostat", reset_mode="all")
    assert {each["num_write_ops"] for each in engine.rpc("bdev_get_iostat")["bdevs"]} == {0}


def _counted(histogram: dict[str, str]) -> int:
    packed = base64.b64decode(histogram["histogram"])
    return sum(struct.unpack(f"<{len(packed) // 8}Q", packed))


def test_metrics_and_the_status_page_tell_of_all_processes(launch: Launch) -> None:
    port = free_port()
    cluster = Cluster(launch(*TWO_CORES, "--http", f"127.0.0.1:{port}"))
    targets = [cluster.node("one"), cluster.node("other")]

    def page(name: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}") as answer:
            text: str = answer.read().decode()
            return text

    with logged_in(*targets) as sessions:
        for session in sessions:
            session.write(cdb.write_10(0, 1), bytes(BLOCK))
        lines = page("metrics").splitlines()
        for name in ("one", "other"):
            assert f'openlun_bdev_operations_total{{bdev="M-{name}",operation="write"}} 1' in lines
            assert f'openlun_target_sessions{{target="iqn.2016-06.io.spdk:{name}"}} 1' in lines
        assert "openlun_connections 2" in lines
        assert len([line for line in lines if line.startswith("openlun_info{")]) == 1
        assert page("status.json").count(f'"initiator_name":"{sessions[0].name}"') == 2


def test_the_log_level_is_everybodys(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    cluster.engine.rpc("log_set_level", level="INFO")
    with target.login() as initiator:
        ready(initiator)
    eventually(lambda: "INFO worker 1: iscsi.connection" in cluster.engine.words(), "the worker's words")


# -- the end


def test_stopping_leaves_no_process(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    processes = cluster.processes()
    with target.login() as initiator:
        ready(initiator)
        process = cluster.engine.process
        assert process
        process.terminate()
        event = initiator.receive()
        assert (event.opcode, event.async_event) == (wire.ASYNC, 1)
        initiator.send(initiator.logout())
        assert initiator.receive().opcode == wire.LOGOUT_RESPONSE
        assert process.wait(20) == 0
    assert not [pid for pid in processes if is_there(pid)]


@pytest.mark.parametrize("hangs", [False, True])
def test_a_main_process_that_is_killed_takes_its_workers_along(cluster: Cluster, hangs: bool) -> None:
    target = cluster.node("disk0")
    processes = cluster.processes()
    with target.login() as initiator:
        ready(initiator)
        if hangs:
            os.kill(processes[1], signal.SIGSTOP)
        assert cluster.engine.process
        cluster.engine.process.kill()
        cluster.engine.process.wait(20)
        assert initiator.is_closed()
    eventually(lambda: not [pid for pid in processes if is_there(pid)], "the end of all processes")


def test_signals_that_are_the_main_processs_end_no_worker(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    with target.login() as initiator:
        ready(initiator)
        for worker in cluster.workers():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(worker["pid"], number)
        assert answers_pings(initiator)
    assert [worker["restarts"] for worker in cluster.workers()] == [0, 0]


def test_one_core_has_no_worker(launch: Launch) -> None:
    engine = launch("-m", "0x1")
    assert "workers" not in engine.rpc("engine_get_info")
    assert engine.process
    children = Path(f"/proc/{engine.process.pid}/task/{engine.process.pid}/children").read_text()
    assert not children.strip()
