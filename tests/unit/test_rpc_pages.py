# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The history on the status page: every second while somebody looks, and otherwise so that it is not empty."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.process import Logs
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc import everywhere, pages
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.http import Request
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.service import Engine, Settings


def test_workers_are_asked_often_only_while_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0, asked=0)
    monkeypatch.setattr(pages, "time", SimpleNamespace(monotonic=lambda: clock.now, monotonic_ns=lambda: 10**12))

    async def all_counters(_engine: Any) -> dict[str, list[int]]:
        clock.asked += 1
        return {"node 0": [clock.asked, 0, 0, 0]}

    monkeypatch.setattr(everywhere, "all_counters", all_counters)

    async def run() -> None:
        made = pages.Pages(Engine(Settings(socket="/nowhere"), Logs()))
        status = made.routes()[("GET", "/status.json")].handler

        async def samples_of_a_minute() -> int:
            before: int = clock.asked
            for _second in range(60):
                await made.sample()
                clock.now += 1
            return int(clock.asked) - before

        assert await samples_of_a_minute() == 6
        shown = json.loads((await status(Request("GET", "/status.json", {}, b"", ""))).body)
        assert len(shown["history"]) == 6
        assert await samples_of_a_minute() == 60
        await samples_of_a_minute()
        assert await samples_of_a_minute() == 6

    asyncio.run(run())
