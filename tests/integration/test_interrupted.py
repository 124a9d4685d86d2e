# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine that is killed while a configuration is applied: the next run finishes the job, and the third has none."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_process import NODE_BASE, Engine, Launch, free_port
from http_proxy import PASSWORD, USER, Answer, Proxy
from module_process import run_module

MIB = 1 << 20
DISKS, FILES, GROUPS = 40, 10, 30
WRITES = ("_create", "_set_", "_add_")

Result = dict[str, Any]


def configuration(directory: Path) -> Result:
    """Many objects of every kind, in which target nodes need all the others."""
    ports: set[int] = set()
    while len(ports) < 3:
        ports.add(free_port())
    files = [
        {"name": f"file{number}", "type": "aio", "path": str(directory / f"file{number}"), "size": "1MiB"}
        for number in range(FILES)
    ]
    memory = [{"name": f"Malloc{number}", "type": "malloc", "size": "1MiB"} for number in range(DISKS - FILES)]
    bdevs = [*files, *memory]
    return {
        "bdevs": bdevs,
        "auth_groups": [{"tag": 1, "secrets": [{"user": "u1", "secret": "not-for-your-eyes"}]}],
        "portal_groups": [{"tag": tag, "portals": [f"127.0.0.1:{port}"]} for tag, port in enumerate(sorted(ports), 1)],
        "initiator_groups": [
            {"tag": tag, "initiators": [f"iqn.2020-01.test:host{tag}"], "netmasks": ["127.0.0.0/8"]}
            for tag in range(1, GROUPS + 1)
        ],
        "target_nodes": [
            {
                "name": f"disk{number}",
                "alias": f"Disk {number}",
                "luns": [{"id": 0, "bdev": bdev["name"]}],
                "maps": [{"portal_group": 1 + number % 3, "initiator_group": 1 + number % GROUPS}],
                "chap": "required",
                "auth_group": 1,
                "redirects": [{"portal_group": 1 + number % 3, "address": "192.0.2.1:3260"}],
            }
            for number, bdev in enumerate(bdevs)
        ],
    }


def check_that_it_is_finished(engine: Engine, config: Result) -> None:
    """Start the killed engine again, run the module again, and once more."""
    engine.start()
    options = {"socket": str(engine.socket), **config}
    assert run_module("target_config", **options)["changed"]
    assert sorted(node["name"] for node in engine.rpc("iscsi_get_target_nodes")) == sorted(
        f"{NODE_BASE}:{node['name']}" for node in config["target_nodes"]
    )
    assert [group["tag"] for group in engine.rpc("iscsi_get_portal_groups")] == [1, 2, 3]
    assert len(engine.rpc("iscsi_get_initiator_groups")) == GROUPS
    for bdev in engine.rpc("bdev_get_bdevs"):
        assert bdev["num_blocks"] * bdev["block_size"] == MIB
    third = run_module("target_config", **options)
    assert (third["changed"], third["actions"]) == (False, [])
    engine.restart()
    assert not run_module("target_config", **options)["changed"]


# The level in which it happens: bdevs and groups, target nodes, what comes after their creation. And whether the
# engine has done what was asked, and only the answer is lost.
@pytest.mark.parametrize("done", [False, True], ids=["before the call", "before the answer"])
@pytest.mark.parametrize("count", [25, 95, 135])
def test_killed_at_a_call(launch: Launch, tmp_path: Path, count: int, done: bool) -> None:
    engine = launch(state=True)
    config = configuration(tmp_path)
    written: list[str] = []

    def ask(body: bytes) -> Answer:
        method = json.loads(body)["method"]
        if any(word in method for word in WRITES):
            written.append(method)
            if len(written) == count:
                if done:
                    engine.exchange(body)
                engine.end(signal.SIGKILL)
        try:
            return Answer(engine.exchange(body))
        except OSError:
            return Answer(None)

    proxy = Proxy(ask)
    try:
        failed = run_module(
            "target_config", fails=True, url=proxy.address, url_username=USER, url_password=PASSWORD, **config
        )
    finally:
        proxy.close()
    assert len(written) == count
    assert "The next run continues from there." in failed["msg"]
    assert failed["changed"]
    check_that_it_is_finished(engine, config)


@pytest.fixture
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Engine, int], Path]]:
    """A socket in front of an engine that kills it as soon as it has the nth request; gives the socket's path."""
    directory = tmp_path_factory.mktemp("relay")
    threads: list[threading.Thread] = []
    listener = socket.socket(socket.AF_UNIX)

    def serve(engine: Engine, count: int) -> None:
        connection, _peer = listener.accept()
        with connection:
            for number in range(1, count + 1):
                request = _request(connection)
                if number < count:
                    connection.sendall(engine.exchange(request))
                    continue
                with socket.socket(socket.AF_UNIX) as behind:
                    behind.connect(str(engine.socket))
                    behind.sendall(request)
                    engine.end(signal.SIGKILL)

    def start(engine: Engine, count: int) -> Path:
        path = directory / "rpc.sock"
        listener.bind(str(path))
        listener.listen()
        threads.append(threading.Thread(target=serve, args=(engine, count), daemon=True))
        threads[-1].start()
        return path

    yield start
    for thread in threads:
        thread.join(20)
    listener.close()


def _request(connection: socket.socket) -> bytes:
    """The next JSON document of a client; it has no end of its own."""
    text = b""
    while True:
        piece = connection.recv(1 << 20)
        if not piece:
            raise ConnectionError(f"the client ended after {text!r}")
        text += piece
        try:
            json.loads(text)
        except ValueError:
            continue
        return text


def test_killed_inside_a_batch(launch: Launch, relay: Callable[[Engine, int], Path], tmp_path: Path) -> None:
    engine = launch(state=True)
    config = configuration(tmp_path)
    # The first two requests ask for the methods and for everything there is.
    failed = run_module("target_config", fails=True, socket=str(relay(engine, 3)), **config)
    assert "the engine closed the connection without an answer" in failed["msg"]
    assert failed["changed"]
    check_that_it_is_finished(engine, config)
