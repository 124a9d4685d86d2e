# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cutting a stream of bare JSON values: whatever the pieces, the values are the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.framing import (
    MAX_DEPTH,
    NotJson,
    Repeated,
    Splitter,
    decode,
)
from hypothesis import given
from hypothesis import strategies as st

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["\\", '"', '\\"', "{", "}", "[", "]", "}{", ',"', "\u2028", "\U0001f4be"]
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS | TEXT, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)
)
CONTAINERS = st.lists(VALUES, max_size=4) | st.dictionaries(TEXT, VALUES, max_size=4)
INDENTS = st.sampled_from([None, 1, 2])


def written(value: Any, indent: int | None, ascii_only: bool) -> bytes:
    return json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[low:high] for low, high in zip(edges, edges[1:], strict=False)]


def values_of(parts: list[bytes]) -> list[Any]:
    splitter = Splitter()
    found = [decode(text) for part in parts for text in splitter.feed(part)]
    assert splitter.error is None
    assert not splitter.unfinished
    return found


@given(st.lists(CONTAINERS, max_size=5), INDENTS, st.booleans(), st.lists(st.integers(0, 2000), max_size=30))
def test_bare_concatenated_containers_survive_any_cutting(
    values: list[Any], indent: int | None, ascii_only: bool, cuts: list[int]
) -> None:
    stream = b"".join(written(value, indent, ascii_only) for value in values)
    assert values_of(pieces(stream, cuts)) == values


@given(st.lists(VALUES, max_size=6), st.sampled_from([b" ", b"\n", b"\r\n\t "]), st.booleans())
def test_values_of_all_kinds_come_byte_by_byte(values: list[Any], gap: bytes, ascii_only: bool) -> None:
    stream = b"".join(written(value, None, ascii_only) + gap for value in values)
    assert values_of([stream[at : at + 1] for at in range(len(stream))]) == values


@given(st.lists(CONTAINERS, min_size=1, max_size=3), st.integers(1, 400))
def test_half_a_value_is_unfinished(values: list[Any], cut: int) -> None:
    stream = b"".join(written(value, None, True) for value in values)
    last = written(values[-1], None, True)
    splitter = Splitter()
    splitter.feed(stream[: len(stream) - min(cut, len(last) - 1)])
    assert splitter.unfinished


@pytest.mark.parametrize("stream", [b"}", b"]", b",", b"GET / HTTP/1.1", b"\xef\xbb\xbf{}", b"nope", b"\x00"])
def test_what_begins_no_value_is_an_error(stream: bytes) -> None:
    splitter = Splitter()
    found = splitter.feed(stream + b" ")
    if splitter.error is None:
        with pytest.raises(NotJson):
            decode(found[0])


def test_values_before_an_error_are_delivered_and_nothing_after_it() -> None:
    splitter = Splitter()
    assert splitter.feed(b'{"a":1}{"b":2}?{"c":3}') == [b'{"a":1}', b'{"b":2}']
    assert splitter.error is not None
    assert splitter.feed(b'{"d":4}') == []


def test_a_request_beyond_the_limit_is_an_error_and_is_not_kept() -> None:
    splitter = Splitter(limit=1000)
    assert splitter.feed(b'["' + b"x" * 990) == []
    assert splitter.unfinished
    splitter.feed(b"x" * 100)
    assert "1000" in (splitter.error or "")


def test_nesting_is_limited() -> None:
    splitter = Splitter()
    assert len(splitter.feed(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)) == 1
    splitter.feed(b"[" * (MAX_DEPTH + 1))
    assert splitter.error is not None


def test_a_long_request_in_small_pieces_is_scanned_once() -> None:
    """Every byte is looked at a bounded number of times: the position never goes back."""
    splitter = Splitter()
    splitter.feed(b'{"a":"')
    seen = 0
    for _each in range(2000):
        splitter.feed(b"abc\\n")
        assert splitter._scanned >= seen
        seen = splitter._scanned
    assert seen == len(splitter._buffer) == 6 + 2000 * 5


@given(st.text(alphabet='"\\{}[]:,01289+-.truefalsn \u00e9', max_size=40).filter(lambda text: "e" not in text))
def test_decode_agrees_with_a_strict_parser(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(NotJson):
            decode(text.encode())
    else:
        assert decode(text.encode()) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a": nope}', "line 1 column 7"),
        (b'{"a": NaN}', "NaN"),
        (b"[1e999]", "out of range"),
        (b"[" + b"9" * 5000 + b"]", "5000 digits"),
        (b'["\xff"]', "UTF-8"),
        (b'["a\nb"]', "control character"),
        (b'"a".', "Extra data"),
        (b"[" * 100000, "nested"),
    ],
)
def test_what_is_not_json_is_told(text: bytes, reason: str) -> None:
    with pytest.raises(NotJson, match=reason):
        decode(text)


def test_a_repeated_key_is_kept_for_the_schema_to_refuse() -> None:
    value = decode(b'{"params": {"tag": 1, "x": 2, "tag": 3}}')
    assert isinstance(value["params"], Repeated)
    assert value["params"].key == "tag"
    assert not isinstance(value, Repeated)
