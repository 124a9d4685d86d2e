# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's management over HTTP: calls, metrics, health and the status page, and who may have them."""

from __future__ import annotations

import base64
import http.client
import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_process import DEADLINE, Engine, Launch, eventually, free_port, refused_start, run
from module_process import run_module
from promtool import check_with_promtool
from self_signed import self_signed

USER, PASSWORD, TOKEN = "operator", "pässword: not for your eyes", "a-token-for-prometheus"
LOCAL = "127.0.0.1"
ROOT = Path(__file__).resolve().parents[2]

Headers = dict[str, str]


def basic(user: str = USER, password: str = PASSWORD) -> Headers:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


AUTHORIZED = f"Authorization: {basic()['Authorization']}\r\n".encode()
CHUNKED = b"POST /rpc HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n" % AUTHORIZED


class Client:
    """One HTTP connection a request."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self._tls = tls

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Headers | None = None
    ) -> tuple[int, bytes]:
        if self._tls is None:
            connection = http.client.HTTPConnection(LOCAL, self.port, timeout=DEADLINE)
        else:
            connection = http.client.HTTPSConnection(LOCAL, self.port, timeout=DEADLINE, context=self._tls)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def call(self, method: str, headers: Headers, path: str = "/rpc", **params: Any) -> tuple[int, Any]:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, **({"params": params} if params else {})}
        status, body = self.ask("POST", path, json.dumps(request).encode(), headers)
        return status, json.loads(body) if status == 200 else body


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.write_text(f"{USER}:{PASSWORD}\n{TOKEN}\n", encoding="utf-8")
    path.chmod(0o600)
    return path


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def guarded(launch: Launch, port: int, credentials: Path) -> Engine:
    return launch("--http", f"{LOCAL}:{port}", "--http-credentials", credentials, state=True)


@pytest.fixture
def client(guarded: Engine, port: int) -> Client:  # noqa: ARG001
    return Client(port)


# -- calls


@pytest.mark.parametrize("path", ["/rpc", "/", "/whatever"])
@pytest.mark.parametrize("headers", [basic(), {"Authorization": f"Bearer {TOKEN}"}])
def test_calls_are_made(client: Client, guarded: Engine, path: str, headers: Headers) -> None:
    status, answer = client.call("bdev_malloc_create", headers, path, name="M0", num_blocks=8, block_size=512)
    assert (status, answer) == (200, {"jsonrpc": "2.0", "id": 1, "result": "M0"})
    assert '"M0"' in (guarded.state_dir / "config.json").read_text()
    assert client.call("bdev_malloc_delete", headers, name="nope")[1]["error"]["code"] == -19


def test_batches_notifications_and_what_is_no_json(client: Client) -> None:
    batch = [{"jsonrpc": "2.0", "id": number, "method": "log_get_level"} for number in range(3)]
    status, body = client.ask("POST", "/rpc", json.dumps(batch).encode(), basic())
    assert (status, [each["id"] for each in json.loads(body)]) == (200, [0, 1, 2])
    assert client.ask("POST", "/rpc", b'{"method": "log_get_level"}', basic()) == (204, b"")
    status, body = client.ask("POST", "/rpc", b"{", basic())
    assert (status, json.loads(body)["error"]["code"]) == (200, -32700)


def test_a_call_comes_in_chunks(client: Client) -> None:
    """As SPDK's HTTP proxy takes it from clients that do not know the length beforehand."""
    text = json.dumps({"id": 7, "method": "bdev_get_bdevs", "params": {"name": "x" * 100_000}}).encode()
    pieces = (text[start : start + 30_000] for start in range(0, len(text), 30_000))
    connection = http.client.HTTPConnection(LOCAL, client.port, timeout=DEADLINE)
    try:
        connection.request("POST", "/", pieces, {**basic(), "Transfer-Encoding": "chunked"}, encode_chunked=True)
        assert json.loads(connection.getresponse().read())["id"] == 7
        connection.request("POST", "/rpc", b'{"id": 8, "method": "log_get_level"}', basic())
        assert json.loads(connection.getresponse().read())["result"] == "NOTICE"
    finally:
        connection.close()


def test_a_call_that_waits_is_answered(client: Client, guarded: Engine) -> None:
    answers: list[Any] = []
    waiting = threading.Thread(
        target=lambda: answers.append(client.call("bdev_get_bdevs", basic(), name="M0", timeout=int(DEADLINE * 1000)))
    )
    waiting.start()
    guarded.malloc("M0", 1)
    waiting.join(DEADLINE)
    assert answers[0][1]["result"][0]["name"] == "M0"


def test_the_modules_use_it(guarded: Engine, port: int) -> None:
    options: dict[str, Any] = {"url": f"http://{LOCAL}:{port}/", "url_username": USER, "url_password": PASSWORD}
    arguments: dict[str, Any] = {"name": "M0", "type": "malloc", "size": "8MiB", **options}
    assert run_module("bdev", **arguments)["changed"] is True
    assert run_module("bdev", **arguments)["changed"] is False
    assert guarded.rpc("bdev_get_bdevs", name="M0")[0]["num_blocks"] == 16384


# -- who may


@pytest.mark.parametrize("path", ["/rpc", "/", "/metrics", "/status.json"])
def test_without_credentials_nothing_is_told(client: Client, path: str) -> None:
    method, body = ("POST", b"{}") if path == "/rpc" else ("GET", None)
    assert client.ask(method, path, body) == (401, b"credentials are wanted\n")


def test_wrong_credentials_are_slow_and_logged_without_the_secret(client: Client, guarded: Engine) -> None:
    for headers in (basic(password="guess-no-1"), basic(user="guess-no-2"), {"Authorization": "Bearer guess-no-3"}):
        assert client.call("spdk_get_version", headers)[0] == 401
    assert f"wrong credentials of user {USER} from {LOCAL}" in guarded.words()
    assert "guess-no" not in guarded.words()
    assert client.call("spdk_get_version", basic())[0] == 200


def test_health_is_for_everybody(client: Client) -> None:
    assert client.ask("GET", "/healthz") == (200, b'{"status": "ok"}\n')
    assert client.ask("HEAD", "/healthz") == (200, b"")


def test_without_credentials_there_are_no_calls(launch: Launch, port: int) -> None:
    engine = launch("--http", f"{LOCAL}:{port}")
    client = Client(port)
    status, why = client.ask("POST", "/rpc", b'{"method": "spdk_kill_instance"}')
    assert (status, b"--http-credentials" in why) == (403, True)
    assert client.ask("GET", "/metrics")[0] == 200
    assert client.ask("GET", "/metrics", headers={"Host": f"rebound.example:{port}"})[0] == 403
    assert client.ask("GET", "/metrics", headers={"Host": f"localhost:{port}"})[0] == 200
    assert engine.alive()


def test_pages_of_other_sites_may_not(client: Client) -> None:
    evil = {**basic(), "Origin": "http://evil.example"}
    assert client.call("spdk_get_version", evil)[0] == 403
    own = {**basic(), "Origin": f"http://{LOCAL}:{client.port}"}
    assert client.call("spdk_get_version", own)[0] == 200


def test_others_may_reach_it_only_with_tls_and_credentials(
    unpacked: Path, tmp_path: Path, credentials: Path, certificate: Path
) -> None:
    socket_path, address = tmp_path / "s", f"0.0.0.0:{free_port()}"
    for some in ((), ("--http-credentials", credentials), ("--http-certificate", certificate)):
        assert "needs TLS and credentials" in refused_start(unpacked, "-r", socket_path, "--http", address, *some)
    credentials.chmod(0o644)
    words = refused_start(unpacked, "-r", socket_path, "--http", f"{LOCAL}:0", "--http-credentials", credentials)
    assert "chmod 600" in words
    with socket.create_server((LOCAL, 0)) as other:
        taken = f"{LOCAL}:{other.getsockname()[1]}"
        assert f"HTTP address {taken}" in refused_start(unpacked, "-r", socket_path, "--http", taken)
    assert not socket_path.exists()


def test_tls_and_fresh_certificates_and_credentials(
    launch: Launch, port: int, credentials: Path, tmp_path: Path
) -> None:
    files = self_signed(tmp_path)
    engine = launch(
        *("--http", f"0.0.0.0:{port}", "--http-credentials", credentials, "--http-certificate", files),
    )
    old = Client(port, ssl.create_default_context(cafile=str(files)))
    assert old.call("spdk_get_version", basic())[0] == 200
    assert engine.process is not None
    credentials.write_text(f"{USER}:another-password\n")
    self_signed(tmp_path)
    engine.process.send_signal(signal.SIGHUP)
    new = Client(port, ssl.create_default_context(cafile=str(files)))
    eventually(lambda: answers(new), "the new certificate")
    assert new.call("spdk_get_version", basic(password="another-password"))[0] == 200
    with pytest.raises(ssl.SSLError):
        old.ask("GET", "/healthz")
    files.write_text("nonsense")
    engine.process.send_signal(signal.SIGHUP)
    eventually(lambda: "the old one is used on: certificate" in engine.words(), "the complaint")
    assert new.ask("GET", "/healthz")[0] == 200


def answers(client: Client) -> bool:
    try:
        return client.ask("GET", "/healthz")[0] == 200
    except ssl.SSLError:
        return False


# -- what is no HTTP


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"GET /healthz\r\n\r\n", 400),
        (b"GET /healthz HTTP/2.0\r\n\r\n", 400),
        (b"GET healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nContent-Length: 1\r\n\r\n", 413),
        (b"POST /rpc HTTP/1.1\r\n%bContent-Length: 99999999999\r\n\r\n" % AUTHORIZED, 413),
        (b"GET /healthz HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 413),
        (b"GET /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", 400),
        (CHUNKED + b"-1\r\n", 400),
        (CHUNKED + b"0x1\r\nx\r\n0\r\n\r\n", 400),
        (CHUNKED + b"1\r\nxx\r\n0\r\n\r\n", 400),
        (CHUNKED + b"ffffffffff\r\n", 413),
        (CHUNKED + b"0\r\n" + b"a: b\r\n" * 70 + b"\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 70000 + b"\r\n\r\n", 431),
        (b"GET /nowhere HTTP/1.1\r\n\r\n", 404),
        (b"DELETE /healthz HTTP/1.1\r\n\r\n", 405),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_told_so(client: Client, text: bytes, status: int) -> None:
    with socket.create_connection((LOCAL, client.port), DEADLINE) as connection, connection.makefile("rb") as stream:
        connection.sendall(text)
        assert stream.readline().split()[1] == str(status).encode()
    assert client.ask("GET", "/healthz")[0] == 200


def test_a_connection_serves_many_requests_and_a_large_one(client: Client) -> None:
    connection = http.client.HTTPConnection(LOCAL, client.port, timeout=DEADLINE)
    try:
        names = [f"M{number}" for number in range(40000)]
        batch = [{"id": name, "method": "bdev_get_bdevs", "params": {"name": name}} for name in names]
        for body, count in ((json.dumps(batch).encode(), 40000), (json.dumps(batch[:3]).encode(), 3)):
            connection.request("POST", "/rpc", body, basic())
            assert len(json.loads(connection.getresponse().read())) == count
    finally:
        connection.close()


def test_clients_that_stall_or_leave_keep_nobody_waiting(client: Client, guarded: Engine) -> None:
    stalled = [socket.create_connection((LOCAL, client.port), DEADLINE) for _each in range(100)]
    try:
        for number, each in enumerate(stalled):
            each.sendall(b"POST /rpc HTTP/1.1\r\nContent-Length: 1000\r\n"[: 10 + number])
        assert client.call("spdk_get_version", basic())[0] == 200
    finally:
        for each in stalled:
            each.close()
    assert "Traceback" not in guarded.words()


# -- metrics and the status page, under load


@pytest.fixture
def busy(launch: Launch, port: int) -> Iterator[Engine]:
    """An engine that serves reads as fast as it can."""
    engine = launch("--http", f"{LOCAL}:{port}")
    engine.initiator_group()
    portal = engine.portal_group()
    name = engine.node("busy", engine.malloc("M0", 16))
    engine.node("idle", engine.malloc('odd "name"\\', 1))
    load = subprocess.Popen(
        ["iscsi-perf", "-b", "8", "-m", "8", "-r", f"iscsi://{LOCAL}:{portal}/{name}/0"], stdout=subprocess.DEVNULL
    )
    eventually(lambda: engine.rpc("bdev_get_iostat")["bdevs"][0]["num_read_ops"] > 100, "the load")
    yield engine
    load.kill()
    load.wait()


def metric(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, f"{name} is not in\n{text}"
    return float(found.group(1))


def test_metrics_of_a_busy_target(busy: Engine, port: int) -> None:
    client = Client(port)
    first = client.ask("GET", "/metrics")[1].decode()
    read = 'openlun_bdev_operations_total{bdev="M0",operation="read"}'
    eventually(lambda: metric(client.ask("GET", "/metrics")[1].decode(), read) > metric(first, read) + 100, "reads")
    text = client.ask("GET", "/metrics")[1].decode()
    who = 'target="iqn.2016-06.io.spdk:busy",initiator="iqn.2010-11.libiscsi:iscsi-perf"'
    lun = who.replace(",", ',lun="0",') + ',operation="read"'
    assert metric(text, f"openlun_lun_operations_total{{{lun}}}") == metric(text, read)
    assert metric(text, f"openlun_lun_latency_seconds_count{{{lun}}}") == metric(text, read)
    assert metric(text, f"openlun_initiator_sent_bytes_total{{{who}}}") > 4096 * 100
    assert metric(text, f"openlun_initiator_commands_total{{{who}}}") > 100
    assert metric(text, f"openlun_initiator_sessions_total{{{who}}}") == 1
    assert metric(text, 'openlun_target_sessions{target="iqn.2016-06.io.spdk:busy"}') == 1
    run(
        "iscsi-inq",
        f"iscsi://{LOCAL}:{busy.rpc('iscsi_get_portal_groups')[0]['portals'][0]['port']}/nobody/0",
        check=False,
    )
    assert metric(client.ask("GET", "/metrics")[1].decode(), 'openlun_logins_refused_total{status="0203"}') >= 1
    check_with_promtool(text)


def chromium(port: int, *arguments: str | Path) -> str:
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    flags = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --window-size=1200,800"
    return run("chromium", *flags.split(), "--virtual-time-budget=3000", *arguments, f"http://{LOCAL}:{port}/").stdout


def test_the_status_page_shows_a_busy_target(busy: Engine, port: int, tmp_path: Path) -> None:
    client = Client(port)
    eventually(lambda: len(json.loads(client.ask("GET", "/status.json")[1])["history"]) > 2, "a few seconds' history")
    page = chromium(port, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom")
    shown = re.sub(r"<[^>]*>", " ", page.partition("</style>")[2].partition("<script>")[0])
    assert "iqn.2016-06.io.spdk:busy (busy alias)" in shown
    assert 'odd "name"' in shown
    assert "iqn.2010-11.libiscsi:iscsi-perf" in shown
    rate = re.search(r"read ([\d.]+)(k?), write 0 IOPS", shown)
    assert rate, shown
    assert float(rate.group(1)) * (1000 if rate.group(2) else 1) > 10
    assert re.search(r'<polyline class="read" points="[\d.]+,[\d.]+ [\d.]+,[\d.]+', page)
    assert "No news" not in shown
    assert not re.search(r"""(src|href)=["'](?!data:,)""", page)
    busy.stop()


def test_the_status_page_is_drawn(busy: Engine, port: int, tmp_path: Path) -> None:
    picture = ROOT / "build/results/status-page.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.unlink(missing_ok=True)
    client = Client(port)
    eventually(lambda: len(json.loads(client.ask("GET", "/status.json")[1])["history"]) > 3, "a few seconds' history")
    chromium(port, f"--user-data-dir={tmp_path / 'profile'}", "--hide-scrollbars", f"--screenshot={picture}")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000  # a blank page has less
    assert busy.alive()
