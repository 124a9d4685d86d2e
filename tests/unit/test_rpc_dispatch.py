# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON-RPC envelopes, states and errors, as SPDK answers them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import Exists, NoDevice, NotFound
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.dispatch import Dispatcher, Memory, Reply
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.framing import decode
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.method import (
    DECODE_FAILED,
    Errors,
    Method,
    Order,
    RpcError,
    State,
    Subject,
    worded,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.schema import optional, required, string


def echo(owner: dict[str, Any], text: str) -> str:
    owner["text"] = text
    return text


async def slow_echo(owner: dict[str, Any], text: str) -> str:
    await asyncio.sleep(0)
    return echo(owner, text)


def fail(owner: dict[str, Any]) -> None:
    raise owner["error"]


async def fail_later(owner: dict[str, Any]) -> None:
    await asyncio.sleep(0)
    raise owner["error"]


TOO_EARLY = "Method may only be called after framework is initialized using framework_start_init RPC."
TOO_LATE = (
    "Method may only be called before framework is initialized. Use --wait-for-rpc command line parameter and then "
    "issue this RPC before the framework_start_init RPC."
)
TEXT = {"text": required(string())}
METHODS = [
    Method("echo", echo, TEXT, mutates=True),
    Method("slow_echo", slow_echo, TEXT, mutates=True, order=Order.CONCURRENT),
    Method("look", lambda _owner, name: name, {"name": optional(string(), "all")}, refusal=DECODE_FAILED),
    Method("nothing", lambda _owner: [], state=State.BOTH),
    Method("early", lambda _owner: True, state=State.STARTUP),
    Method("fail", fail, mutates=True),
    Method("fail_errno", fail, errors=Errors.AS_ERRNO),
    Method("fail_later", fail_later, errors=Errors.AS_ERRNO, mutates=True),
    Method("make", lambda _owner, text: text, TEXT, mutates=True, subject=Subject("thing", "text")),
    Method("unmake", echo, TEXT, mutates=True, errors=Errors.AS_ERRNO, subject=Subject("thing", "text", removes=True)),
]


class Things(Memory):
    """Remembers one thing that is not live."""

    def __init__(self) -> None:
        self.remembered = {("thing", "lost")}
        self.seen: list[Any] = []

    def made(self, kind: str, key: Any) -> None:
        self.seen.append((kind, key))

    def forget(self, kind: str, key: Any) -> bool:
        found = (kind, key) in self.remembered
        self.remembered.discard((kind, key))
        return found

    def hint(self, kind: str, key: Any) -> str:
        return " It was lost." if (kind, key) in self.remembered else ""


@pytest.fixture
def owner() -> dict[str, Any]:
    return {}


@pytest.fixture
def dispatcher(owner: dict[str, Any]) -> Dispatcher:
    dispatcher = Dispatcher(owner, METHODS, Things())
    dispatcher.state = State.RUNTIME
    return dispatcher


def ask(dispatcher: Dispatcher, request: Any) -> Reply:
    async def answer() -> Reply:
        reply = dispatcher.begin(request)
        return await reply if inspect.isawaitable(reply) else reply

    return asyncio.run(answer())


def error_of(reply: Reply) -> tuple[Any, int, str]:
    assert reply.answer is not None
    assert list(reply.answer) == ["jsonrpc", "id", "error"]
    return reply.answer["id"], reply.answer["error"]["code"], reply.answer["error"]["message"]


@pytest.mark.parametrize("identity", [1, 0, -7, 1.5, "abc", ""])
@pytest.mark.parametrize("method", ["echo", "slow_echo"])
def test_a_call_is_answered_with_its_id_and_result(dispatcher: Dispatcher, identity: Any, method: str) -> None:
    reply = ask(dispatcher, {"jsonrpc": "2.0", "id": identity, "method": method, "params": {"text": "x"}})
    assert reply == Reply({"jsonrpc": "2.0", "id": identity, "result": "x"}, changed=True)
    assert list(reply.answer or {}) == ["jsonrpc", "id", "result"]


@pytest.mark.parametrize("identity", [{}, {"id": None}])
def test_a_notification_is_carried_out_silently(
    dispatcher: Dispatcher, owner: dict[str, Any], identity: dict[str, Any]
) -> None:
    reply = ask(dispatcher, {"method": "echo", "params": {"text": "x"}, **identity})
    assert reply == Reply(None, changed=True)
    assert owner == {"text": "x"}


def test_a_notification_that_fails_is_answered_without_id(dispatcher: Dispatcher) -> None:
    assert error_of(ask(dispatcher, {"method": "nope"})) == (None, -32601, "Method not found: nope")


@pytest.mark.parametrize(
    ("request_text", "identity"),
    [
        (b'"hello"', None),
        (b"5", None),
        (b"null", None),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "nothing"}', 1),
        (b'{"jsonrpc": 2.0, "id": 1, "method": "nothing"}', 1),
        (b'{"id": 1}', 1),
        (b'{"id": 1, "method": null}', 1),
        (b'{"id": 1, "method": 5}', 1),
        (b'{"id": true, "method": "nothing"}', None),
        (b'{"id": [1], "method": "nothing"}', None),
        (b'{"id": 1, "method": "nothing", "params": 5}', 1),
        (b'{"id": 1, "method": "nothing", "extra": 5}', 1),
        (b'{"id": 1, "method": "nothing", "method": "echo"}', 1),
    ],
)
def test_what_is_no_request_is_refused(dispatcher: Dispatcher, request_text: bytes, identity: Any) -> None:
    answered, code, message = error_of(ask(dispatcher, decode(request_text)))
    assert (answered, code) == (identity, -32600)
    assert message.startswith("Invalid request: ")


@pytest.mark.parametrize("params", [{}, {"x": 1}, []])
def test_a_method_without_parameters_takes_none_at_all(dispatcher: Dispatcher, params: Any) -> None:
    expected = (1, -32602, "nothing requires no parameters")
    assert error_of(ask(dispatcher, {"id": 1, "method": "nothing", "params": params})) == expected


@pytest.mark.parametrize("params", [{}, {"params": None}, {"params": {}}])
def test_parameters_that_are_all_optional_may_be_left_out(dispatcher: Dispatcher, params: dict[str, Any]) -> None:
    assert ask(dispatcher, {"id": 1, "method": "look", **params}).answer == {"jsonrpc": "2.0", "id": 1, "result": "all"}


def test_parameters_that_do_not_decode_are_answered_with_the_rows_own_code(dispatcher: Dispatcher) -> None:
    assert error_of(ask(dispatcher, {"id": 1, "method": "echo", "params": {"text": 5}}))[1:] == (
        -32602,
        "Invalid parameters: text: a string is wanted, not a number",
    )
    answer = error_of(ask(dispatcher, {"id": 1, "method": "look", "params": ["all"]}))
    assert answer[1:] == (-32603, "spdk_json_decode_object failed: params: an object is wanted, not an array")


def test_methods_know_their_state(dispatcher: Dispatcher) -> None:
    assert error_of(ask(dispatcher, {"id": 1, "method": "early"})) == (1, -1, TOO_LATE)
    dispatcher.state = State.STARTUP
    assert error_of(ask(dispatcher, {"id": 1, "method": "look"})) == (1, -1, TOO_EARLY)
    assert ask(dispatcher, {"id": 1, "method": "early"}).answer is not None
    assert dispatcher.called == {"early"}


def test_errors_of_the_engine_become_spdks(dispatcher: Dispatcher, owner: dict[str, Any]) -> None:
    owner["error"] = Exists("bdev M9 exists already")
    assert error_of(ask(dispatcher, {"id": 1, "method": "fail"})) == (
        1,
        -32602,
        "Invalid parameters: bdev M9 exists already",
    )
    for method in ("fail_errno", "fail_later"):
        reply = ask(dispatcher, {"id": 1, "method": method})
        assert error_of(reply) == (1, -17, "File exists: bdev M9 exists already")
        assert not reply.changed


def test_the_reason_is_not_said_twice(dispatcher: Dispatcher, owner: dict[str, Any]) -> None:
    owner["error"] = NotFound.from_os(FileNotFoundError(2, "No such file or directory"), "bdev A1: /nonexistent")
    answer = error_of(ask(dispatcher, {"id": 1, "method": "fail_errno"}))
    assert answer[1:] == (-2, "No such file or directory: bdev A1: /nonexistent")


@pytest.mark.parametrize("method", ["fail", "fail_later"])
def test_a_bug_is_logged_and_answered_and_saved_over(
    dispatcher: Dispatcher, owner: dict[str, Any], method: str, caplog: pytest.LogCaptureFixture
) -> None:
    owner["error"] = ZeroDivisionError("oops")
    with caplog.at_level(logging.ERROR):
        reply = ask(dispatcher, {"id": 1, "method": method})
    assert error_of(reply)[1] == -32603
    assert "ZeroDivisionError" in error_of(reply)[2]
    assert reply.changed
    assert "Traceback" in caplog.text


def test_an_operating_system_error_is_not_taken_for_a_bug(dispatcher: Dispatcher, owner: dict[str, Any]) -> None:
    owner["error"] = OSError(28, "No space left on device")
    assert error_of(ask(dispatcher, {"id": 1, "method": "fail_errno"}))[1:] == (
        -28,
        "No space left on device: fail_errno",
    )


def test_removing_what_is_only_remembered_forgets_it(dispatcher: Dispatcher) -> None:
    def missing(_owner: dict[str, Any], text: str) -> None:
        raise NoDevice(f"thing {text} does not exist")

    row = dispatcher.methods["unmake"]
    dispatcher.methods["unmake"] = row._replace(handler=missing)
    request = {"id": 1, "method": "unmake", "params": {"text": "lost"}}
    assert ask(dispatcher, request) == Reply({"jsonrpc": "2.0", "id": 1, "result": True}, changed=True)
    assert error_of(ask(dispatcher, request))[1:] == (-19, "No such device: thing lost does not exist")


def test_a_call_from_inside_may_act_in_another_state(dispatcher: Dispatcher) -> None:
    async def calls() -> None:
        dispatcher.state = State.STARTUP
        assert await dispatcher.call("slow_echo", {"text": "x"}, State.RUNTIME) == "x"
        with pytest.raises(RpcError, match="after framework is initialized"):
            await dispatcher.call("slow_echo", {"text": "x"})

    asyncio.run(calls())


def test_what_is_made_is_told_to_the_memory(owner: dict[str, Any]) -> None:
    memory = Things()
    dispatcher = Dispatcher(owner, METHODS, memory)
    dispatcher.state = State.RUNTIME
    ask(dispatcher, {"id": 1, "method": "make", "params": {"text": "new"}})
    assert memory.seen == [("thing", "new")]


def test_a_part_is_told_to_the_memory_with_the_object_it_belongs_to(owner: dict[str, Any]) -> None:
    class Parts(Memory):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def made(self, kind: str, key: Any, *part: Any) -> None:
            self.seen.append(("made", kind, key, *part))

        def forget(self, kind: str, key: Any, *part: Any) -> bool:
            self.seen.append(("forget", kind, key, *part))
            return False

    def paint(owner: dict[str, Any], text: str, side: str | None) -> None:
        owner[text] = side

    label = Subject("thing", "text", part="label", which="side")
    fields = {**TEXT, "side": optional(string())}
    memory = Parts()
    dispatcher = Dispatcher(
        owner,
        [
            *METHODS,
            Method("label", paint, fields, subject=label),
            Method("unlabel", paint, fields, subject=label._replace(removes=True)),
        ],
        memory,
    )
    dispatcher.state = State.RUNTIME
    for method, params in (
        ("label", {"text": "box", "side": "front"}),
        ("unlabel", {"text": "box", "side": "front"}),
        ("label", {"text": "box"}),
        ("unmake", {"text": "box"}),
    ):
        ask(dispatcher, {"id": 1, "method": method, "params": params})
    assert memory.seen == [
        ("made", "thing", "box", "label", "front"),
        ("forget", "thing", "box", "label", "front"),
        ("made", "thing", "box", "label", None),
        ("forget", "thing", "box"),
    ]


def test_a_configuration_supersedes_nothing_of_what_is_remembered(owner: dict[str, Any]) -> None:
    memory = Things()
    dispatcher = Dispatcher(owner, METHODS, memory)
    assert asyncio.run(dispatcher.call("make", {"text": "new"}, State.RUNTIME)) == "new"
    assert memory.seen == []


def test_a_call_of_a_configuration_that_fails_does_not_mention_that_configuration(owner: dict[str, Any]) -> None:
    def missing(_owner: dict[str, Any], text: str) -> None:
        raise NoDevice(f"thing {text} does not exist")

    row = Method("make", missing, TEXT, errors=Errors.AS_ERRNO, subject=Subject("thing", "text"))
    dispatcher = Dispatcher(owner, [row], Things())
    with pytest.raises(RpcError) as raised:
        asyncio.run(dispatcher.call("make", {"text": "lost"}, State.RUNTIME))
    assert str(raised.value) == "No such device: thing lost does not exist"


def test_an_error_may_have_words_of_its_own(owner: dict[str, Any]) -> None:
    def refuse(_owner: dict[str, Any], text: str) -> None:
        with worded(f"Could not paint {text}, {{reason}}"):
            raise Exists("thing x has a colour already")

    dispatcher = Dispatcher(owner, [Method("paint", refuse, TEXT)])
    dispatcher.state = State.RUNTIME
    answer = ask(dispatcher, {"id": 1, "method": "paint", "params": {"text": "{x}"}})
    assert error_of(answer)[1:] == (-32602, "Could not paint {x}, File exists: thing x has a colour already")
