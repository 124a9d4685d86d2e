# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the HTTP server serves: calls, metrics, health, and the status page with its data."""

from __future__ import annotations

import json
import math
import os
import time
from collections import deque
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from .. import __version__
from . import everywhere
from .exposition import CONTENT_TYPE, render
from .http import Request, Response, Route
from .metrics import COUNTERS, name_of
from .server import answer_text
from .status_page import CONTENT_SECURITY_POLICY, PAGE

if TYPE_CHECKING:
    from ..service import Engine

_JSON: Final = "application/json"
_HISTORY: Final = 300
"""Samples; one a second while somebody looks."""
_LOOKS_SECONDS: Final = 60.0
"""How long after it was asked for the status somebody looks."""
_RARELY_SECONDS: Final = 10.0
"""From one sample to the next when nobody does: all workers have to be asked for it."""
_SHOWN: Final = 500
"""Target nodes and connections on the status page; it says how many there are besides."""


class Pages:
    """The routes, and a short history of what all disks did."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._history: deque[list[float]] = deque(maxlen=_HISTORY)
        self._looked_at = self._sampled_at = -math.inf

    def routes(self) -> Mapping[tuple[str, str], Route]:
        # SPDK's HTTP proxy takes calls under any path.
        return {
            ("POST", "*"): Route(self._call, is_powerful=True),
            ("POST", "/rpc"): Route(self._call, is_powerful=True),
            ("GET", "/metrics"): Route(self._metrics),
            ("GET", "/healthz"): Route(self._health, is_open=True),
            ("GET", "/"): Route(self._page),
            ("GET", "/status.json"): Route(self._status),
        }

    async def sample(self) -> None:
        """To be called once a second: note the totals of all disks, and count commands before their numbers wrap.

        While nobody looks at the status page that is done more rarely.
        """
        now = time.monotonic()
        if now - self._looked_at > _LOOKS_SECONDS and now - self._sampled_at < _RARELY_SECONDS:
            return
        self._sampled_at = now
        counters = await everywhere.all_counters(self._engine)
        totals = [sum(column) for column in zip([0] * 4, *counters.values())]
        self._history.append([round(time.monotonic(), 3), *totals])
        for session in self._engine.target.sessions:
            session.count_commands()

    async def _call(self, request: Request) -> Response:
        answer = await answer_text(self._engine.dispatcher, self._engine.commit, request.body)
        return Response(answer, _JSON, HTTPStatus.OK if answer else HTTPStatus.NO_CONTENT)

    async def _metrics(self, _request: Request) -> Response:
        return Response(render(await everywhere.all_metrics(self._engine)).encode(), CONTENT_TYPE)

    async def _health(self, _request: Request) -> Response:
        """200 while it serves, whole or not; what is not is said only where calls may be made."""
        engine = self._engine
        if not engine.initialized.is_set():
            return Response(b'{"status": "starting"}\n', _JSON, HTTPStatus.SERVICE_UNAVAILABLE)
        if not engine.target.serving:
            return Response(b'{"status": "stopping"}\n', _JSON, HTTPStatus.SERVICE_UNAVAILABLE)
        are_workers_whole = engine.fleet is None or engine.fleet.is_whole
        whole = not engine.store.unrestored and engine.store.is_saved and are_workers_whole
        return Response(b'{"status": "ok"}\n' if whole else b'{"status": "degraded"}\n', _JSON)

    async def _page(self, _request: Request) -> Response:
        policy = ("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return Response(PAGE, "text/html; charset=utf-8", headers=(policy, ("Referrer-Policy", "no-referrer")))

    async def _status(self, _request: Request) -> Response:
        self._looked_at = time.monotonic()
        return Response(json.dumps(await self._state(), separators=(",", ":")).encode(), _JSON)

    async def _state(self) -> dict[str, Any]:
        target, store = self._engine.target, self._engine.store
        nodes = list(target.nodes.values())
        counters = await everywhere.all_counters(self._engine)
        connections = await everywhere.all_connections(self._engine)
        return {
            "version": __version__,
            "pid": os.getpid(),
            "now": round(time.monotonic(), 3),
            "up": (time.monotonic_ns() - self._engine.started_ns) // 10**9,
            "unrestored": [f"{left.entry.method}: {left.error}" for left in store.unrestored[:_SHOWN]],
            "history": list(self._history),
            "counts": {
                "targets": len(nodes),
                "connections": len(connections),
                "bdevs": len(self._engine.bdevs.names()),
            },
            "targets": [_target(node, counters) for node in nodes[:_SHOWN]],
            "connections": connections[:_SHOWN],
        }


def _target(node: Any, counters_of: Mapping[str, list[int]]) -> dict[str, Any]:
    return {
        "name": node.name,
        "alias": node.alias,
        "enabled": not node.is_closed,
        "portal_groups": [group.tag for group in node.portal_groups()],
        "luns": [
            {
                "id": lun.id,
                "bdev": lun.bdev.name,
                "size": lun.bdev.size,
                "readonly": lun.readonly,
                "counters": counters_of.get(name_of(node.name, lun.id), [0] * COUNTERS),
            }
            for lun in node.device.luns.values()
        ],
    }
