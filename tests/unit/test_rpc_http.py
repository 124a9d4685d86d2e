# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON-RPC over HTTP: what is sent, and one sentence for everything that goes wrong."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._rpc import (
    Call,
    CallError,
    Closed,
    Rpc,
    RpcError,
    TimedOut,
    Unreachable,
    connect_url,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._rpc_http import password_in
from ansible_collections.openlun.iscsi.plugins.module_utils._state.info import gather
from ansible_collections.openlun.iscsi.plugins.module_utils._state.reader import TooOld, read
from fake_engine import FakeEngine
from http_proxy import PASSWORD, USER, Answer, Proxy

Serve = Callable[[Callable[[bytes], Answer]], Proxy]


def echo(body: bytes) -> Answer:
    request = json.loads(body)
    return Answer(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": request["method"]}).encode())


@pytest.fixture
def serve() -> Iterator[Serve]:
    proxies: list[Proxy] = []

    def start(answer: Callable[[bytes], Answer]) -> Proxy:
        proxies.append(Proxy(answer))
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.close()


def client(url: str, user: str = USER, password: str = PASSWORD, timeout: float = 20) -> Rpc:
    return connect_url(url, timeout, (user, password))


def failure(rpc: Rpc, kind: type[RpcError]) -> str:
    """The sentence of a call that fails."""
    with rpc, pytest.raises(RpcError) as raised:
        rpc.call("spdk_get_version")
    assert isinstance(raised.value, kind)
    assert PASSWORD not in str(raised.value)
    assert raised.value.__cause__ is None
    return str(raised.value)


def test_a_call_is_a_post_with_the_credentials(serve: Serve) -> None:
    proxy = serve(echo)
    with client(proxy.address) as rpc:
        assert rpc.call("m", {"a": 1}) == "m"
    assert proxy.requests == [{"jsonrpc": "2.0", "id": 1, "method": "m", "params": {"a": 1}}]


def test_a_batch_is_sent_call_by_call_and_an_error_stops_nothing(serve: Serve) -> None:
    def refuse_b(body: bytes) -> Answer:
        request = json.loads(body)
        error = {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -17, "message": "File exists"}}
        return Answer(json.dumps(error).encode()) if request["method"] == "b" else echo(body)

    proxy = serve(refuse_b)
    with client(proxy.address) as rpc:
        first, second, third = rpc.call_batch([Call("a"), Call("b"), Call("c")])
    assert (first, third) == ("a", "c")
    assert isinstance(second, CallError)
    assert (second.code, second.text) == (-17, "File exists")
    assert [request["method"] for request in proxy.requests] == ["a", "b", "c"]


@pytest.mark.parametrize(("answered", "kind"), [(0, Unreachable), (1, Closed)])
def test_a_batch_that_was_begun_is_not_called_unreachable(serve: Serve, answered: int, kind: type[RpcError]) -> None:
    answers = iter([*[True] * answered, False])
    proxy = serve(lambda body: echo(body) if next(answers) else Answer(b"", 403))
    with client(proxy.address) as rpc, pytest.raises(RpcError) as raised:
        rpc.call_batch([Call("a"), Call("b"), Call("c")])
    assert isinstance(raised.value, kind)
    assert len(proxy.requests) == answered + 1


def test_an_error_of_the_engine_counts_more_than_the_status_it_comes_with(serve: Serve) -> None:
    error = b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "Method not found"}}'
    proxy = serve(lambda _body: Answer(error, 404))
    assert failure(client(proxy.address), CallError) == "spdk_get_version: Method not found (code -32601)"


def test_wrong_credentials(serve: Serve) -> None:
    proxy = serve(echo)
    words = failure(client(proxy.address, password="wrong word"), Unreachable)
    assert "does not accept these credentials" in words
    assert "wrong word" not in words
    assert proxy.requests == []


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Answer(b"", 403), Unreachable, "does not allow this user"),
        (Answer(b"<html>", 404), Closed, "HTTP status 404 (Not Found). Is this the address"),
        (Answer(b"", 500), Closed, "HTTP status 500 (Internal Server Error). See whether the engine"),
        (Answer(b"", 599), Closed, "HTTP status 599. See whether the engine"),
        (Answer(b"", 302, (("Location", "http://127.0.0.1:9/"),)), Closed, "Redirects are not followed"),
        (Answer(b"<html>welcome</html>"), Closed, "not JSON-RPC"),
        (Answer(b'{"hello": "world"}'), Closed, "not JSON-RPC"),
        (Answer(b"[]"), Closed, "not JSON-RPC"),
        (Answer(None), Closed, "closed the connection without an answer"),
    ],
)
def test_other_answers(serve: Serve, answer: Answer, kind: type[RpcError], words: str) -> None:
    proxy = serve(lambda _body: answer)
    text = failure(client(proxy.address), kind)
    assert text.startswith(proxy.address)
    assert words in text


def test_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "nobody listens there" in failure(client(f"http://127.0.0.1:{port}/"), Unreachable)


def test_a_name_that_does_not_exist() -> None:
    assert "no host of this name" in failure(client("http://no-such-host.invalid:9009/"), Unreachable)


def test_timed_out(serve: Serve) -> None:
    over = threading.Event()

    def wait(body: bytes) -> Answer:
        over.wait(20)
        return echo(body)

    proxy = serve(wait)
    try:
        assert "no answer within 0.1 seconds" in failure(client(proxy.address, timeout=0.1), TimedOut)
    finally:
        over.set()


def test_tls_to_a_port_without_it(serve: Serve) -> None:
    url = serve(echo).address.replace("http:", "https:")
    assert "Is this an https port?" in failure(client(url), Unreachable)


@pytest.mark.parametrize(
    "url", ["storage1:9009", "ftp://storage1/", "http:///", "http://storage1:port/", "http://[::1/"]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(Unreachable, match=r"^url: this is no URL of an HTTP server"):
        connect_url(url)


def test_a_url_with_credentials_is_refused_without_showing_them() -> None:
    with pytest.raises(Unreachable) as raised:
        connect_url("http://operator:word@storage1:9009/")
    assert "url_password" in str(raised.value)
    assert "word@" not in str(raised.value)
    assert password_in("http://operator:word@storage1:9009/") == "word"


def test_a_query_is_not_shown(serve: Serve) -> None:
    proxy = serve(lambda _body: Answer(b"", 404))
    assert "token" not in failure(client(f"{proxy.address}?token=1"), Closed)


def test_certificates_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"^ca_path: there is no "):
        connect_url("https://storage1/", ca_path=str(tmp_path / "ca.pem"))


def test_the_environment_does_not_meddle(serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    words = failure(connect_url(serve(echo).address, 20), Unreachable)
    assert "does not accept these credentials" in words


def test_without_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    with pytest.raises(Unreachable, match=r"Python library \(requests\)"):
        connect_url("http://storage1:9009/")


class OlderEngine(FakeEngine):
    """An engine without some methods."""

    def __init__(self, *lacks: str) -> None:
        super().__init__(builtin=False)
        self.lacks = lacks

    def do_rpc_get_methods(self) -> list[str]:
        return [method for method in super().do_rpc_get_methods() if method not in self.lacks]


def test_an_engine_without_auth_groups_has_none() -> None:
    info: dict[str, Any] = gather(read(OlderEngine("iscsi_get_auth_groups")))
    assert info["auth_groups"] == []


def test_an_engine_that_is_too_old_is_told_what_it_lacks() -> None:
    with pytest.raises(TooOld, match="has no iscsi_get_options and no iscsi_get_connections: it is too old"):
        read(OlderEngine("iscsi_get_connections", "iscsi_get_options"))
