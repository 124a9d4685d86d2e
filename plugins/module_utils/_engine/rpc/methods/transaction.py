# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""engine_apply: many changes as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ... import transaction
from ..method import Method, Order
from ..schema import anything, array, optional, pair, required, string

if TYPE_CHECKING:
    from ...service import Engine

_MAX_CALLS: Final = 100_000


async def apply(engine: Engine, calls: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    return await transaction.apply(engine, [transaction.Call(method, params) for method, params in calls])


_CALL: Final = pair({"method": required(string()), "params": optional(anything, {})}, ("method", "params"))

METHODS: Final = (
    # Workers follow its calls, each by itself; it tells the number of the change.
    Method(
        "engine_apply",
        apply,
        {"calls": required(array(_CALL, _MAX_CALLS))},
        mutates=True,
        order=Order.SEQUENTIAL,
    ),
)
