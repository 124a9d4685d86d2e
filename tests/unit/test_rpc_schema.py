# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameter tables: what SPDK's decoders take, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc import schema
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.framing import decode
from hypothesis import given
from hypothesis import strategies as st

PORTAL = schema.pair(
    {"host": schema.required(schema.string(16)), "port": schema.required(schema.string())}, ("host", "port")
)
TABLE: schema.Table = {
    "tag": schema.required(schema.integer(0, 2**31 - 1)),
    "portals": schema.required(schema.array(PORTAL, 3, least=1)),
    "private": schema.optional(schema.boolean, False),
    "mode": schema.optional(schema.choice("all", "none")),
}
GOOD: dict[str, Any] = {"tag": 1, "portals": [{"host": "::1", "port": "3260"}]}


def test_a_fitting_object_becomes_the_handlers_arguments() -> None:
    assert schema.decode_object(TABLE, {**GOOD, "mode": "all"}) == {
        "tag": 1,
        "portals": [("::1", "3260")],
        "private": False,
        "mode": "all",
    }


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"tag": "1"}, "tag: a whole number is wanted, not a string"),
        ({"tag": True}, "tag: a whole number is wanted, not a boolean"),
        ({"tag": None}, "tag: a whole number is wanted, not null"),
        ({"tag": 1.5}, "tag"),
        ({"tag": -1}, "tag: -1 is not between"),
        ({"tag": 2**31}, "tag"),
        ({"tag": 10**40}, "tag"),
        ({"portals": {}}, "portals: an array is wanted, not an object"),
        ({"portals": []}, "portals: 0 items"),
        ({"portals": GOOD["portals"] * 4}, "portals: 4 items; 1 to 3"),
        ({"portals": ["x"]}, r"portals\[0\]: an object is wanted"),
        ({"portals": [{"host": "::1"}]}, r"portals\[0\]\.port is missing"),
        ({"portals": [{"host": "::1", "port": 3260}]}, r"portals\[0\]\.port: a string is wanted, not a number"),
        ({"portals": [{"host": "::1", "port": "1", "x": 1}]}, r"portals\[0\]\.'x' is not a parameter"),
        ({"portals": [{"host": "a" * 17, "port": "1"}]}, r"portals\[0\]\.host: 17 bytes"),
        ({"portals": [{"host": "\u00e9" * 9, "port": "1"}]}, r"portals\[0\]\.host: 18 bytes"),
        ({"portals": [{"host": "a\0b", "port": "1"}]}, "NUL"),
        ({"portals": [{"host": "\ud800", "port": "1"}]}, "not valid Unicode"),
        ({"private": 0}, "private: true or false is wanted, not a number"),
        ({"private": "true"}, "private"),
        ({"mode": "ALL"}, "mode: 'ALL' is none of all, none"),
        ({"bogus": 1}, "'bogus' is not a parameter; there are: tag, portals, private, mode"),
        ({"x" * 10000: 1}, "is not a parameter"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(change: dict[str, Any], place: str) -> None:
    with pytest.raises(schema.Mismatch, match=place) as refusal:
        schema.decode_object(TABLE, {**GOOD, **change})
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize("name", ["tag", "portals"])
def test_a_missing_key_is_named(name: str) -> None:
    with pytest.raises(schema.Mismatch, match=f"{name} is missing"):
        schema.decode_object(TABLE, {key: value for key, value in GOOD.items() if key != name})


@pytest.mark.parametrize("value", [None, 1, "x", [], [GOOD]])
def test_only_an_object_is_an_object(value: Any) -> None:
    with pytest.raises(schema.Mismatch, match="params: an object is wanted"):
        schema.decode_object(TABLE, value)


def test_a_repeated_key_is_refused_at_any_depth() -> None:
    with pytest.raises(schema.Mismatch, match=r"portals\[0\]\.host is given more than once"):
        schema.decode_object(TABLE, decode(b'{"tag": 1, "portals": [{"host": "a", "port": "1", "host": "b"}]}'))


@given(st.integers(0, 2**31 - 1))
def test_whole_numbers_may_be_written_as_floats(value: int) -> None:
    text = f'{{"tag": {value}.0, "portals": [{{"host": "h", "port": "1"}}]}}'
    assert schema.decode_object(TABLE, decode(text.encode()))["tag"] == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@given(JSON | st.fixed_dictionaries({"tag": JSON, "portals": JSON}, optional={"private": JSON, "mode": JSON}))
def test_any_value_either_decodes_or_is_a_mismatch(value: Any) -> None:
    try:
        decoded = schema.decode_object(TABLE, value)
    except schema.Mismatch:
        return
    assert isinstance(decoded["tag"], int)
    assert isinstance(decoded["private"], bool)
