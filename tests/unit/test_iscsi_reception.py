# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A login is read until it names its target node, however its bytes and PDUs are cut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.base import BdevRegistry
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.null import NullBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.auth import Auth
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.node import TargetNode
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.portal import Portal
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.reception import Arrival, Reception
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.target import IscsiTarget
from hypothesis import given, settings
from hypothesis import strategies as st
from pdu import wire
from pdu.wire import Pdu, text_data

NODE = "iqn.2016-06.io.spdk:disk0"
NORMAL = {"InitiatorName": "iqn.2020-01.test:host", "SessionType": "Normal", "TargetName": NODE.upper()}


class Elsewhere:
    """Takes every login."""

    def __init__(self) -> None:
        self.taken: list[tuple[TargetNode, Arrival]] = []

    def take(self, node: TargetNode, arrival: Arrival) -> bool:
        self.taken.append((node, arrival))
        return True

    async def see_off(self, node: TargetNode, seconds: int) -> None:
        raise NotImplementedError

    def stay(self, node: TargetNode) -> None:
        raise NotImplementedError

    def touched(self, node: TargetNode) -> None:
        raise NotImplementedError


class Desk:
    """A target that serves nothing itself, and a connection to it."""

    def __init__(self) -> None:
        bdevs = BdevRegistry()
        bdevs.create(NullBdev("N0", 8, 512))
        self.target = IscsiTarget(bdevs)
        self.target.create_node(NODE, "", [], [(0, "N0")], 8, Auth(disable_chap=True))
        self.target.serving = True
        self.admitted: list[Arrival] = []
        self.target.admit = self.admitted.append  # type: ignore[method-assign,assignment]
        self.elsewhere = Elsewhere()
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.peer = socket.create_connection(server.getsockname())
            self.sock, _address = server.accept()
        self.peer.setblocking(False)
        self.heard = b""
        Reception(Arrival(self.sock, Portal("127.0.0.1", "3260", 1)), self.target, self.elsewhere)

    async def say(self, data: bytes) -> None:
        self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer.sendall(data)
        await asyncio.sleep(0)

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await asyncio.sleep(0.001)
            with contextlib.suppress(BlockingIOError):
                self.heard += self.peer.recv(65536)

    @property
    def is_decided(self) -> bool:
        return bool(self.admitted or self.elsewhere.taken)

    def close(self) -> None:
        self.peer.close()
        for reception in list(self.target.receptions):
            reception.close()
        self.sock.close()


def at_desk(act: Callable[[Desk], object]) -> None:
    async def run() -> None:
        desk = Desk()
        try:
            await asyncio.wait_for(act(desk), 10)  # type: ignore[arg-type]
        finally:
            desk.close()

    asyncio.run(run())


def login(text: bytes, goes_on: bool = False) -> bytes:
    flags = wire.CONTINUE | 1 << 2 if goes_on else wire.FINAL | 1 << 2 | 3
    return bytes(Pdu(wire.LOGIN, flags, immediate=True, data=text, isid=bytes(6), itt=1, cmd_sn=1, exp_stat_sn=9))


def cut(data: bytes, places: list[float]) -> list[bytes]:
    marks = sorted({round(place * len(data)) for place in places} | {0, len(data)})
    return [data[begin:end] for begin, end in zip(marks, marks[1:])]


PLACES = st.lists(st.floats(0, 1), max_size=4)


@settings(max_examples=40, deadline=None)
@given(PLACES, PLACES)
def test_who_serves_the_node_gets_all_that_came(pdu_cuts: list[float], byte_cuts: list[float]) -> None:
    async def act(desk: Desk) -> None:
        parts = cut(text_data(NORMAL), pdu_cuts)
        said = b""
        for number, part in enumerate(parts, 1):
            request = login(part, goes_on=number < len(parts))
            said += request
            for piece in cut(request, byte_cuts):
                await desk.say(piece)
            if number < len(parts):
                await desk.until(lambda: len(desk.heard) >= 48 * number)  # noqa: B023
        await desk.until(lambda: desk.is_decided)
        ((node, arrival),) = desk.elsewhere.taken
        assert (node.name, arrival.received, arrival.answered) == (NODE, said, len(parts) - 1)
        answers = [Pdu.parse(desk.heard[at : at + 48], b"", b"") for at in range(0, len(desk.heard), 48)]
        assert [(each.opcode, each.flags, each.stat_sn) for each in answers] == [
            (wire.LOGIN_RESPONSE, 1 << 2, 9 + number) for number in range(len(parts) - 1)
        ]
        assert not desk.target.receptions

    at_desk(act)


@pytest.mark.parametrize(
    "data",
    [
        login(text_data({"InitiatorName": "iqn.2020-01.test:host", "SessionType": "Discovery"})),
        login(text_data({**NORMAL, "TargetName": "iqn.2016-06.io.spdk:other"})),
        login(text_data({"InitiatorName": "iqn.2020-01.test:host"})),
        login(b"nonsense\0"),
        b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
        bytes([0x43, 0x87, 0, 0, 0, 0xFF, 0xFF, 0xFF]) + bytes(40),
    ],
    ids=["discovery", "unknown", "nameless", "nonsense", "http", "huge"],
)
def test_everything_else_is_answered_here(data: bytes) -> None:
    async def act(desk: Desk) -> None:
        await desk.say(data)
        await desk.until(lambda: desk.is_decided)
        assert [(each.received, each.answered) for each in desk.admitted] == [(data, 0)]
        assert not desk.elsewhere.taken

    at_desk(act)


def test_a_node_that_is_disabled_is_refused_here() -> None:
    async def act(desk: Desk) -> None:
        desk.target.node(NODE).enabled = False
        await desk.say(login(text_data(NORMAL)))
        await desk.until(lambda: desk.is_decided)
        assert desk.admitted

    at_desk(act)


def test_endless_text_is_refused_here() -> None:
    async def act(desk: Desk) -> None:
        count = 0
        while not desk.is_decided:
            await desk.say(login(b"X" * 8000, goes_on=True))
            count += 1
            heard = count * 48
            await desk.until(lambda: desk.is_decided or len(desk.heard) >= heard)  # noqa: B023
        assert 2 <= count < 20
        assert desk.admitted[0].answered == count - 1

    at_desk(act)


def test_who_goes_or_says_nothing_leaves_nothing() -> None:
    async def act(desk: Desk) -> None:
        await desk.say(b"\x43")
        desk.peer.close()
        while desk.target.receptions:
            await asyncio.sleep(0.001)
        assert not len(desk.target.clock)

    at_desk(act)
