# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks as Hypothesis makes them."""

from __future__ import annotations

from fuzz.fortress import Attack, Start
from fuzz.moves import logins, moves, requests
from hypothesis import strategies as st
from pdu import wire

_STAGES = {Start.BEFORE_LOGIN: 0, Start.IN_LOGIN: 1, Start.IN_CHAP: 0}


def attacks() -> st.SearchStrategy[Attack]:
    """One connection: where it begins, and up to twenty moves. In a login, most of them are login requests."""

    def from_start(start: Start) -> st.SearchStrategy[Attack]:
        each = moves()
        if start in _STAGES:
            known = logins(_STAGES[start])
            each = st.one_of(known, known, known, requests(st.just(wire.LOGIN), 1), each)
        return st.builds(
            Attack, start=st.just(start), moves=st.lists(each, min_size=1, max_size=20), isid=st.integers(0, 1)
        )

    return st.sampled_from(Start).flatmap(from_start)
