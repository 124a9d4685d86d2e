# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the modules talk to a target engine: SPDK's JSON-RPC over a unix socket or HTTP.

PRIVATE to the collection. Another transport is another class with ``exchange`` and ``close``.
"""

from __future__ import annotations

import typing as t

from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.client import (
    DEFAULT_TIMEOUT,
    Call,
    CallError,
    Client,
    Closed,
    RpcError,
    TimedOut,
    Transport,
    UnixTransport,
    Unreachable,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._rpc_http import HttpTransport

__all__ = ("Call", "CallError", "Closed", "Rpc", "RpcError", "TimedOut", "Unreachable", "connect", "connect_url")

DEFAULT_SOCKET: t.Final = "/run/openlun-iscsi/rpc.sock"


class Rpc(Client):
    """A client that knows what its engine can do."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        self._methods: frozenset[str] | None = None

    def methods(self) -> frozenset[str]:
        """The methods that the engine answers; asked for once."""
        if self._methods is None:
            self._methods = frozenset(self.call("rpc_get_methods"))
        return self._methods


def connect(socket: str = DEFAULT_SOCKET, timeout: float = DEFAULT_TIMEOUT) -> Rpc:
    """A client of the engine at ``socket`` (a path); ``timeout`` in seconds is for each request."""
    return Rpc(UnixTransport(socket, timeout))


def connect_url(
    url: str,
    timeout: float = DEFAULT_TIMEOUT,
    credentials: tuple[str, str] | None = None,
    validate_certs: bool = True,
    ca_path: str | None = None,
) -> Rpc:
    """A client of the engine behind the HTTP server at ``url``; ``credentials`` are a user name and a password.

    Raises Unreachable if an argument cannot be used, or without the package requests.
    """
    return Rpc(HttpTransport(url, timeout, credentials, validate_certs, ca_path))
