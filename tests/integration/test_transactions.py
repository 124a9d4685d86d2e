# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""engine_apply: many changes are made and saved together, or none of them is."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from control import saved
from engine_process import Engine, Launch, RpcError, Target, free_port
from pdu import cdb
from pdu.reservation import READ_KEYS, REGISTER, keys, reserve_in_cdb, reserve_out_cdb, reserve_out_list

Calls = list[dict[str, Any]]


def call(method: str, **params: Any) -> dict[str, Any]:
    return {"method": method, "params": params}


def configuration(engine: Engine) -> dict[str, Any]:
    return {name: engine.rpc("framework_get_config", name=name) for name in ("sock", "iobuf", "bdev", "scsi", "iscsi")}


def malloc(name: str) -> dict[str, Any]:
    return call("bdev_malloc_create", name=name, num_blocks=64, block_size=512)


def node(name: str, bdev: str) -> dict[str, Any]:
    return call(
        "iscsi_create_target_node",
        name=name,
        alias_name="",
        pg_ig_maps=[{"pg_tag": 1, "ig_tag": 2}],
        luns=[{"bdev_name": bdev, "lun_id": 0}],
        queue_depth=32,
    )


@pytest.fixture
def target(launch: Launch, tmp_path: Path) -> Target:
    """With something of every kind."""
    engine = launch(state=True)
    engine.initiator_group()
    engine.rpc("iscsi_create_initiator_group", tag=3, initiators=["iqn.2026-01.test:a"], netmasks=["ANY"])
    port = engine.portal_group()
    engine.portal_group(5)
    engine.rpc("iscsi_create_auth_group", tag=1, secrets=[{"user": "u", "secret": "s"}])
    name = engine.node("disk0", engine.malloc("M0", 1), engine.aio("A0", tmp_path / "a0", size=2**20))
    engine.rpc("iscsi_target_node_add_pg_ig_maps", name=name, pg_ig_maps=[{"pg_tag": 5, "ig_tag": 3}])
    engine.rpc("bdev_set_qos_limit", name="A0", rw_ios_per_sec=2000)
    engine.node("disk1", engine.malloc("M1", 1))
    return Target(engine, port, name)


def test_many_changes_are_made_in_order(target: Target) -> None:
    engine = target.engine
    results = engine.rpc("engine_apply", calls=[malloc("N0"), node("new", "N0"), malloc("N1")])
    assert results == ["N0", True, "N1"]
    assert saved(engine) == configuration(engine)
    before = configuration(engine)
    assert configuration(engine.restart()) == before
    assert engine.rpc("engine_apply", calls=[]) == []


def everything(target: Target, tmp_path: Path) -> Calls:
    """Changes of every kind, in an order in which they all succeed."""
    node_name = target.name
    return [
        malloc("N0"),
        call("bdev_aio_create", name="A1", filename=str(tmp_path / "a1"), size=2**20),
        node("new", "N0"),
        call("iscsi_target_node_remove_lun", name=node_name, lun_id=1),
        call("iscsi_target_node_add_lun", name=node_name, bdev_name="N0", lun_id=1),
        call("iscsi_target_node_add_lun", name=node_name, bdev_name="A1"),
        call("iscsi_target_node_set_options", name=node_name, alias_name="other", queue_depth=3),
        call("iscsi_target_node_set_auth", name=node_name, require_chap=True, chap_group=1),
        call("iscsi_target_node_remove_pg_ig_maps", name=node_name, pg_ig_maps=[{"pg_tag": 1, "ig_tag": 2}]),
        call("iscsi_target_node_disable", name="disk1"),
        call("iscsi_initiator_group_remove_initiators", tag=2, initiators=["ANY"]),
        call("iscsi_initiator_group_add_initiators", tag=2, initiators=["!ANY"], netmasks=["10.0.0.0/8"]),
        call("iscsi_auth_group_add_secret", tag=1, user="v", secret="t"),
        call("iscsi_auth_group_remove_secret", tag=1, user="u"),
        call("iscsi_portal_group_add_portals", tag=1, portals=[{"host": "127.0.0.1", "port": str(free_port())}]),
        call("iscsi_create_initiator_group", tag=9, initiators=["ANY"], netmasks=["ANY"]),
        call("iscsi_delete_initiator_group", tag=3),
        call("iscsi_delete_portal_group", tag=5),
        call("iscsi_delete_auth_group", tag=1),
        call("iscsi_set_discovery_auth", disable_chap=True),
        call("bdev_set_qos_limit", name="A0", rw_ios_per_sec=0, r_mbytes_per_sec=9),
        call("iscsi_enable_histogram", name="disk1", enable=True),
        call("iscsi_delete_target_node", name="disk1"),
        call("bdev_aio_delete", name="A0"),
        call("bdev_malloc_delete", name="M1"),
    ]


WRONG = call("iscsi_delete_portal_group", tag=4711)


def test_a_failure_undoes_what_came_before_it_wherever_it_comes(target: Target, tmp_path: Path) -> None:
    engine = target.engine
    before, bdevs = configuration(engine), engine.rpc("bdev_get_bdevs")
    calls = [each for each in everything(target, tmp_path) if each["method"] != "bdev_malloc_delete"]
    for count in range(len(calls) + 1):
        words = rf"calls\[{count}\], iscsi_delete_portal_group; nothing was changed"
        with pytest.raises(RpcError, match=words) as refusal:
            engine.rpc("engine_apply", calls=[*calls[:count], WRONG])
        assert refusal.value.code == -32602
        assert configuration(engine) == saved(engine) == before, calls[count - 1]
        assert engine.rpc("bdev_get_bdevs") == bdevs
        assert not (tmp_path / "a1").exists()
        with target.login() as client:
            assert client.execute(cdb.unit_ready()).status == 0
    assert "could not be put back" not in engine.words()
    assert configuration(engine.restart()) == before


def test_everything_at_once(target: Target, tmp_path: Path) -> None:
    engine = target.engine
    calls = everything(target, tmp_path)
    assert len(engine.rpc("engine_apply", calls=calls)) == len(calls)
    after = configuration(engine)
    assert saved(engine) == after
    assert configuration(engine.restart()) == after


def test_what_is_saved_is_loaded_as_it_was(target: Target, tmp_path: Path, launch: Launch) -> None:
    engine = target.engine
    gone = ("iscsi_delete_portal_group", "iscsi_delete_target_node", "bdev_aio_delete", "bdev_malloc_delete")
    engine.rpc("engine_apply", calls=[each for each in everything(target, tmp_path) if each["method"] not in gone])
    before = configuration(engine)
    config = tmp_path / "config.json"
    config.write_bytes((engine.state_dir / "config.json").read_bytes())
    engine.stop()
    again = launch("-c", config, state=True)
    assert configuration(again) == saved(again) == before


@pytest.mark.parametrize(
    ("calls", "code", "words"),
    [
        ([malloc("N0"), call("bdev_malloc_delete", name="M1"), malloc("N1")], -32602, "cannot be undone"),
        ([call("bdev_malloc_delete", name="M0"), call("bdev_malloc_delete", name="M1")], -32602, "cannot be undone"),
        ([malloc("N0"), call("bdev_malloc_delete", name="nope")], -19, "nope"),
        ([malloc("N0"), call("make_coffee")], -32601, "make_coffee"),
        ([malloc("N0"), call("bdev_malloc_create", name="N1")], -32603, r"calls\[1\]"),
        ([malloc("N0"), call("bdev_get_bdevs")], -32602, "no change"),
        ([call("engine_apply", calls=[])], -32602, "no change"),
        ([call("iscsi_set_options", max_sessions=1)], -1, "before framework is initialized"),
    ],
)
def test_what_can_be_refused_by_looking_is(target: Target, calls: Calls, code: int, words: str) -> None:
    before = configuration(target.engine)
    with pytest.raises(RpcError, match=words) as refusal:
        target.engine.rpc("engine_apply", calls=calls)
    assert refusal.value.code == code
    assert configuration(target.engine) == saved(target.engine) == before


def test_sessions_survive_what_is_undone(target: Target) -> None:
    with target.login() as client:
        calls = [call("iscsi_target_node_set_options", name=target.name, alias_name="x"), WRONG]
        with pytest.raises(RpcError):
            target.engine.rpc("engine_apply", calls=calls)
        assert client.execute(cdb.unit_ready()).status == 0


def test_changes_of_others_wait_and_are_not_undone(target: Target, tmp_path: Path) -> None:
    engine = target.engine
    files = [call("bdev_aio_create", name=f"F{n}", filename=str(tmp_path / f"f{n}"), size=2**20) for n in range(30)]
    begun = threading.Barrier(9)
    failures: list[Exception] = []

    def others(number: int) -> None:
        begun.wait()
        try:
            for step in range(5):
                name = f"T{number}.{step}"
                engine.aio(name, tmp_path / name, size=2**20)
                assert f'"{name}"' in (engine.state_dir / "config.json").read_text()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=others, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    begun.wait()
    for _each in range(5):
        with pytest.raises(RpcError):
            engine.rpc("engine_apply", calls=[*files, WRONG])
    for thread in threads:
        thread.join()
    assert failures == []
    names = {bdev["name"] for bdev in engine.rpc("bdev_get_bdevs")}
    assert names == {"M0", "A0", "M1", *(f"T{number}.{step}" for number in range(8) for step in range(5))}
    assert saved(engine) == configuration(engine)


def ask(engine: Engine, text: bytes) -> None:
    with contextlib.suppress(OSError):  # it is killed meanwhile
        engine.exchange(text)


def test_a_kill_on_the_way_leaves_all_or_nothing(target: Target) -> None:
    engine, chance = target.engine, random.Random(1)
    request = {"jsonrpc": "2.0", "id": 1, "method": "engine_apply"}
    seen = set()
    for life in range(12):
        before = saved(engine)
        calls = [malloc(f"L{life}.{number}") for number in range(300)]
        text = json.dumps({**request, "params": {"calls": calls}}).encode()
        asking = threading.Thread(target=ask, args=(engine, text))
        asking.start()
        threading.Event().wait(chance.random() * 0.08)  # somewhere on the way
        engine.end(signal.SIGKILL)
        asking.join()
        new = [entry["params"]["name"] for entry in saved(engine)["bdev"] if entry not in before["bdev"]]
        assert new in ([], [each["params"]["name"] for each in calls])
        seen.add(len(new))
        engine.start()
    assert seen == {0, 300}


def test_settings_of_disks_are_put_back_and_a_mirror_keeps_its_disks(engine: Engine) -> None:
    latencies = dict.fromkeys(("avg_read_latency", "p99_read_latency", "avg_write_latency", "p99_write_latency"), 10)
    engine.rpc("bdev_null_create", name="N", num_blocks=2048, block_size=512)
    engine.rpc("bdev_delay_create", name="D", base_bdev_name="N", **latencies)
    engine.rpc("bdev_null_create", name="O", num_blocks=2048, block_size=512)
    engine.rpc("bdev_raid_create", name="R", raid_level="raid1", base_bdevs=["D", "O"])
    before, bdevs = configuration(engine), engine.rpc("bdev_get_bdevs")
    calls = [
        call("bdev_null_resize", name="N", new_size=4),
        call("bdev_delay_update_latency", delay_bdev_name="D", latency_type="avg_read", latency_us=20),
        call("bdev_raid_set_options", process_window_size_kb=64),
    ]
    with pytest.raises(RpcError, match="nothing was changed"):
        engine.rpc("engine_apply", calls=[*calls, WRONG])
    assert (configuration(engine), engine.rpc("bdev_get_bdevs")) == (before, bdevs)
    for name in ("N", "O"):
        with pytest.raises(RpcError, match="cannot be undone"):
            engine.rpc("engine_apply", calls=[call("bdev_null_delete", name=name), *calls])
    assert (configuration(engine), engine.rpc("bdev_get_bdevs")) == (before, bdevs)
    engine.rpc("engine_apply", calls=[*calls, call("bdev_null_delete", name="O")])
    assert engine.rpc("bdev_raid_get_bdevs", category="all")[0]["num_base_bdevs_discovered"] == 1


def test_what_initiators_set_survives_what_is_undone(target: Target) -> None:
    with target.login() as initiator:
        assert initiator.write(reserve_out_cdb(REGISTER), reserve_out_list(0, 7)).status == 0
    undone = call("iscsi_delete_target_node", name=target.name)
    with pytest.raises(RpcError, match="nothing was changed"):
        target.engine.rpc("engine_apply", calls=[undone, WRONG])
    with target.login() as initiator:
        initiator.execute(cdb.unit_ready())
        assert keys(initiator.read(reserve_in_cdb(READ_KEYS), 1024).data)[1] == [7]
