# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages between the engine's processes: order, descriptors, size, the end."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.channel import Channel, Message
from hypothesis import given, settings
from hypothesis import strategies as st


class Pair:
    """Two ends; what arrives at the second one is kept."""

    def __init__(self) -> None:
        one, other = socket.socketpair()
        self.messages: list[Message] = []
        self.ended = asyncio.Event()
        self.sender = Channel(one, lambda _message: None, lambda: None)
        self.receiver = Channel(other, self.messages.append, self.ended.set)

    async def until(self, condition: Callable[[], object]) -> None:
        async def wait() -> None:
            while not condition():
                await asyncio.sleep(0)

        await asyncio.wait_for(wait(), 10)

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()


WORDS = st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers(), max_size=3)


@settings(max_examples=50)
@given(st.lists(st.tuples(WORDS, st.binary(max_size=100), st.integers(0, 2)), max_size=10))
def test_what_is_sent_arrives_in_order_with_its_descriptors(sent: list[tuple[dict[str, object], bytes, int]]) -> None:
    async def talk() -> None:
        pair = Pair()
        files = [os.memfd_create(str(number)) for number in range(2)]
        for number, file in enumerate(files):
            os.write(file, bytes([number]))
        for words, data, count in sent:
            pair.sender.send(words, data, files[:count])
        await pair.until(lambda: len(pair.messages) == len(sent))
        for (words, data, count), message in zip(sent, pair.messages):
            assert (message.words, message.data, len(message.descriptors)) == (words, data, count)
            assert [os.pread(each, 1, 0)[0] for each in message.descriptors] == list(range(count))
            for each in message.descriptors:
                os.close(each)
        for file in files:
            os.close(file)
        pair.close()

    asyncio.run(talk())


def test_what_the_socket_has_no_room_for_is_sent_later() -> None:
    async def talk() -> None:
        pair = Pair()
        file = os.memfd_create("one")
        for number in range(8):
            pair.sender.send({"number": number}, bytes(2**20), (file,))
        os.close(file)  # it was ours to close
        await pair.until(lambda: len(pair.messages) == 8)
        assert [message.words["number"] for message in pair.messages] == list(range(8))
        for message in pair.messages:
            assert len(message.data) == 2**20
            os.close(message.descriptors[0])
        pair.close()

    asyncio.run(talk())


def test_what_was_sent_arrives_before_the_end() -> None:
    """A worker that is killed said what it had to say."""

    async def talk() -> None:
        pair = Pair()
        pair.sender.send({"last": "words"})
        pair.sender.close()
        await asyncio.wait_for(pair.ended.wait(), 10)
        assert [message.words for message in pair.messages] == [{"last": "words"}]
        pair.sender.send({"nobody": "hears"})
        pair.close()

    asyncio.run(talk())


def test_who_has_no_descriptors_left_gets_messages_without_theirs(caplog: pytest.LogCaptureFixture) -> None:
    async def talk() -> None:
        pair = Pair()
        file = os.memfd_create("file")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        pair.sender.send({"number": 1}, b"", [file])
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # those in use stay
        try:
            await pair.until(lambda: pair.messages)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        pair.sender.send({"number": 2}, b"", [file])
        pair.sender.send({"number": 3})
        await pair.until(lambda: len(pair.messages) == 3)
        assert [len(message.descriptors) for message in pair.messages] == [0, 1, 0]
        for each in (file, *pair.messages[1].descriptors):
            os.close(each)
        pair.close()

    asyncio.run(talk())
    assert "too many open files" in caplog.text


def test_a_message_that_meets_a_bug_does_not_harm_the_next(caplog: pytest.LogCaptureFixture) -> None:
    async def talk() -> None:
        one, other = socket.socketpair()
        heard: list[int] = []

        def listen(message: Message) -> None:
            heard.append(message.words["number"])
            if message.words["number"] == 1:
                raise RuntimeError("bug")

        ends = [Channel(one, listen, lambda: None), Channel(other, listen, lambda: None)]
        for number in range(3):
            ends[0].send({"number": number})
        while len(heard) < 3:
            await asyncio.sleep(0)
        for end in ends:
            end.close()

    asyncio.run(asyncio.wait_for(talk(), 10))
    assert "because of a bug" in caplog.text


def test_whoever_must_not_lose_a_message_can_wait_until_it_is_out() -> None:
    async def talk() -> None:
        pair = Pair()
        pair.sender.send({"number": 1})
        assert pair.sender.sent() is None  # a process that is killed now has told it
        pair.sender.send({"number": 2}, bytes(2**22))
        waits = [pair.sender.sent(), pair.sender.sent()]
        await asyncio.wait_for(asyncio.gather(*filter(None, waits)), 10)
        assert pair.sender.sent() is None
        await pair.until(lambda: len(pair.messages) == 2)
        pair.close()

    asyncio.run(talk())


def test_nobody_waits_for_an_end_that_is_gone() -> None:
    async def talk() -> None:
        one, other = socket.socketpair()
        sender = Channel(one, lambda _message: None, lambda: None)
        sender.send({}, bytes(2**22))
        out = sender.sent()
        assert out is not None
        other.close()
        await asyncio.wait_for(asyncio.ensure_future(out), 10)

    asyncio.run(talk())


class Full(socket.socket):
    """The kernel has no memory for what is sent."""

    is_full = False

    def sendmsg(self, *arguments: Any) -> int:
        if self.is_full:
            raise OSError(errno.ENOBUFS, "no buffer space available")
        return super().sendmsg(*arguments)


def test_who_cannot_send_any_more_ends(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever waits must not wait for ever, nor believe that it was told."""

    async def talk() -> None:
        one, other = socket.socketpair()
        ends = [asyncio.Event(), asyncio.Event()]
        full = Full(fileno=one.detach())
        sender = Channel(full, lambda _message: None, ends[0].set)
        receiver = Channel(other, lambda _message: None, ends[1].set)
        sender.send({}, bytes(2**22))
        waits = [sender.sent(), sender.sent()]
        assert all(waits)
        full.is_full = True
        for each in [*waits, None]:
            with pytest.raises(OSError, match="no buffer space"):
                await (each or sender.sent() or asyncio.sleep(0))
        for end in ends:
            await end.wait()
        assert sender.closed
        sender.send({"nobody": "hears"})
        receiver.close()

    asyncio.run(asyncio.wait_for(talk(), 10))
    assert "cannot talk to each other" in caplog.text
