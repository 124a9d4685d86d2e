# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The blocking client: what it sends, and what it says when something is wrong."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils import _rpc
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc import client as engine_client
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.client import (
    Call,
    CallError,
    Closed,
    RpcError,
    TimedOut,
    Unreachable,
)

Answer = Callable[[Any], "bytes | None"]


class Peer:
    """A server whose answers are a function of the request; None closes the connection."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.requests: list[Any] = []
        self.answer: Answer = ok
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(5)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _peer = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            text = b""
            while piece := connection.recv(65536):
                text += piece
                try:
                    request = json.loads(text)
                except ValueError:
                    continue
                text = b""
                self.requests.append(request)
                answer = self.answer(request)
                if answer is None:
                    return
                connection.sendall(answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def reply(request: dict[str, Any]) -> dict[str, Any]:
    if request["method"] == "bad":
        error = {"code": -17, "message": "File exists: bdev M9"}
        return {"jsonrpc": "2.0", "id": request["id"], "error": error}
    return {"jsonrpc": "2.0", "id": request["id"], "result": request.get("params", request["method"])}


def ok(request: Any) -> bytes:
    return line([reply(each) for each in reversed(request)] if isinstance(request, list) else reply(request))


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    peer = Peer(tmp_path / "s")
    yield peer
    peer.close()


@pytest.fixture
def rpc(peer: Peer) -> Iterator[_rpc.Rpc]:
    with _rpc.connect(peer.path, timeout=20) as rpc:
        yield rpc


def test_a_call_gives_the_result(peer: Peer, rpc: _rpc.Rpc) -> None:
    assert rpc.call("look", {"name": "\u00e9"}) == {"name": "\u00e9"}
    assert rpc.call("look") == "look"
    assert rpc.call("look", {}) == "look"
    assert [request.get("params", "none") for request in peer.requests] == [{"name": "\u00e9"}, "none", "none"]


def test_an_error_answer_is_a_sentence_with_its_code(rpc: _rpc.Rpc) -> None:
    with pytest.raises(CallError, match=r"bad: File exists: bdev M9 \(code -17\)") as failure:
        rpc.call("bad")
    assert (failure.value.code, failure.value.method, failure.value.text) == (-17, "bad", "File exists: bdev M9")
    assert failure.value.message == str(failure.value)


def test_the_methods_are_asked_for_once(peer: Peer, rpc: _rpc.Rpc) -> None:
    peer.answer = lambda request: line({"id": request["id"], "result": ["a", "b"]})
    assert rpc.methods() == rpc.methods() == {"a", "b"}
    assert len(peer.requests) == 1


def test_a_batch_gives_results_in_the_order_of_its_calls(peer: Peer, rpc: _rpc.Rpc) -> None:
    calls = [Call("look", {"n": number}) for number in range(5)] + [Call("bad"), Call("look", {"n": 9})]
    results = rpc.call_batch(calls)
    assert [each for each in results if not isinstance(each, RpcError)] == [{"n": n} for n in (0, 1, 2, 3, 4, 9)]
    assert isinstance(results[5], CallError)
    assert results[5].code == -17
    assert len(peer.requests) == 1


def test_a_long_batch_is_cut_into_several(peer: Peer, rpc: _rpc.Rpc) -> None:
    calls = [Call("look", {"n": number, "text": "x" * 1000}) for number in range(500)]
    assert [result["n"] for result in rpc.call_batch(calls)] == list(range(500))
    assert len(peer.requests) > 1
    assert all(len(json.dumps(request)) < 256 * 1024 for request in peer.requests)
    assert rpc.call_batch([]) == []


def json_values(document: Any) -> int:
    """As SPDK counts them: a token of the text that is neither a comma nor a colon."""
    return len(re.findall(r'"[^"]*"|[\[\]{}]|[^\[\]{}",:\s]+', json.dumps(document)))


def test_no_batch_holds_more_json_values_than_spdk_takes(peer: Peer, rpc: _rpc.Rpc) -> None:
    small = [Call("look", {"n": number}) for number in range(700)]
    large = [Call("look", {"n": number, "luns": [{"id": each, "on": None} for each in range(64)]}) for number in (1, 2)]
    assert len(rpc.call_batch([*small, *(large * 30)])) == 760
    assert all(json_values(request) <= 8192 for request in peer.requests)
    assert max(map(len, peer.requests)) > 400  # small calls still travel together


def test_a_batch_that_is_refused_as_a_whole_is_an_error(peer: Peer, rpc: _rpc.Rpc) -> None:
    peer.answer = lambda _request: line({"id": None, "error": {"code": -32600, "message": "Invalid request"}})
    with pytest.raises(CallError, match="Invalid request"):
        rpc.call_batch([Call("look")])


def test_a_missing_answer_in_a_batch_is_that_calls_error(peer: Peer, rpc: _rpc.Rpc) -> None:
    peer.answer = lambda request: line([reply(request[0])])
    first, second = rpc.call_batch([Call("one"), Call("two")])
    assert first == "one"
    assert isinstance(second, CallError)


def test_an_answer_in_many_pieces(peer: Peer, rpc: _rpc.Rpc) -> None:
    big = ["x" * 1000] * 5000
    peer.answer = lambda request: line({"id": request["id"], "result": big})
    assert rpc.call("look") == big


def test_no_socket(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"nowhere: there is no such socket\. Start the target engine"):
        _rpc.connect(str(tmp_path / "nowhere")).call("look")


def test_a_socket_that_nobody_serves(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(Unreachable, match="nobody listens"):
        _rpc.connect(str(tmp_path / "dead")).call("look")


def test_a_file_that_is_no_socket(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unreachable):
        _rpc.connect(str(tmp_path / "file")).call("look")


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="too long"):
        _rpc.connect(str(tmp_path / ("x" * 200))).call("look")


def test_an_engine_that_does_not_answer(peer: Peer) -> None:
    peer.answer = lambda _request: b""
    with _rpc.connect(peer.path, timeout=0.05) as rpc, pytest.raises(TimedOut, match=r"no answer within 0\.05 seconds"):
        rpc.call("look")


def test_an_engine_that_dies_is_told_and_the_next_call_connects_again(peer: Peer, rpc: _rpc.Rpc) -> None:
    peer.answer = lambda _request: None
    with pytest.raises(Closed, match="closed the connection without an answer") as failure:
        rpc.call("look")
    assert failure.value.method == "look"
    peer.answer = ok
    assert rpc.call("look") == "look"


def test_half_an_answer_is_none(peer: Peer) -> None:
    peer.answer = lambda _request: b'{"id": 1, "res'
    with _rpc.connect(peer.path, timeout=0.05) as rpc, pytest.raises(TimedOut):
        rpc.call("look")


def test_something_else_at_the_socket(peer: Peer, rpc: _rpc.Rpc) -> None:
    peer.answer = lambda _request: b"HTTP/1.1 400 Bad Request\r\n\r\n"
    with pytest.raises(Closed, match="not JSON"):
        rpc.call("look")


def test_the_client_takes_nothing_but_the_standard_library_along() -> None:
    """Modules carry this file to hosts: its imports are what they cost."""
    program = f"""
import runpy, sys
before = set(sys.modules)
runpy.run_path({engine_client.__file__!r})
print(*sorted({{name.partition(".")[0] for name in set(sys.modules) - before}}))
"""
    taken = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "asyncio" not in taken
    assert set(taken) <= sys.stdlib_module_names
