# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes that SPDK cannot make, while initiators are logged in: LUNs, portals and options of what exists."""

from __future__ import annotations

import socket

import pytest
from engine_process import Engine, Launch, RpcError, Target, eventually, free_port, run
from pdu import cdb
from pdu.initiator import Initiator, LoginRefused

SERVICE_UNAVAILABLE = (3, 1)


@pytest.fixture
def target(launch: Launch) -> Target:
    engine = launch(state=True)
    engine.initiator_group()
    port = engine.portal_group()
    return Target(engine, port, engine.node("disk0", engine.malloc("M0", 1), engine.malloc("M1", 1)))


def node(engine: Engine) -> dict[str, object]:
    (only,) = engine.rpc("iscsi_get_target_nodes")
    return dict(only)


def portal(port: int) -> dict[str, str]:
    return {"host": "127.0.0.1", "port": str(port)}


def test_a_lun_goes_while_initiators_are_there(target: Target) -> None:
    engine = target.engine
    with target.login() as client:
        assert client.execute(cdb.unit_ready(), lun=1).status == 0
        engine.rpc("iscsi_target_node_remove_lun", name=target.name, lun_id=1)
        assert client.execute(cdb.unit_ready()).response.data[4] & 0xF == 6  # unit attention, after two bytes of length
        assert client.execute(cdb.unit_ready(), lun=1).status == 2
        assert client.execute(cdb.unit_ready()).status == 0
        engine.rpc("iscsi_target_node_add_lun", name=target.name, bdev_name="M1", lun_id=9)
        client.execute(cdb.unit_ready())
        assert client.read(cdb.report_luns(), 4096).data[:4] == (16).to_bytes(4, "big")
    engine.restart()
    assert [lun["lun_id"] for lun in engine.rpc("iscsi_get_target_nodes")[0]["luns"]] == [0, 9]


def test_lun_0_is_replaced_while_initiators_are_there(target: Target) -> None:
    engine = target.engine
    with target.login() as client:
        engine.rpc("iscsi_target_node_remove_lun", name=target.name, lun_id=0)
        assert client.read(cdb.report_luns(), 4096).data[8:] == bytes([0, 1, 0, 0, 0, 0, 0, 0])
        engine.restart()
    assert engine.rpc("engine_get_info")["unrestored"] == []
    assert [lun["lun_id"] for lun in engine.rpc("iscsi_get_target_nodes")[0]["luns"]] == [1]
    with target.login() as client:
        engine.rpc("iscsi_target_node_add_lun", name=target.name, bdev_name="M0", lun_id=0)
        client.execute(cdb.unit_ready())
        assert client.execute(cdb.unit_ready()).status == 0


def test_a_lun_that_is_not_there_is_named(target: Target) -> None:
    with pytest.raises(RpcError, match=r"has no LUN 7\. Its LUNs: 0, 1"):
        target.engine.rpc("iscsi_target_node_remove_lun", name=target.name, lun_id=7)


def test_portals_come_and_go_and_sessions_stay(target: Target) -> None:
    engine, more = target.engine, free_port()
    with target.login() as client:
        engine.rpc("iscsi_portal_group_add_portals", tag=1, portals=[portal(more)])
        assert f":{more}," in run("iscsi-ls", f"iscsi://{target.portal}").stdout
        with Initiator(("127.0.0.1", more), isid=b"\x80\0\0\0\0\x07").login(target.name) as other:
            engine.rpc("iscsi_portal_group_remove_portals", tag=1, portals=[portal(target.port)])
            assert other.execute(cdb.unit_ready()).status == 0
        assert client.execute(cdb.unit_ready()).status == 0
        with pytest.raises(ConnectionRefusedError):
            target.connect()
    engine.restart()
    assert engine.rpc("iscsi_get_portal_groups")[0]["portals"] == [portal(more)]


def test_portals_are_added_all_or_none(target: Target) -> None:
    engine, good = target.engine, free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(RpcError, match=str(taken)):
            engine.rpc("iscsi_portal_group_add_portals", tag=1, portals=[portal(good), portal(taken)])
    with pytest.raises(ConnectionRefusedError):
        Initiator(("127.0.0.1", good))
    for wrong in ([portal(good), portal(good)], [portal(target.port)]):
        with pytest.raises(RpcError, match="belongs to portal group 1"):
            engine.rpc("iscsi_portal_group_add_portals", tag=1, portals=wrong)
    with pytest.raises(RpcError, match=f"has no portal 127.0.0.1:{good}"):
        engine.rpc("iscsi_portal_group_remove_portals", tag=1, portals=[portal(target.port), portal(good)])
    with pytest.raises(RpcError, match="no portal left"):
        engine.rpc("iscsi_portal_group_remove_portals", tag=1, portals=[portal(target.port)])
    assert engine.rpc("iscsi_get_portal_groups")[0]["portals"] == [portal(target.port)]


def test_a_portal_that_would_send_initiators_in_circles_is_refused(target: Target) -> None:
    engine, elsewhere = target.engine, free_port()
    where = {"redirect_host": "127.0.0.1", "redirect_port": str(elsewhere)}
    engine.rpc("iscsi_target_node_set_redirect", name=target.name, pg_tag=1, **where)
    with pytest.raises(RpcError, match="circles"):
        engine.rpc("iscsi_portal_group_add_portals", tag=1, portals=[portal(elsewhere)])


def test_options_of_a_node_change_and_stay(target: Target) -> None:
    engine = target.engine
    with target.login() as client:
        engine.rpc("iscsi_target_node_set_options", name="disk0", alias_name="new", queue_depth=8)
        assert client.execute(cdb.unit_ready()).status == 0
    engine.restart()
    assert (node(engine)["alias_name"], node(engine)["queue_depth"]) == ("new", 8)
    engine.rpc("iscsi_target_node_set_options", name="disk0", alias_name="")
    assert "alias_name" not in node(engine)
    assert node(engine)["queue_depth"] == 8
    with target.login() as client:
        assert (client.max_cmd_sn - client.cmd_sn + 1) & 0xFFFFFFFF == 8


def test_a_disabled_node_lets_nobody_in_until_it_is_enabled(target: Target) -> None:
    engine = target.engine
    with target.login() as client:
        engine.rpc("iscsi_target_node_disable", name="disk0")
        assert client.receive().opcode == 0x32  # asked to log out
    eventually(lambda: engine.rpc("iscsi_get_connections") == [], "the session's end")
    for _life in range(2):
        with target.connect() as refused, pytest.raises(LoginRefused) as failed:
            refused.login(target.name)
        assert failed.value.status == SERVICE_UNAVAILABLE
        assert target.name not in run("iscsi-ls", f"iscsi://{target.portal}", check=False).stdout
        assert node(engine)["disabled"] is True
        engine.restart()
    engine.rpc("iscsi_target_node_enable", name="disk0")
    assert "disabled" not in node(engine)
    with target.login() as client:
        assert client.execute(cdb.unit_ready()).status == 0


def test_extensions_are_told(target: Target) -> None:
    methods, told = target.engine.rpc("rpc_get_methods"), target.engine.rpc("engine_get_info")["extensions"]
    assert {name for name in told if "." not in name} <= set(methods)
    assert {"iscsi_target_node_remove_lun", "iscsi_portal_group_add_portals"} <= set(told)


def test_connections_tell_who_they_are_and_what_they_did(target: Target) -> None:
    with target.login() as client:
        client.write(cdb.write_10(0, 2), bytes(1024))
        client.read(cdb.read_10(0, 8), 4096)
        (connection,) = target.engine.rpc("iscsi_get_connections")
        assert connection["initiator_name"].startswith("iqn.")
        assert connection["commands"] == 2
        assert connection["bytes_received"] > 1024
        # As the initiator's kernel acknowledges it.
        eventually(lambda: target.engine.rpc("iscsi_get_connections")[0]["bytes_sent"] > 4096, "what was sent")


def test_secrets_can_be_shown_masked(target: Target) -> None:
    secret = {"user": "u", "secret": "hush hush hush", "muser": "m", "msecret": "hush hush too"}
    target.engine.rpc("iscsi_create_auth_group", tag=1, secrets=[secret])
    masked = {"user": "u", "secret": "********", "muser": "m", "msecret": "********"}
    assert target.engine.rpc("iscsi_get_masked_auth_groups") == [{"tag": 1, "secrets": [masked]}]
    assert target.engine.rpc("iscsi_get_auth_groups")[0]["secrets"] == [secret]
