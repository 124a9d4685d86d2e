# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of the control plane share: requests as bytes, and what is live and saved."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

from engine_process import DEADLINE, Engine, free_port

NODE = "iqn.2016-06.io.spdk:disk1"


@contextlib.contextmanager
def connected(engine: Engine) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(DEADLINE)
        connection.connect(str(engine.socket))
        yield connection


def request(method: str, identity: Any = 1, **params: Any) -> bytes:
    envelope: dict[str, Any] = {"jsonrpc": "2.0", "id": identity, "method": method}
    return json.dumps({**envelope, "params": params} if params else envelope).encode()


def answers(connection: socket.socket, count: int) -> list[Any]:
    with connection.makefile("rb") as stream:
        return [json.loads(stream.readline()) for _each in range(count)]


def saved(engine: Engine) -> dict[str, Any]:
    text = (engine.state_dir / "config.json").read_text()
    return {each["subsystem"]: each["config"] for each in json.loads(text)["subsystems"]}


def saved_bdevs(engine: Engine) -> list[str]:
    return [call["params"]["name"] for call in saved(engine)["bdev"] if "_create" in call["method"]]


def live_bdevs(engine: Engine) -> list[str]:
    return [bdev["name"] for bdev in engine.rpc("bdev_get_bdevs")]


def build(engine: Engine, port: int | None = None) -> int:
    """A node on a memory disk, behind a portal; returns the port."""
    port = port or free_port()
    engine.malloc("M0", 8)
    engine.rpc("iscsi_create_portal_group", tag=1, portals=[{"host": "127.0.0.1", "port": str(port)}])
    engine.initiator_group()
    engine.node("disk1", "M0")
    return port
