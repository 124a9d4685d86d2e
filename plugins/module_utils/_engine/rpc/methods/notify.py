# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""notify_*: what happened to bdevs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..method import DECODE_FAILED, Method
from ..notifications import TYPES
from ..schema import UINT64_MAX, integer, optional

if TYPE_CHECKING:
    from ...service import Engine


def get_types(_engine: Engine) -> list[str]:
    return list(TYPES)


def get_notifications(engine: Engine, **window: int) -> list[dict[str, Any]]:
    return engine.notifications.since(window["id"], window["max"])


_WINDOW: Final = {
    "id": optional(integer(0, UINT64_MAX), 0),
    "max": optional(integer(0, UINT64_MAX), UINT64_MAX),
}

METHODS: Final = (
    Method("notify_get_types", get_types, takes_nothing="No parameters required"),
    Method("notify_get_notifications", get_notifications, _WINDOW, refusal=DECODE_FAILED),
)
