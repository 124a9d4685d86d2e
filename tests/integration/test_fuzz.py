# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A short attack on the engine, the same every time; make fuzz goes on for longer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.fortress import Attack, Fortress, Start, fortress
from fuzz.moves import REQUESTS, Move
from fuzz.scenarios import attacks
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pdu import wire


@pytest.fixture(scope="module")
def walls(unpacked: Path) -> Iterator[Fortress]:
    with fortress(unpacked) as each:
        yield each
        each.check_walls()


@pytest.mark.parametrize("start", [Start.BEFORE_LOGIN, Start.IN_LOGIN, Start.IN_CHAP])
@pytest.mark.parametrize("opcode", [each for each in REQUESTS if each != wire.LOGIN])
def test_what_is_no_login_before_the_login_is_done(walls: Fortress, opcode: int, start: Start) -> None:
    walls.suffer(Attack(start, [Move(opcode, immediate=True, data=b"data"), Move(opcode)]))


@settings(
    max_examples=80,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
@given(st.lists(attacks(), min_size=1, max_size=3))
def test_no_attack_harms_anybody_else(walls: Fortress, together: list[Attack]) -> None:
    walls.suffer(*together)
