# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SPDK's configuration file: read with comments and batches, written a call a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.config import (
    BadConfig,
    Entry,
    Section,
    parse,
    render,
)
from hypothesis import given
from hypothesis import strategies as st

RECORDED = Path(__file__).parent / "exchanges" / "spdk-exchanges.json"

PARAMS: st.SearchStrategy[Any] = st.none() | st.dictionaries(
    st.text(max_size=5), st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5), max_size=3
)
ENTRIES = st.builds(Entry, st.text(max_size=8), PARAMS)
SECTIONS = st.builds(Section, st.text(max_size=8), st.none() | st.lists(ENTRIES, max_size=4))


@given(st.lists(SECTIONS, max_size=4))
def test_what_is_written_is_read_again(sections: list[Section]) -> None:
    text = "".join(render(sections)).encode()
    assert parse(text) == sections
    assert parse(text, comments=True) == sections


def test_a_configuration_that_spdk_saved_is_read() -> None:
    saved = json.loads(RECORDED.read_text())["save_config"]
    sections = parse(json.dumps(saved, indent=2).encode())
    assert [section.subsystem for section in sections] == [each["subsystem"] for each in saved["subsystems"]]
    assert json.loads("".join(render(sections))) == saved


def test_a_call_is_a_line() -> None:
    calls = [Entry("a", {"x": 1}), Entry("b")]
    lines = "".join(render([Section("s", calls)])).splitlines()
    assert '  {"method": "a", "params": {"x": 1}},' in lines
    assert '  {"method": "b"}' in lines


def test_comments_and_batches_as_in_spdk() -> None:
    text = b"""// made by hand
    {"subsystems": [ /* one */ {"subsystem": "bdev", "config": [
        {"method": "a", "params": {"path": "/x//y/*z*/\\"//"}}, // kept inside a string
        [{"method": "b"}, {"method": "c"}] /* a batch
        over two lines */
    ]}], "anything": "else"}"""
    expected = [Entry("a", {"path": '/x//y/*z*/"//'}), Entry("b"), Entry("c")]
    assert parse(text, comments=True) == [Section("bdev", expected)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"[]", '"subsystems"'),
        (b"{}", '"subsystems"'),
        (b'{"subsystems": {}}', '"subsystems"'),
        (b'{"subsystems": [1]}', r"subsystems\[0\]"),
        (b'{"subsystems": [{"subsystem": "bdev", "config": {}}]}', "bdev"),
        (b'{"subsystems": [{"subsystem": "bdev", "config": [{"params": {}}]}]}', r"bdev\[0\] is not a call"),
        (b'{"subsystems": [{"subsystem": "bdev", "config": [{"method": "a", "params": [1]}]}]}', "is not a call"),
        (b'{"subsystems": [{"subsystem": "bdev", "config": [{"method": "a", "parms": {}}]}]}', "is not a call"),
        (b'{"subsystems": [{"subsystem": "bdev", "config": [{"method": "a", "method": "b"}]}]}', "more than once"),
        (b'{"subsystems": [] // no', "cut short or not JSON"),
        (b"\x00" * 100, "cut short or not JSON"),
    ],
)
def test_what_is_no_configuration_is_told(text: bytes, reason: str) -> None:
    with pytest.raises(BadConfig, match=reason):
        parse(text)


@given(st.lists(SECTIONS, min_size=1, max_size=3), st.data())
def test_a_file_cut_short_is_never_taken_for_a_whole_one(sections: list[Section], data: st.DataObject) -> None:
    text = "".join(render(sections)).rstrip().encode()
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(BadConfig):
        parse(text[:cut])
