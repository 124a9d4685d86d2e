# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module says when there is no engine, none that answers, or none that it can use."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_process import Launch
from module_process import run_module


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="openlun-") as directory:  # short: socket paths end at 107 bytes
        yield Path(directory) / "rpc.sock"


def message(path: Path, **options: Any) -> str:
    """What a module says that cannot do its work."""
    disk: dict[str, Any] = {"name": "M0", "type": "malloc", "size": "1MiB"}
    said: str = run_module("bdev", fails=True, socket=str(path), **disk, **options)["msg"]
    return said


def test_no_engine(path: Path) -> None:
    said = message(path)
    assert said.startswith(f"{path}: there is no such socket. Start the target engine, or name the socket")
    assert said.endswith("The module openlun.iscsi.engine starts one.")


def test_an_engine_that_died(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert f"{path}: nobody listens on this socket. The engine was stopped or died; start it again." in message(path)


def test_an_engine_that_does_not_answer(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        said = message(path, timeout=1)
    assert said.startswith(f"{path}: no answer within 1 seconds. The request may still be carried out;")


def test_an_engine_that_is_too_old(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
        old.listen()
        threading.Thread(target=answer_methods, args=(old, ["rpc_get_methods", "spdk_get_version"])).start()
        said = message(path)
    assert said.startswith("The engine has no iscsi_get_options and no bdev_get_bdevs and no iscsi_get_portal_groups")
    assert "it is too old for this collection, or serves no iSCSI. Upgrade it, or name the socket" in said


def answer_methods(listener: socket.socket, methods: list[str]) -> None:
    """Answer one request as rpc_get_methods."""
    connection, _address = listener.accept()
    with connection:
        request = json.loads(connection.recv(65536))
        answer = {"jsonrpc": "2.0", "id": request["id"], "result": methods}
        connection.sendall(json.dumps(answer).encode() + b"\n")


def test_an_engine_that_waits_for_its_options(launch: Launch) -> None:
    engine = launch("--wait-for-rpc")
    said = message(engine.socket)
    assert said.startswith("The engine waits for its options (it was started with --wait-for-rpc). ")
    assert said.endswith("The module openlun.iscsi.target_options sets them and lets it start.")
