# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is admitted over HTTP, addresses, and the watchdog."""

from __future__ import annotations

import asyncio
import base64
import socket
from pathlib import Path

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import EngineError, Invalid
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.http import Address
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.http_auth import Credentials, Guard, Verdict
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.systemd import Watchdog
from hypothesis import given
from hypothesis import strategies as st

LINES = "# who may\n\noperator:pässword: with colon\nabcdefghijklmnop\n"


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return Credentials.read(written(tmp_path, LINES))


def written(directory: Path, text: str, mode: int = 0o600) -> str:
    path = directory / "credentials"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (basic("operator:pässword: with colon"), True),
        ("basic " + basic("operator:pässword: with colon")[6:], True),
        ("Bearer abcdefghijklmnop", True),
        (basic("operator:pässword"), False),
        (basic("abcdefghijklmnop"), False),
        ("Bearer operator:pässword: with colon", False),
        ("Bearer # who may", False),
        ("Basic !!!", False),
        ("", False),
        ("Basic", False),
    ],
)
def test_what_is_accepted(credentials: Credentials, header: str, accepted: bool) -> None:
    assert credentials.accept(header) is accepted


@given(st.text(max_size=40))
def test_nothing_else_is_accepted_and_nothing_crashes(header: str) -> None:
    credentials = Credentials(frozenset(), frozenset())
    assert not credentials.accept(header)
    credentials.user_of(header)


def test_only_known_users_are_named(credentials: Credentials) -> None:
    assert credentials.user_of(basic("operator:wrong")) == "user operator"
    assert "secret" not in credentials.user_of(basic("my secret:x"))
    assert "secret" not in credentials.user_of("Bearer secret")


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (LINES, 0o640, "chmod 600"),
        ("operator:short\n", 0o600, "line 1: a password has at least 8"),
        ("\nshort\n", 0o600, "line 2: a token has at least 8"),
        ("# nothing\n", 0o600, "no line"),
    ],
)
def test_a_file_that_will_not_do(tmp_path: Path, text: str, mode: int, words: str) -> None:
    path = written(tmp_path, text, mode)
    with pytest.raises(Invalid, match=words) as refused:
        Credentials.read(path)
    assert path in str(refused.value)
    assert "short" not in str(refused.value).replace("shortest", "")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=str(tmp_path / "nope")):
        Credentials.read(str(tmp_path / "nope"))


def test_wrong_ones_wait_and_right_ones_do_not(credentials: Credentials, caplog: pytest.LogCaptureFixture) -> None:
    waited: list[float] = []

    async def scenario() -> None:
        guard = Guard(credentials, first_delay=0.001)
        plain = asyncio.sleep

        async def sleep(seconds: float) -> None:
            waited.append(seconds)
            await plain(0.05)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio, "sleep", sleep)
            for _each in range(3):
                assert await guard.judge("Bearer wrong-one-here", "10.0.0.1") is Verdict.REFUSED
            assert await guard.judge("Bearer abcdefghijklmnop", "10.0.0.1") is Verdict.ADMITTED
            assert await guard.judge("Bearer wrong-one-here", "10.0.0.1") is Verdict.REFUSED
            assert await guard.judge(None, "10.0.0.1") is Verdict.REFUSED
            many = await asyncio.gather(*(guard.judge("Bearer wrong-one-here", "10.0.0.2") for _each in range(20)))
            assert many.count(Verdict.BUSY) == 12

    asyncio.run(scenario())
    assert waited[:4] == [0.001, 0.002, 0.004, 0.001]
    assert "wrong-one-here" not in caplog.text


@pytest.mark.parametrize(
    ("text", "shown", "loopback"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080", True),
        ("localhost:0", "127.0.0.1:0", True),
        ("[::1]:80", "[::1]:80", True),
        ("0.0.0.0:80", "0.0.0.0:80", False),
        ("[fe80::1]:65535", "[fe80::1]:65535", False),
    ],
)
def test_addresses(text: str, shown: str, loopback: bool) -> None:
    address = Address.parse(text)
    assert (str(address), address.is_loopback) == (shown, loopback)


@pytest.mark.parametrize(
    "text", ["", "8080", ":8080", "host:80", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "[::1]"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(Invalid, match="an address and a port"):
        Address.parse(text)


# -- the watchdog


@pytest.mark.parametrize(("pid", "fed"), [("", True), ("1", False)])
def test_the_watchdog_is_fed_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: str, fed: bool) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        for name, value in (
            ("NOTIFY_SOCKET", str(tmp_path / "notify")),
            ("WATCHDOG_USEC", "20000"),
            ("WATCHDOG_PID", pid),
        ):
            monkeypatch.setenv(name, value)

        async def scenario() -> None:
            watchdog = Watchdog(asyncio.get_running_loop())
            watchdog.start()
            for _each in range(3 if fed else 0):
                assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(manager, 64), 5) == b"WATCHDOG=1"
            watchdog.stop()

        asyncio.run(scenario())
        if not fed:
            with pytest.raises(BlockingIOError):
                manager.recv(64)
