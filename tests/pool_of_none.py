# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool without threads, for block devices in unit tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


def submit(function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
    """Does it now."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    try:
        future.set_result(function(*arguments))
    except OSError as error:
        future.set_exception(error)
    return future
