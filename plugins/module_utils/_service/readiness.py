# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the engine answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Callable, Final

from ansible_collections.openlun.iscsi.plugins.module_utils._rpc import CallError, RpcError, connect

from .errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .manager import Ask

_ANSWER_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.02
_METHOD_NOT_FOUND: Final = -32601


def ask_engine(socket: str) -> Mapping[str, Any] | None:
    """engine_get_info of whoever serves ``socket``; None when nobody does.

    Raises ServiceError when another program, such as SPDK's own target, answers there.
    """
    try:
        with connect(socket, _ANSWER_SECONDS) as client:
            info: Mapping[str, Any] = client.call("engine_get_info")
            return info
    except CallError as error:
        if error.code != _METHOD_NOT_FOUND:
            raise ServiceError(f"socket {socket}: {error.text}") from error
        raise ServiceError(
            f"socket {socket}: another JSON-RPC server, perhaps SPDK's own target, serves it. "
            "Stop that one, or set the option socket to another path."
        ) from error
    except RpcError:
        return None


def ask_options(socket: str) -> Mapping[str, Any] | None:
    """iscsi_get_options of the engine that serves ``socket``; None when it does not tell them."""
    try:
        with connect(socket, _ANSWER_SECONDS) as client:
            options: Mapping[str, Any] = client.call("iscsi_get_options")
            return options
    except RpcError:
        return None


def wait_ready(ask: Ask, seconds: float, alive: Callable[[], bool]) -> Mapping[str, Any] | None:
    """Ask until there is an answer; None when ``alive`` turned false or the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        info = ask()
        if info is not None:
            return info
        if not alive() or time.monotonic() >= deadline:
            return None
        time.sleep(_PAUSE_SECONDS)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether ``condition`` became true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True
