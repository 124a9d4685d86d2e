# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The RPC server of a running engine, its socket, signals and command line, with real clients and real accidents."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import json
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from control import NODE, answers, build, connected, live_bdevs, request, saved_bdevs
from engine_process import DEADLINE, Engine, Launch, RpcError, eventually, refused_start
from pdu.initiator import Initiator

# -- transport -------------------------------------------------------------------------------------------------------


def test_requests_in_a_row_are_answered_in_order(engine: Engine) -> None:
    with connected(engine) as connection:
        wanted = [request("bdev_malloc_create", n, name=f"M{n}", num_blocks=8, block_size=512) for n in range(500)]
        connection.sendall(b"".join(wanted))
        assert [(each["id"], each["result"]) for each in answers(connection, 500)] == [(n, f"M{n}") for n in range(500)]


def test_a_batch_is_answered_as_one(engine: Engine) -> None:
    batch = [
        json.loads(request("bdev_malloc_create", 1, name="M0", num_blocks=8, block_size=512)),
        json.loads(request("bdev_get_bdevs", "two", name="M0")),
        {"method": "bdev_malloc_delete", "params": {"name": "M0"}},
        {"method": "nope"},
        5,
        json.loads(request("bdev_get_bdevs", 3)),
    ]
    answer = json.loads(engine.exchange(json.dumps(batch, indent=2).encode()))
    assert [each["id"] for each in answer] == [1, "two", None, None, 3]
    assert [each.get("error", {}).get("code") for each in answer] == [None, None, -32601, -32600, None]
    assert answer[-1]["result"] == []


def test_an_empty_batch_is_refused_and_one_of_notifications_is_silent(engine: Engine) -> None:
    assert json.loads(engine.exchange(b"[]"))["error"]["code"] == -32600
    with connected(engine) as connection:
        connection.sendall(b'[{"method": "log_get_level"}, {"method": "log_get_level"}]' + request("log_get_level", 7))
        assert answers(connection, 1)[0]["id"] == 7


def test_a_request_of_many_mebibytes(engine: Engine) -> None:
    names = [f"M{number}" for number in range(20000)]
    batch = [
        {"jsonrpc": "2.0", "id": name, "method": "bdev_get_bdevs", "params": {"name": name + "x" * 200}}
        for name in names
    ]
    text = json.dumps(batch, indent=1).encode()
    assert len(text) > 4 * 2**20
    answer = json.loads(engine.exchange(text))
    assert [each["id"] for each in answer] == names
    assert {each["error"]["code"] for each in answer} == {-19}


@pytest.mark.parametrize(
    "text", [b'{"jsonrpc": nope}', b"GET / HTTP/1.1\r\n\r\n", b"{]", b'{"a": "\xff"}', b"[" * 100, b'{"a": NaN}']
)
def test_malformed_json_is_answered_and_the_connection_closed(engine: Engine, text: bytes) -> None:
    with connected(engine) as connection, connection.makefile("rb") as stream:
        connection.sendall(request("log_get_level", 1) + text + request("log_get_level", 2))
        assert json.loads(stream.readline())["id"] == 1
        refusal = json.loads(stream.readline())
        assert (refusal["id"], refusal["error"]["code"]) == (None, -32700)
        assert stream.read() == b""
    assert engine.rpc("log_get_level") == "NOTICE"


def test_the_end_of_the_stream_ends_a_request(engine: Engine) -> None:
    for text, code in ((b'{"method": "log_g', -32700), (b"17", -32600)):
        with connected(engine) as connection, connection.makefile("rb") as stream:
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            assert json.loads(stream.readline())["error"]["code"] == code
            assert stream.read() == b""
    with connected(engine) as connection, connection.makefile("rb") as stream:
        connection.sendall(request("log_get_level"))
        connection.shutdown(socket.SHUT_WR)
        assert json.loads(stream.readline())["result"] == "NOTICE"


def test_strange_values_harm_nobody(engine: Engine) -> None:
    values: list[Any] = ["\0", "\ud800", "\U0001f4be" * 1000, "x" * 100_000, 10**63, -1, 1e308, [], {}, None]
    for value in [*values, [[[]]] * 1000]:
        for method in ("bdev_get_bdevs", "bdev_malloc_delete", "iscsi_delete_target_node", "bdev_aio_create", "nope"):
            with pytest.raises(RpcError) as refusal:
                engine.rpc(method, name=value)
            assert len(refusal.value.message) < 20_000
    with pytest.raises(RpcError):
        engine.rpc("\ud800" * 10_000)
    assert live_bdevs(engine) == []
    assert "Traceback" not in engine.words()


def test_clients_that_stall_or_die_harm_nobody(engine: Engine) -> None:
    with contextlib.ExitStack() as stack:
        half, deaf = (stack.enter_context(connected(engine)) for _each in range(2))
        half.sendall(b'{"method": "bdev_ma')
        deaf.settimeout(0.2)
        with contextlib.suppress(socket.timeout):
            while True:  # asks and asks, and never reads an answer
                deaf.sendall(request("rpc_get_methods") * 1000)
        with connected(engine) as dying:
            dying.sendall(request("bdev_malloc_create", 1, name="M0", num_blocks=8, block_size=512) * 2 + b'{"meth')
        eventually(lambda: live_bdevs(engine) == ["M0"], "the request of the client that died")
        half.sendall(b'lloc_delete", "params": {"name": "M0"}, "id": 1}')
        assert answers(half, 1)[0]["result"] is True
        memory = int(Path(f"/proc/{engine.process.pid}/statm").read_text().split()[1]) * resource.getpagesize()  # type: ignore[union-attr]
        assert memory < 200 * 2**20


def test_five_hundred_and_twelve_clients_at_once(launch: Launch) -> None:
    engine = launch(state=True)
    everybody = threading.Barrier(512)

    def work(number: int) -> None:
        with connected(engine) as connection:
            everybody.wait(DEADLINE)
            for step in range(2):
                name = f"M{number}.{step}"
                connection.sendall(request("bdev_malloc_create", name, name=name, num_blocks=8, block_size=512))
                assert answers(connection, 1) == [{"jsonrpc": "2.0", "id": name, "result": name}]
                assert name in (engine.state_dir / "config.json").read_text()

    with concurrent.futures.ThreadPoolExecutor(512) as pool:
        for done in [pool.submit(work, number) for number in range(512)]:
            done.result()
    assert len(live_bdevs(engine)) == 1024
    assert sorted(saved_bdevs(engine)) == sorted(live_bdevs(engine))


def test_a_client_may_wait_for_a_bdev_that_it_makes_itself(engine: Engine) -> None:
    with connected(engine) as connection:
        connection.sendall(
            request("bdev_get_bdevs", "wait", name="M0", timeout=int(DEADLINE * 1000))
            + request("bdev_malloc_create", "make", name="M0", num_blocks=8, block_size=512)
        )
        assert {each["id"] for each in answers(connection, 2)} == {"wait", "make"}
    with pytest.raises(RpcError, match="No such device"):
        engine.rpc("bdev_get_bdevs", name="M1", timeout=20)


# -- the socket is one engine's --------------------------------------------------------------------------------------


def test_the_socket_is_private(engine: Engine) -> None:
    mode = engine.socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_a_second_engine_on_the_socket_is_refused(launch: Launch, archive: Path, tmp_path: Path) -> None:
    engine = launch("--pid-file", tmp_path / "pid")
    sentence = refused_start(archive, "-r", engine.socket, "--pid-file", tmp_path / "pid")
    assert f"RPC socket {engine.socket} is served by another process" in sentence
    assert engine.rpc("log_get_level") == "NOTICE"
    assert engine.process is not None
    assert (tmp_path / "pid").read_text() == f"{engine.process.pid}\n"
    engine.stop()
    assert list(tmp_path.iterdir()) == []


def test_a_socket_that_something_else_serves_is_left_alone(archive: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "s"))
        other.listen()
        assert "served by another process" in refused_start(archive, "-r", tmp_path / "s")
        assert (tmp_path / "s").is_socket()


def test_a_file_in_the_sockets_place_is_left_alone(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    assert "there is a file of that name" in refused_start(archive, "-r", tmp_path / "s")
    assert (tmp_path / "s").read_text() == "precious"


def test_two_engines_never_share_a_state_directory(launch: Launch, archive: Path, tmp_path: Path) -> None:
    engine = launch(state=True)
    sentence = refused_start(archive, "-r", tmp_path / "s", "--state-dir", engine.state_dir)
    assert f"state directory {engine.state_dir} is used by another engine" in sentence


def test_what_a_killed_engine_left_is_no_obstacle(launch: Launch) -> None:
    engine = launch()
    engine.restart(signal.SIGKILL)
    assert engine.rpc("log_get_level") == "NOTICE"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(launch: Launch, tmp_path: Path, number: signal.Signals) -> None:
    engine = launch("--pid-file", tmp_path / "pid", state=True)
    build(engine)
    with connected(engine):
        assert engine.end(number) == 0
    assert list(tmp_path.iterdir()) == []
    assert not engine.socket.exists()
    assert not engine.socket.with_name(engine.socket.name + ".lock").exists()
    assert "ERROR" not in engine.words()


def test_a_hang_up_reads_the_log_level_again(launch: Launch, tmp_path: Path) -> None:
    level = tmp_path / "level"
    level.write_text("info\n")
    engine = launch("--log-level", f"@{level}")
    assert engine.process is not None
    assert engine.rpc("log_get_level") == "INFO"
    for text, wanted in (("DEBUG", "DEBUG"), ("LOUD", "DEBUG"), ("ERROR\n", "ERROR")):
        level.write_text(text)
        engine.process.send_signal(signal.SIGHUP)
        eventually(partial(has_level, engine, wanted), f"the level {wanted}")
    assert "'LOUD' is none of ERROR" in engine.words()
    engine.rpc("bdev_get_bdevs")


def has_level(engine: Engine, level: str) -> bool:
    return bool(engine.rpc("log_get_level") == level)


def test_a_wrong_log_level_is_told_at_start(archive: Path, tmp_path: Path) -> None:
    assert f"log level file {tmp_path}/nope" in refused_start(archive, "--log-level", f"@{tmp_path}/nope")


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGABRT])
def test_quit_and_the_watchdog_end_it_at_once_and_it_tells_where_it_was(launch: Launch, number: signal.Signals) -> None:
    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)  # as what a shell starts in the background has it
    try:
        engine = launch()
    finally:
        signal.signal(signal.SIGQUIT, before)
    assert engine.end(number) == -number
    assert "most recent call first" in engine.words()
    engine.start()


def test_initiators_have_a_while_to_log_out(launch: Launch) -> None:
    engine = launch("--drain-seconds", "1")
    port = build(engine)
    with Initiator(("127.0.0.1", port)).login(NODE) as client:
        assert engine.end(signal.SIGTERM) == 0
        asked = client.receive()
    assert asked.opcode == 0x32
    assert "its initiator did not log out within 1 s" in engine.words()


# -- the command line ------------------------------------------------------------------------------------------------


def cli(archive: Path, *words: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, archive, *words]
    return subprocess.run(list(map(str, command)), input=stdin, capture_output=True, text=True, timeout=60, check=False)


def test_rpc_on_the_command_line(launch: Launch, archive: Path) -> None:
    engine = launch()
    params = {"name": "M0", "num_blocks": 2048, "block_size": 512}
    done = cli(archive, "rpc", "-s", engine.socket, "bdev_malloc_create", json.dumps(params))
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, "M0", "")
    piped = cli(archive, "rpc", "-s", engine.socket, "bdev_get_bdevs", "-", stdin='{"name": "M0"}')
    assert json.loads(piped.stdout)[0]["num_blocks"] == 2048
    refused = cli(archive, "rpc", "-s", engine.socket, "bdev_malloc_create", json.dumps(params))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("openlun-iscsi: bdev_malloc_create: File exists: bdev M0")
    assert refused.stderr.count("\n") == 1
    garbled = cli(archive, "rpc", "-s", engine.socket, "bdev_get_bdevs", "{")
    assert garbled.returncode == 1
    assert "not JSON" in garbled.stderr


def test_no_engine_on_the_command_line(archive: Path, tmp_path: Path) -> None:
    missing = cli(archive, "rpc", "-s", tmp_path / "s", "bdev_get_bdevs")
    assert missing.returncode == 2
    assert "there is no such socket" in missing.stderr
    assert cli(archive, "serve", "--nope").returncode == 2
    assert cli(archive, "version").stdout.startswith("openlun-iscsi ")


def test_the_engine_runs_on_the_cores_it_is_given(launch: Launch, archive: Path, tmp_path: Path) -> None:
    assert engine_cores(launch("-m", "[0]")) == "0"
    assert engine_cores(launch("-m", "0x1")) == "0"
    assert "core 900 is not available here" in refused_start(archive, "-r", tmp_path / "s", "-m", "[900]")
    assert "CPU mask 'zz'" in refused_start(archive, "-r", tmp_path / "s", "-m", "zz")


def engine_cores(engine: Engine) -> str:
    assert engine.process is not None
    status = Path(f"/proc/{engine.process.pid}/status").read_text()
    return status.partition("Cpus_allowed_list:")[2].split()[0]


def test_the_engine_tells_what_it_is(launch: Launch, archive: Path) -> None:
    engine = launch(state=True, archive=archive)
    info = engine.rpc("engine_get_info")
    assert engine.process is not None
    assert info["name"] == "openlun-iscsi"
    assert info["pid"] == engine.process.pid
    assert info["checksum"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert (info["socket"], info["state_dir"]) == (str(engine.socket), str(engine.state_dir))
    assert "bdev_aio_resize" in info["extensions"]
    assert {"engine_get_info", "bdev_aio_resize"} <= set(engine.rpc("rpc_get_methods"))


# -- bdevs -----------------------------------------------------------------------------------------------------------


def test_a_file_disk_is_made_grown_and_removed(engine: Engine, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    engine.aio("A0", disk, size=2**20, sparse=True)
    assert disk.stat().st_size == 2**20
    assert disk.stat().st_blocks == 0
    engine.rpc("bdev_aio_resize", name="A0", size=2**21)
    assert engine.rpc("bdev_get_bdevs", name="A0")[0]["num_blocks"] == 2**21 // 512
    with pytest.raises(RpcError, match="never shrunk"):
        engine.rpc("bdev_aio_resize", name="A0", size=2**20)
    with disk.open("r+b") as file:
        file.truncate(2**22)
    engine.rpc("bdev_aio_rescan", name="A0")
    assert engine.rpc("bdev_get_bdevs", name="A0")[0]["num_blocks"] == 2**22 // 512
    with pytest.raises(RpcError, match="No such device"):
        engine.rpc("bdev_malloc_delete", name="A0")
    engine.rpc("bdev_aio_delete", name="A0", remove_file=True)
    assert not disk.exists()
    events = [(each["type"], each["ctx"]) for each in engine.rpc("notify_get_notifications")]
    assert events == [("bdev_register", "A0"), ("bdev_resize", "A0"), ("bdev_resize", "A0"), ("bdev_unregister", "A0")]
    assert engine.rpc("notify_get_notifications", id=1, max=1)[0]["id"] == 1


def test_a_disk_with_metadata_is_refused(engine: Engine) -> None:
    with pytest.raises(RpcError, match="md_size 8") as refusal:
        engine.rpc("bdev_malloc_create", name="M0", num_blocks=8, block_size=512, md_size=8)
    assert refusal.value.code == -95
    assert live_bdevs(engine) == []


def test_log_levels_are_spdks(engine: Engine) -> None:
    assert engine.rpc("log_get_print_level") == "NOTICE"
    assert engine.rpc("log_set_level", level="DEBUG") is True
    assert engine.rpc("log_get_level") == "DEBUG"
    with pytest.raises(RpcError, match="spdk_json_decode_object failed"):
        engine.rpc("log_set_level", level="LOUD")
    assert engine.rpc("log_set_flag", flag="iscsi") is True
    assert engine.rpc("log_get_flags")["iscsi"] is True
    assert engine.rpc("log_clear_flag", flag="all") is True
    with pytest.raises(RpcError, match="nope"):
        engine.rpc("log_set_flag", flag="nope")
