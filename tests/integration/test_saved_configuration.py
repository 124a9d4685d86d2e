# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine starts with: the configuration that it saved, a configuration file, and options before it serves."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest
from control import NODE, answers, build, connected, live_bdevs, request, saved, saved_bdevs
from engine_process import Launch, RpcError, refused_start, run

# -- the saved configuration -----------------------------------------------------------------------------------------


def test_everything_comes_back_after_a_restart(launch: Launch, tmp_path: Path) -> None:
    engine = launch(state=True)
    port = build(engine)
    engine.aio("A0", tmp_path / "disk.img", size=2**20)
    engine.rpc("iscsi_target_node_add_lun", name=NODE, bdev_name="A0", lun_id=7)
    engine.rpc("iscsi_initiator_group_add_initiators", tag=2, initiators=["!iqn.2026-01.test:a"], netmasks=["::1"])
    looks = ("bdev_get_bdevs", "iscsi_get_portal_groups", "iscsi_get_initiator_groups", "iscsi_get_target_nodes")
    before = [engine.rpc(method) for method in looks]
    for how in (signal.SIGTERM, signal.SIGKILL):
        engine.restart(how)
        assert [engine.rpc(method) for method in looks] == before
        assert NODE in run("iscsi-ls", f"iscsi://127.0.0.1:{port}").stdout
    assert engine.rpc("engine_get_info")["unrestored"] == []


def test_a_change_is_saved_before_it_is_answered(launch: Launch) -> None:
    engine = launch(state=True)
    for number in range(20):
        engine.malloc(f"M{number}", 1)
        assert saved_bdevs(engine)[-1] == f"M{number}"
        if number % 5 == 4:
            engine.rpc("bdev_malloc_delete", name=f"M{number}")
            assert f"M{number}" not in saved_bdevs(engine)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.999])
def test_a_state_file_cut_short_is_refused_and_left_alone(launch: Launch, part: float) -> None:
    engine = launch(state=True)
    build(engine)
    engine.stop()
    state = engine.state_dir / "config.json"
    whole = state.read_bytes()
    damaged = whole.rstrip()[: int(len(whole.rstrip()) * part)]
    state.write_bytes(damaged)
    sentence = refused_start(engine.archive, "-r", engine.socket, "--state-dir", engine.state_dir)
    assert str(state) in sentence
    assert "left untouched" in sentence
    assert state.read_bytes() == damaged
    assert not engine.socket.exists()
    state.write_bytes(whole)
    assert [node["name"] for node in engine.start().rpc("iscsi_get_target_nodes")] == [NODE]


def test_a_change_that_cannot_be_saved_says_so_and_is_saved_later(launch: Launch) -> None:
    engine = launch(state=True)
    engine.malloc("M0", 1)
    assert engine.process is not None
    before = (engine.state_dir / "config.json").read_bytes()
    _soft, hard = resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE, (100, hard))
    with pytest.raises(RpcError, match=r"config\.json: the change is live but not saved") as failure:
        engine.rpc("bdev_null_create", name="M1", num_blocks=8, block_size=512)  # memory may be a file as well
    assert failure.value.code == -27
    assert live_bdevs(engine) == ["M0", "M1"]
    assert (engine.state_dir / "config.json").read_bytes() == before
    resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    engine.malloc("M2", 1)
    assert saved_bdevs(engine) == ["M0", "M1", "M2"]


def test_a_missing_disk_is_reported_and_kept_and_stops_nothing_else(launch: Launch, tmp_path: Path) -> None:
    engine = launch(state=True)
    disk = tmp_path / "disk.img"
    engine.malloc("M0", 1)
    engine.aio("A0", disk, size=2**20)
    engine.malloc("M1", 1)
    port = engine.portal_group()
    engine.initiator_group()
    engine.node("lost", "A0")
    engine.node("kept", "M1")
    before = saved(engine)
    engine.stop()
    hidden = disk.rename(tmp_path / "elsewhere.img")
    engine.start()
    assert live_bdevs(engine) == ["M0", "M1"]
    assert "lost" not in run("iscsi-ls", f"iscsi://127.0.0.1:{port}").stdout
    lost = engine.rpc("engine_get_info")["unrestored"]
    assert [each["method"] for each in lost] == ["bdev_aio_create", "iscsi_create_target_node"]
    assert str(disk) in lost[0]["error"]
    engine.malloc("M2", 1)
    assert saved_bdevs(engine) == ["M0", "A0", "M1", "M2"]
    assert saved(engine)["iscsi"] == before["iscsi"]
    with pytest.raises(RpcError, match="No such file or directory"):
        engine.aio("A0", disk)
    hidden.rename(disk)
    engine.restart()
    assert live_bdevs(engine) == ["M0", "A0", "M1", "M2"]
    assert engine.rpc("engine_get_info")["unrestored"] == []
    assert [node["name"].partition(":")[2] for node in engine.rpc("iscsi_get_target_nodes")] == ["lost", "kept"]


def test_what_was_not_restored_can_be_removed_or_replaced(launch: Launch, tmp_path: Path) -> None:
    engine = launch(state=True)
    for name in ("A0", "A1"):
        engine.aio(name, tmp_path / name, size=2**20)
    engine.portal_group()
    engine.initiator_group()
    engine.node("lost", "A0")
    engine.stop()
    for name in ("A0", "A1"):
        (tmp_path / name).unlink()
    engine.start()
    assert engine.rpc("bdev_aio_delete", name="A0") is True
    assert engine.rpc("iscsi_delete_target_node", name="lost") is True
    engine.malloc("A1", 1)
    assert engine.rpc("engine_get_info")["unrestored"] == []
    assert saved_bdevs(engine) == ["A1"]
    assert [call["method"] for call in saved(engine)["bdev"]][1] == "bdev_malloc_create"
    assert len(saved(engine)["iscsi"]) == 3
    with pytest.raises(RpcError, match="No such device"):
        engine.rpc("bdev_aio_delete", name="A0")


def test_a_portal_whose_address_is_gone_stops_nothing_else(launch: Launch) -> None:
    engine = launch(state=True)
    build(engine)
    engine.stop()
    state = engine.state_dir / "config.json"
    state.write_text(state.read_text().replace('"127.0.0.1"', '"192.0.2.77"'))
    engine.start()
    assert live_bdevs(engine) == ["M0"]
    lost = engine.rpc("engine_get_info")["unrestored"]
    assert [each["method"] for each in lost] == ["iscsi_create_portal_group", "iscsi_create_target_node"]
    assert "192.0.2.77" in lost[0]["error"]


# -- configuration files and states ----------------------------------------------------------------------------------


CONFIG = """// by hand
{"subsystems": [
  {"subsystem": "keyring", "config": [{"method": "keyring_file_add_key", "params": {"name": "k", "path": "/k"}}]},
  {"subsystem": "sock", "config": [{"method": "sock_set_default_impl", "params": {"impl_name": "uring"}}]},
  {"subsystem": "bdev", "config": [
     {"method": "bdev_malloc_create", "params": {"name": "M0", "num_blocks": 2048, "block_size": 512}}, /* a batch: */
     [{"method": "bdev_malloc_create", "params": {"name": "M1", "num_blocks": 2048, "block_size": 512}}, %s]
  ]},
  {"subsystem": "iscsi", "config": [{"method": "iscsi_set_options", "params": {"max_sessions": 7}}]}
]}
"""
THIRD = '{"method": "bdev_malloc_create", "params": {"name": "M2", "num_blocks": 2048, "block_size": 512}}'
AGAIN = '{"method": "bdev_malloc_create", "params": {"name": "M0", "num_blocks": 2048, "block_size": 512}}'


def test_a_configuration_file_is_loaded_once(launch: Launch, tmp_path: Path) -> None:
    config = tmp_path / "c.json"
    config.write_text(CONFIG % THIRD)
    engine = launch("-c", config, state=True)
    assert live_bdevs(engine) == saved_bdevs(engine) == ["M0", "M1", "M2"]
    assert engine.rpc("iscsi_get_options")["max_sessions"] == 7
    assert "subsystem keyring is not part of this engine" in engine.words()
    assert engine.rpc("sock_get_default_impl") == {"impl_name": "uring"}
    engine.rpc("bdev_malloc_delete", name="M1")
    engine.restart()
    assert live_bdevs(engine) == ["M0", "M2"]
    assert engine.rpc("iscsi_get_options")["max_sessions"] == 7
    assert "a saved configuration exists and wins" in engine.words()


def test_a_configuration_file_stops_at_its_first_error(archive: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.json"
    config.write_text(CONFIG % AGAIN)
    sentence = refused_start(archive, "-r", tmp_path / "s", "-c", config, "--state-dir", tmp_path / "state")
    assert f"configuration file {config}: bdev_malloc_create: File exists: bdev M0" in sentence
    assert not (tmp_path / "state" / "config.json").exists()


def test_errors_of_a_configuration_file_may_be_ignored(launch: Launch, tmp_path: Path) -> None:
    config = tmp_path / "c.json"
    config.write_text(CONFIG % AGAIN)
    engine = launch("-c", config, "--json-ignore-init-errors")
    assert live_bdevs(engine) == ["M0", "M1"]
    assert "File exists: bdev M0" in engine.words()


@pytest.mark.parametrize("text", ["", "{", '{"subsystems": [{}]}', None])
def test_a_bad_configuration_file_is_named(archive: Path, tmp_path: Path, text: str | None) -> None:
    config = tmp_path / "c.json"
    if text is not None:
        config.write_text(text)
    assert f"configuration file {config}" in refused_start(archive, "-r", tmp_path / "s", "-c", config)


def test_options_are_set_before_the_initialization(launch: Launch) -> None:
    engine = launch("--wait-for-rpc", state=True)
    assert "iscsi_set_options" in engine.rpc("rpc_get_methods", current=True)
    with pytest.raises(RpcError, match="after framework is initialized"):
        engine.rpc("bdev_get_bdevs")
    assert engine.rpc("iscsi_set_options", max_sessions=9) is True
    with pytest.raises(RpcError, match="Must not call more than once"):
        engine.rpc("iscsi_set_options", max_sessions=10)
    with connected(engine) as connection:
        connection.sendall(request("framework_wait_init", "wait") + request("framework_start_init", "start"))
        assert {each["id"]: each["result"] for each in answers(connection, 2)} == {"wait": True, "start": True}
    assert "iscsi_set_options" not in engine.rpc("rpc_get_methods", current=True)
    assert engine.rpc("iscsi_get_options")["max_sessions"] == 9
    assert saved(engine)["iscsi"][0]["params"]["max_sessions"] == 9


def test_waiting_for_the_initialization_does_not_lose_the_saved_state(launch: Launch) -> None:
    engine = launch(state=True)
    build(engine)
    engine.stop()
    engine.arguments = ["--wait-for-rpc", *engine.arguments]
    engine.start()
    engine.rpc("iscsi_set_options", max_sessions=9)
    assert saved_bdevs(engine) == ["M0"]
    engine.restart(signal.SIGTERM)
    assert saved_bdevs(engine) == ["M0"]
    engine.rpc("iscsi_set_options", max_sessions=9)
    engine.rpc("framework_start_init")
    assert live_bdevs(engine) == ["M0"]
    assert engine.rpc("iscsi_get_options")["max_sessions"] == 9
    assert engine.rpc("engine_get_info")["unrestored"] == []
