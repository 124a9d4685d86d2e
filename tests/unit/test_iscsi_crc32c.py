# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRC32C, and the arithmetic that makes it fast without help."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi import crc32c
from hypothesis import given
from hypothesis import strategies as st
from pdu.crc32c import crc32c as by_definition

Compute = Callable[[bytes], int]

implementations = pytest.mark.parametrize("compute", [crc32c.crc32c, crc32c._pure], ids=["best", "pure Python"])

EXAMPLES = [  # RFC 7143 Appendix A.4
    (bytes(32), "aa 36 91 8a"),
    (b"\xff" * 32, "43 ab a8 62"),
    (bytes(range(32)), "4e 79 dd 46"),
    (bytes(range(31, -1, -1)), "5c db 3f 11"),
]


@implementations
@pytest.mark.parametrize(("data", "on_the_wire"), EXAMPLES)
def test_the_examples_of_the_standard_come_out(compute: Compute, data: bytes, on_the_wire: str) -> None:
    assert compute(data).to_bytes(4, "little") == bytes.fromhex(on_the_wire)


@implementations
@given(data=st.binary(max_size=600))
def test_any_short_message_gives_what_the_definition_gives(compute: Compute, data: bytes) -> None:
    assert compute(data) == by_definition(data)


@implementations
@pytest.mark.parametrize("size", [0, 1, 71, 72, 73, 4095, 4096, 8193, 65536, 262144, 262141])
def test_messages_of_any_length_give_what_the_definition_gives(compute: Compute, size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert compute(data) == by_definition(data)


@pytest.mark.parametrize("relation", crc32c._RELATIONS, ids=lambda relation: f"x^{relation[0]}")
def test_the_relations_between_powers_of_x_hold(relation: tuple[int, ...]) -> None:
    value, powers, remainder = 1, dict.fromkeys(relation), 0
    for exponent in range(max(relation) + 1):
        if exponent in powers:
            remainder ^= value
        value = value << 1 ^ (0x11EDC6F41 if value >> 31 else 0)  # times x, modulo the polynomial (RFC 7143 §13.1)
    assert remainder == 0


@given(bits=st.integers(0, 262144 * 8 // 8).map(lambda size: size * 8))
def test_folding_leaves_little_and_loses_no_bit(bits: int) -> None:
    folds = crc32c._folds(bits)
    left = bits - sum(count for count, _mask, _shifts in folds)
    assert left <= crc32c._ENOUGH * 8 or left == bits
    for count, _mask, shifts in folds:
        bits -= count
        assert all(shift >= 0 and shift + count <= bits for shift in shifts)
