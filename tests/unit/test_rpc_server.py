# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How requests that arrive together follow each other, are saved once and are answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import EngineError
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.dispatch import Dispatcher
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.method import Method, Order, State
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.schema import optional, required, string
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.server import RpcServer

DEADLINE = 20


class Owner:
    """What the test methods act on: a diary, and events that they wait for."""

    def __init__(self) -> None:
        self.diary: list[str] = []
        self.events: dict[str, asyncio.Event] = {}
        self.commits = 0
        self.numbers: set[int] = set()
        self.failure: Exception | None = None

    async def commit(self, numbers: Collection[int]) -> None:
        await asyncio.sleep(0)
        self.numbers.update(numbers)
        self.commits += 1
        self.diary.append("saved")
        if self.failure is not None:
            raise self.failure

    def event(self, name: str) -> asyncio.Event:
        return self.events.setdefault(name, asyncio.Event())


def note(owner: Owner, text: str) -> str:
    owner.diary.append(text)
    return text


async def wait(owner: Owner, text: str) -> str:
    owner.diary.append(f"{text} begins")
    await owner.event(text).wait()
    return note(owner, f"{text} ends")


def release(owner: Owner, text: str) -> str:
    owner.event(text).set()
    return note(owner, f"{text} released")


TEXT = {"text": required(string())}
METHODS = [
    Method("look", note, TEXT),
    Method("change", note, TEXT, mutates=True),
    Method("release", release, TEXT),
    Method("step", wait, TEXT, mutates=True),
    Method("beside", wait, TEXT, mutates=True, order=Order.CONCURRENT),
    Method("release_beside", release, TEXT, order=Order.CONCURRENT),
    Method("apart", wait, TEXT, mutates=True, order=Order.DETACHED),
    Method("big", lambda _owner, **_: ["x" * 1000] * 3000, {"text": optional(string())}),
]


class Session:
    def __init__(self, owner: Owner, server: RpcServer) -> None:
        self.owner = owner
        self.server = server

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.server.path, limit=2**26)


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Session]:
    owner = Owner()
    dispatcher = Dispatcher(owner, METHODS)
    dispatcher.state = State.RUNTIME
    server = RpcServer(str(directory / "s"), dispatcher, owner.commit)
    server.lock()
    await server.start()
    try:
        yield Session(owner, server)
    finally:
        await server.close()


def scenario(directory: Path, story: Callable[[Session], Awaitable[None]]) -> None:
    async def play() -> None:
        async with serving(directory) as session:
            await asyncio.wait_for(story(session), DEADLINE)

    asyncio.run(play())


def call(method: str, text: str) -> dict[str, Any]:
    return {"id": text, "method": method, "params": {"text": text}}


def send(writer: asyncio.StreamWriter, *values: Any) -> None:
    writer.write(b"".join(json.dumps(value).encode() for value in values))


async def ids(reader: asyncio.StreamReader, count: int) -> list[Any]:
    return [json.loads(await reader.readline())["id"] for _each in range(count)]


def test_what_one_wakeup_delivers_is_saved_once_before_it_is_answered(tmp_path: Path) -> None:
    async def story(session: Session) -> None:
        reader, writer = await session.open()
        send(writer, *(call("change", str(number)) for number in range(50)))
        assert await ids(reader, 50) == [str(number) for number in range(50)]
        assert session.owner.diary == [*map(str, range(50)), "saved"]
        writer.close()

    scenario(tmp_path, story)


def test_what_has_no_number_hides_none_of_those_that_come_along(tmp_path: Path) -> None:
    async def story(session: Session) -> None:
        numbers = iter((7, 0, 8))
        session.server.dispatcher.workers = SimpleNamespace(follow=lambda *_: next(numbers))
        reader, writer = await session.open()
        send(writer, *(call("change", text) for text in "abc"))
        await ids(reader, 3)
        assert session.owner.numbers == {7, 0, 8}
        writer.close()

    scenario(tmp_path, story)


def test_looking_saves_nothing(tmp_path: Path) -> None:
    async def story(session: Session) -> None:
        reader, writer = await session.open()
        send(writer, call("look", "a"), call("look", "b"))
        await ids(reader, 2)
        assert session.owner.commits == 0
        writer.close()

    scenario(tmp_path, story)


def test_a_step_that_takes_time_is_over_before_the_next_begins(tmp_path: Path) -> None:
    async def story(session: Session) -> None:
        reader, writer = await session.open()
        other_reader, other = await session.open()
        send(writer, call("step", "a"), call("look", "b"))
        while "a begins" not in session.owner.diary:
            await asyncio.sleep(0)
        send(other, call("release", "a"))  # another client is served meanwhile
        assert await ids(other_reader, 1) == ["a"]
        assert await ids(reader, 2) == ["a", "b"]
        assert session.owner.diary == ["a begins", "a released", "a ends", "b", "saved"]
        writer.close()
        other.close()

    scenario(tmp_path, story)


@pytest.mark.parametrize("batch", [False, True])
def test_concurrent_ones_run_side_by_side_and_the_next_waits_for_them(tmp_path: Path, batch: bool) -> None:
    async def story(session: Session) -> None:
        reader, writer = await session.open()
        calls = [call("beside", "a"), call("beside", "b"), call("release_beside", "b"), call("release_beside", "a")]
        calls.append(call("look", "c"))
        send(writer, *([calls] if batch else calls))
        if batch:
            answer = json.loads(await reader.readline())
            assert [each["id"] for each in answer] == ["a", "b", "b", "a", "c"]
        else:
            assert await ids(reader, 5) == ["a", "b", "b", "a", "c"]
        assert set(session.owner.diary[:-2]) == {
            f"{one} {did}" for one in "ab" for did in ("begins", "released", "ends")
        }
        assert session.owner.diary[-2:] == ["c", "saved"]
        writer.close()

    scenario(tmp_path, story)


@pytest.mark.parametrize("batch", [False, True])
def test_nothing_waits_for_a_detached_one(tmp_path: Path, batch: bool) -> None:
    async def story(session: Session) -> None:
        reader, writer = await session.open()
        if batch:
            send(writer, [call("apart", "a")], call("look", "b"))
        else:
            send(writer, call("apart", "a"), call("look", "b"))
        assert await ids(reader, 1) == ["b"]
        send(writer, call("release", "a"))
        assert json.loads(await reader.readline())["id"] == "a"
        answer = json.loads(await reader.readline())
        assert (answer[0] if batch else answer)["result"] == "a ends"
        assert session.owner.commits == 1
        writer.close()

    scenario(tmp_path, story)


def test_a_client_that_leaves_takes_its_detached_calls_along(tmp_path: Path) -> None:
    async def story(session: Session) -> None:
        _reader, writer = await session.open()
        send(writer, call("apart", "a"))
        while "a begins" not in session.owner.diary:
            await asyncio.sleep(0)
        writer.transport.abort()
        while len(asyncio.all_tasks()) > 2:  # this test, and the story in it
            await asyncio.sleep(0)
        assert session.owner.diary == ["a begins"]

    scenario(tmp_path, story)


def test_what_cannot_be_saved_is_told_to_those_who_changed_something(tmp_path: Path) -> None:
    async def story(session: Session) -> None:
        reader, writer = await session.open()
        session.owner.failure = EngineError("the change is live but not saved")
        send(writer, call("change", "a"), call("look", "b"))
        send(writer, {"method": "change", "params": {"text": "c"}}, call("nope", "d"))
        answers = [json.loads(await reader.readline()) for _each in range(4)]
        assert [each["id"] for each in answers] == ["a", "b", None, "d"]
        assert answers[0]["error"] == {
            "code": -5,
            "message": "Input/output error: the change is live but not saved",
        }
        assert answers[1]["result"] == "b"
        assert answers[2]["error"]["code"] == -5
        assert answers[3]["error"]["code"] == -32601
        writer.close()

    scenario(tmp_path, story)


def test_a_bug_in_saving_costs_one_connection(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(session: Session) -> None:
        reader, writer = await session.open()
        session.owner.failure = ZeroDivisionError()
        send(writer, call("change", "a"))
        assert await reader.read() == b""
        writer.close()
        session.owner.failure = None
        reader, writer = await session.open()
        send(writer, call("change", "b"))
        assert await ids(reader, 1) == ["b"]
        writer.close()

    scenario(tmp_path, story)
    assert "because of a bug" in caplog.text


def test_answers_that_nobody_reads_stop_the_reading_of_requests(tmp_path: Path) -> None:
    async def story(session: Session) -> None:
        reader, writer = await session.open()
        send(writer, *(call("big", str(number)) for number in range(40)))
        send(writer, call("look", "last"))
        _reader, other = await session.open()
        send(other, call("change", "other"))
        while "other" not in session.owner.diary:
            await asyncio.sleep(0)
        assert await ids(reader, 41) == [*map(str, range(40)), "last"]
        writer.close()
        other.close()

    scenario(tmp_path, story)
