# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every parameter of every method, wrong in every way its table knows: SPDK's code, nothing changed, nobody harmed.

The requests are generated from the tables of the methods. What they are checked against is not: a value of another JSON
type, out of range, too long, with NUL or without meaning in Unicode is refused whatever the table says.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.method import Method, State
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.methods import all_methods
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.schema import (
    Array,
    Choice,
    Decoder,
    Fields,
    Integer,
    Mismatch,
    Pair,
    String,
    anything,
    boolean,
)
from engine_process import DEADLINE, Engine, Launch, RpcError

METHODS = {method.name: method for method in all_methods()}
WITH_PARAMETERS = sorted(name for name, method in METHODS.items() if method.params)
WITHOUT = sorted(name for name, method in METHODS.items() if method.params is None)

OF_EACH_TYPE: dict[type, Any] = {
    dict: {"a": 1},
    list: [[]],
    str: "word",
    int: 7,
    float: 1.5,
    bool: True,
    type(None): None,
}
HUGE = (2**63, 2**64, 10**40, -1 - 2**63, 1e300)


def kind_of(decoder: Decoder) -> type:
    """The JSON type that a parameter is meant to have."""
    kinds: dict[type, type] = {Integer: int, String: str, Choice: str, Array: list, Pair: dict, Fields: dict}
    if decoder in (boolean, anything):
        return bool if decoder is boolean else dict
    return kinds[type(decoder)]


def sample(decoder: Decoder) -> Any:
    """A value that a table takes."""
    if isinstance(decoder, Integer):
        return max(decoder.low, min(1, decoder.high))
    if isinstance(decoder, String):
        return "x" * max(decoder.least, 1)
    if isinstance(decoder, Choice):
        return decoder.values[0]
    if isinstance(decoder, Array):
        return [sample(decoder.item)] * max(decoder.least, 1)
    if isinstance(decoder, (Pair, Fields)):
        return {name: sample(field.decoder) for name, field in decoder.table.items() if field.required}
    return True if decoder is boolean else {}


def wrong(decoder: Decoder) -> Iterator[Any]:
    """Values that are to be refused: of every other type, and outside every bound."""
    kind = kind_of(decoder)
    yield from (value for each, value in OF_EACH_TYPE.items() if each is not kind)
    if isinstance(decoder, Integer):
        yield from (decoder.low - 1, decoder.high + 1, str(decoder.low), decoder.low + 0.5)
        yield from (value for value in HUGE if not decoder.low <= value <= decoder.high)
    elif isinstance(decoder, (String, Choice)):
        yield from ("nul\0", "\ud800", "x" * 100_000)
        if isinstance(decoder, Choice):
            yield from ("", decoder.values[0] + " ")
        elif decoder.least:
            yield ""
    elif isinstance(decoder, Array):
        good = sample(decoder.item)
        yield [good] * (decoder.limit + 1)
        if decoder.least:
            yield []
        yield from ([value] for value in wrong(decoder.item))
    elif isinstance(decoder, (Pair, Fields)):
        whole = sample(decoder)
        yield {**whole, "surplus": 1}
        for name, field in decoder.table.items():
            yield from ({**whole, name: value} for value in wrong(field.decoder))
            if field.required:
                yield {key: value for key, value in whole.items() if key != name}


def wrong_params(method: Method) -> Iterator[Any]:
    """Parameters with one thing wrong in them."""
    assert method.params is not None
    good = {name: sample(field.decoder) for name, field in method.params.items() if field.required}
    yield {**good, "surplus": 1}
    yield [good]
    for name, field in method.params.items():
        yield from ({**good, name: value} for value in wrong(field.decoder))
        if field.required:
            yield {key: value for key, value in good.items() if key != name}


def test_the_samples_are_what_the_tables_take() -> None:
    for method in METHODS.values():
        for name, field in (method.params or {}).items():
            try:
                field.decoder(sample(field.decoder), name)
            except Mismatch as mismatch:
                pytest.fail(f"{method.name}: {mismatch}")


# -- asked of an engine


@pytest.fixture(scope="module")
def engine(launch_shared: Launch) -> Engine:
    """With one object of each kind."""
    engine = launch_shared(state=True)
    engine.initiator_group()
    engine.portal_group()
    engine.rpc("iscsi_create_auth_group", tag=1, secrets=[{"user": "u", "secret": "s"}])
    engine.node("disk0", engine.malloc("M0", 1))
    return engine


@pytest.fixture
def unchanged(engine: Engine) -> Iterator[Engine]:
    """After the test, the live and the saved configuration are what they were, and nothing in the log is a bug."""
    before = whole(engine)
    yield engine
    assert whole(engine) == before
    assert "Traceback" not in engine.words()


def whole(engine: Engine) -> dict[str, Any]:
    live = {name: engine.rpc("framework_get_config", name=name) for name in ("sock", "iobuf", "bdev", "iscsi")}
    return {**live, "saved": (engine.state_dir / "config.json").read_text(), "log": engine.rpc("log_get_flags")}


def ask(engine: Engine, requests: list[bytes]) -> list[dict[str, Any]]:
    """The answers to requests that are all under way at once."""
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as stream:
        connection.settimeout(DEADLINE)
        connection.connect(str(engine.socket))
        answers = []
        for first in range(0, len(requests), 20):
            some = requests[first : first + 20]
            connection.sendall(b"".join(some))
            answers += [json.loads(stream.readline()) for _each in some]
    return answers


def request(method: str, params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_wrong_parameters(unchanged: Engine, name: str) -> None:
    method = METHODS[name]
    refused: tuple[int, str] = method.refusal
    if method.state is State.STARTUP:
        refused = -1, "Method may only be called before framework is initialized."
    wanted = list(wrong_params(method))
    answers = ask(unchanged, [request(name, params) for params in wanted])
    for params, answer in zip(wanted, answers):
        error = answer.get("error", {"code": None, "message": "accepted"})
        said = error["code"], error["message"][: len(refused[1])]
        assert said == refused, f"{name} {json.dumps(params)[:300]}: {error['message'][:300]}"
        assert len(error["message"]) < 2000


@pytest.mark.parametrize("name", WITHOUT)
def test_parameters_of_a_method_that_has_none(unchanged: Engine, name: str) -> None:
    method = METHODS[name]
    code = -1 if method.state is State.STARTUP else -32602
    surplus: list[Any] = [{}, [], {"name": "x"}]
    for answer in ask(unchanged, [request(name, params) for params in surplus]):
        assert answer["error"]["code"] == code


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_a_parameter_given_twice_or_in_no_alphabet(unchanged: Engine, name: str) -> None:
    method = METHODS[name]
    for key, field in (method.params or {}).items():
        value = json.dumps(sample(field.decoder))
        twice = b'{"jsonrpc":"2.0","id":1,"method":"%s","params":{"%s":%s,"%s":%s}}' % tuple(
            part.encode() for part in (name, key, value, key, value)
        )
        assert ask(unchanged, [twice])[0]["error"]["code"] in (method.refusal.code, -1)
        garbled = b'{"jsonrpc":"2.0","id":1,"method":"%s","params":{"%s":"\xff\xfe"}}' % (name.encode(), key.encode())
        assert ask(unchanged, [garbled])[0]["error"]["code"] == -32700


def test_spdks_words_for_parameters_that_do_not_decode(unchanged: Engine) -> None:
    """Of the methods that other tests know from a recording."""
    for name, code in (
        ("bdev_malloc_create", -32603),
        ("bdev_get_bdevs", -32603),
        ("iscsi_create_portal_group", -32602),
        ("iscsi_delete_target_node", -32602),
        ("framework_get_config", -32602),
    ):
        with pytest.raises(RpcError) as refusal:
            unchanged.rpc(name, surplus=1)
        assert refusal.value.code == code
