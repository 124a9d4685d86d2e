# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Additional header segments of SCSI commands."""

from __future__ import annotations

import contextlib
import struct

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi import ahs
from hypothesis import given
from hypothesis import strategies as st


def segment(kind: int, content: bytes) -> bytes:
    """RFC 7143 §11.2.2: the length does not count itself and the type."""
    whole = struct.pack(">HB", len(content), kind) + content
    return whole + bytes(-len(whole) % 4)


def test_a_long_cdb_and_a_read_length_may_come_together() -> None:
    rest = bytes(range(16, 32))
    segments = segment(1, b"\0" + rest) + segment(2, struct.pack(">xL", 4096))
    assert ahs.parse(segments) == ahs.Extension(rest, 4096)


@given(st.binary(min_size=1, max_size=244))
def test_a_long_cdb_comes_out_as_it_went_in(rest: bytes) -> None:
    assert ahs.parse(segment(1, b"\0" + rest)).cdb == rest


WRONG = {
    "unknown type": segment(3, bytes(5)),
    "no CDB": segment(1, b"\0"),
    "short read length": segment(2, bytes(4)),
    "the same twice": segment(2, bytes(5)) * 2,
    "longer than there is": struct.pack(">HB", 100, 1) + bytes(9),
    "no room for a type": b"\0\1",
}


@pytest.mark.parametrize("segments", WRONG.values(), ids=WRONG)
def test_what_the_standard_does_not_know_is_refused(segments: bytes) -> None:
    with pytest.raises(ahs.AhsError):
        ahs.parse(segments)


@given(st.binary(max_size=1020))
def test_nothing_that_is_sent_leads_to_anything_but_an_answer_or_a_refusal(segments: bytes) -> None:
    with contextlib.suppress(ahs.AhsError):
        assert len(ahs.parse(segments).cdb) < 260
