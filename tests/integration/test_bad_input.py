# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people get wrong: the error names the object, the service goes on, and nothing that was there before changes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from engine_process import NODE_BASE, Engine, Launch, RpcError, Target
from pdu import cdb
from pdu.initiator import Initiator

STATE = (
    "bdev_get_bdevs",
    "iscsi_get_portal_groups",
    "iscsi_get_initiator_groups",
    "iscsi_get_target_nodes",
)


def state(engine: Engine) -> dict[str, Any]:
    return {method: engine.rpc(method) for method in STATE}


@pytest.fixture(scope="module")
def served(launch_shared: Launch) -> Iterator[Target]:
    """A node and a bdev to spare; after all tests, what was saved is what there was before them."""
    engine = launch_shared(state=True)
    engine.initiator_group()
    port = engine.portal_group()
    target = Target(engine, port, engine.node("disk0", engine.malloc("Malloc0", 8)))
    engine.malloc("Spare0", 1)
    before = state(engine)
    yield target
    assert state(engine.restart()) == before


@pytest.fixture
def busy(served: Target) -> Iterator[Engine]:
    """The engine at work. After the test, a client that was logged in still works and nothing has changed."""
    engine = served.engine
    before = state(engine)
    with served.login() as client:
        yield engine
        assert engine.alive()
        assert client.execute(cdb.unit_ready()).status == 0
    assert state(engine) == before
    assert "Traceback" not in engine.words()


def node(**overrides: Any) -> dict[str, Any]:
    return {
        "name": "new",
        "alias_name": "",
        "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 2}],
        "luns": [{"lun_id": 0, "bdev_name": "Spare0"}],
        "queue_depth": 8,
        "disable_chap": True,
        **overrides,
    }


@pytest.mark.parametrize(
    ("method", "params", "names"),
    [
        ("iscsi_create_target_node", node(luns=[{"lun_id": 0, "bdev_name": "nope"}]), ["new", "nope"]),
        ("iscsi_create_target_node", node(name="disk0"), ["disk0"]),
        ("iscsi_create_target_node", node(luns=[{"lun_id": 1, "bdev_name": "Spare0"}]), ["new", "0"]),
        ("iscsi_create_target_node", node(pg_ig_maps=[{"pg_tag": 77, "ig_tag": 2}]), ["new", "77"]),
        ("iscsi_create_target_node", node(pg_ig_maps=[{"pg_tag": 1, "ig_tag": 78}]), ["new", "78"]),
        (
            "iscsi_target_node_add_lun",
            {"name": f"{NODE_BASE}:disk0", "bdev_name": "Spare0", "lun_id": 0},
            ["disk0", "0"],
        ),
        ("iscsi_target_node_add_lun", {"name": f"{NODE_BASE}:disk0", "bdev_name": "nope"}, ["disk0", "nope"]),
        ("iscsi_target_node_add_lun", {"name": f"{NODE_BASE}:nobody", "bdev_name": "Spare0"}, ["nobody"]),
        ("iscsi_delete_target_node", {"name": f"{NODE_BASE}:nobody"}, ["nobody"]),
        ("iscsi_create_initiator_group", {"tag": 2, "initiators": ["ANY"], "netmasks": ["ANY"]}, ["2"]),
        ("iscsi_delete_initiator_group", {"tag": 66}, ["66"]),
        ("iscsi_delete_portal_group", {"tag": 66}, ["66"]),
        ("bdev_malloc_create", {"name": "Malloc0", "num_blocks": 8, "block_size": 512}, ["Malloc0"]),
        ("bdev_malloc_create", {"name": "Odd0", "num_blocks": 8, "block_size": 500}, ["Odd0", "500"]),
        ("bdev_malloc_delete", {"name": "nope"}, ["nope"]),
        (
            "bdev_aio_create",
            {"name": "A0", "filename": "/nonexistent/file", "block_size": 512},
            ["A0", "/nonexistent/file"],
        ),
        ("bdev_get_bdevs", {"name": "nope"}, ["nope"]),
    ],
)
def test_an_impossible_change_is_refused_by_name(
    busy: Engine, method: str, params: dict[str, Any], names: list[str]
) -> None:
    with pytest.raises(RpcError) as refused:
        busy.rpc(method, **params)
    for name in names:
        assert name in refused.value.message


def test_a_portal_group_tag_in_use_is_refused(busy: Engine) -> None:
    with pytest.raises(RpcError, match="portal group 1"):
        busy.portal_group(1)


def test_a_portal_that_another_group_has_is_refused(busy: Engine, served: Target) -> None:
    portals = [{"host": "127.0.0.1", "port": str(served.port)}]
    with pytest.raises(RpcError, match=served.portal):
        busy.rpc("iscsi_create_portal_group", tag=5, portals=portals)


def test_an_address_the_host_lacks_is_refused(busy: Engine) -> None:
    with pytest.raises(RpcError, match=r"192\.0\.2\.1"):  # RFC 5737: nobody's address
        busy.rpc("iscsi_create_portal_group", tag=5, portals=[{"host": "192.0.2.1", "port": "3260"}])


def test_a_port_in_use_is_refused(busy: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(RpcError, match=f"127.0.0.1:{port}"):
            busy.rpc("iscsi_create_portal_group", tag=5, portals=[{"host": "127.0.0.1", "port": str(port)}])


def test_a_group_of_portals_is_created_whole_or_not_at_all(busy: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as probe:
        good, taken = probe.getsockname()[1], other.getsockname()[1]
        probe.close()
        portals = [{"host": "127.0.0.1", "port": str(port)} for port in (good, taken)]
        with pytest.raises(RpcError, match=str(taken)):
            busy.rpc("iscsi_create_portal_group", tag=5, portals=portals)
        with pytest.raises(ConnectionRefusedError):
            Initiator(("127.0.0.1", good))


# -- requests that are none


def call(method: str, **more: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, **more}).encode()


@pytest.mark.parametrize(
    ("request_text", "code"),
    [
        (b'{"jsonrpc": "2.0", "id": 1, "method": }', -32700),
        (b"\x00\xff\xfe", -32700),
        (b'"hello"', -32600),
        (b'{"id": 1}', -32600),
        (call("bdev_get_bdevs", jsonrpc="1.0"), -32600),
        (call("make_coffee"), -32601),
        (call("iscsi_delete_portal_group", params={"tag": "1"}), -32602),
        (call("iscsi_delete_portal_group", params={}), -32602),
        (call("iscsi_delete_portal_group", params={"tag": 66, "tga": 1}), -32602),
        (call("iscsi_get_portal_groups", params={"tag": 1}), -32602),
    ],
    ids=[
        "syntax",
        "binary",
        "no object",
        "no method",
        "version",
        "unknown",
        "type",
        "missing",
        "unknown parameter",
        "no parameters",
    ],
)
def test_a_request_that_is_none_gets_the_error_of_the_protocol(busy: Engine, request_text: bytes, code: int) -> None:
    assert json.loads(busy.exchange(request_text))["error"]["code"] == code


def test_a_request_that_never_ends_keeps_nobody_waiting(busy: Engine) -> None:
    with socket.socket(socket.AF_UNIX) as endless:
        endless.connect(str(busy.socket))
        endless.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "bdev_get')
        assert busy.rpc("spdk_get_version")
