# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers of an engine and of its workers together, where there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import merging
from .exposition import Family
from .methods.worker import COUNTERS, METRICS
from .metrics import collect, counters
from .metrics_merging import from_plain, merged

if TYPE_CHECKING:
    from ..service import Engine


async def all_metrics(engine: Engine) -> list[Family]:
    own = collect(engine)
    if engine.fleet is None:
        return own
    fleet = engine.fleet
    theirs = {number: from_plain(plain) for number, plain in (await fleet.ask_all(METRICS)).items()}
    return [*merged(own, fleet.ledger.complete(theirs, fleet.lives())), *fleet.families()]


async def all_counters(engine: Engine) -> dict[str, list[int]]:
    """As :func:`metrics.counters`."""
    own = counters(engine)
    return own if engine.fleet is None else merging.summed([own, *(await engine.fleet.ask_all(COUNTERS)).values()])


async def all_connections(engine: Engine) -> list[dict[str, Any]]:
    """As iscsi_get_connections gives them."""
    own = engine.target.connections()
    if engine.fleet is None:
        return own
    return merging.connections(engine, {0: own, **await engine.fleet.ask_all("iscsi_get_connections")})
