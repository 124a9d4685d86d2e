# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Portal groups: the addresses where initiators connect (SPDK's iscsi_create_portal_group)."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Iterator
from typing import Any, Callable, Final

from ..errors import EngineError
from .addresses import bracketed, family, host_addresses, listening_address, port_number
from .auth import Auth

_log = logging.getLogger(__name__)

_BACKLOG: Final = 1024
_ACCEPTS_PER_WAKE_UP: Final = 64
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_REST_SECONDS: Final = 0.5

Accept = Callable[[socket.socket, "Portal"], None]


class Portal:
    """One address and port. Bound when made, so that a conflict shows at once; listening only when told."""

    def __init__(self, host: str, port: str, tag: int) -> None:
        self.host = {"*": "0.0.0.0", "[*]": "[::]"}.get(host, host)
        self.port = port
        self.tag = tag
        self._address = listening_address(host)
        self._port = port_number(port, f"portal {host}:{port}")
        self._socket: socket.socket | None = None
        self._listening = False

    def __str__(self) -> str:
        return f"{bracketed(self._address)}:{self.port}"

    @property
    def key(self) -> tuple[str, int]:
        return self._address, self._port

    @property
    def is_wildcard(self) -> bool:
        return self._address in ("0.0.0.0", "::")

    def bind(self) -> None:
        """Raises EngineError that says who or what is in the way."""
        listener = socket.socket(family(self._address), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if listener.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((self._address, self._port))
        except OSError as error:
            listener.close()
            raise self._explained(error) from error
        self._socket = listener

    def listen(self, loop: asyncio.AbstractEventLoop, accept: Accept) -> None:
        if self._socket is None:
            self.bind()
        if self._listening or self._socket is None:
            return
        try:
            self._socket.listen(_BACKLOG)
        except OSError as error:
            raise self._explained(error) from error
        self._listening = True
        loop.add_reader(self._socket, self._on_connections, accept)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._socket is not None:
            if self._listening:
                loop.remove_reader(self._socket)
            self._socket.close()
        self._socket = None
        self._listening = False

    def _on_connections(self, accept: Accept) -> None:
        for _each in range(_ACCEPTS_PER_WAKE_UP):
            if self._socket is None:
                return
            try:
                connection, _peer = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                _log.warning("portal %s: cannot accept a connection: %s", self, error.strerror)
                if error.errno in _EXHAUSTED:
                    self._rest(accept)
                return
            accept(connection, self)

    def _rest(self, accept: Accept) -> None:
        """The waiting connection stays readable: look again when there may be a descriptor for it."""
        listener = self._socket
        if listener is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)

        def resume() -> None:
            if self._socket is listener and self._listening:
                loop.add_reader(listener, self._on_connections, accept)

        loop.call_later(_REST_SECONDS, resume)

    def _explained(self, error: OSError) -> EngineError:
        reasons = {
            errno.EADDRNOTAVAIL: f"this host has no such address. {host_addresses()}",
            errno.EADDRINUSE: f"the port is in use by another program (ss -ltnp 'sport = :{self.port}' shows which)",
            errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
        }
        explained = EngineError(f"portal {self}: {reasons.get(error.errno or 0, error.strerror)}")
        explained.errno = error.errno or errno.EIO
        return explained

    def to_rpc(self) -> dict[str, Any]:
        return {"host": self.host, "port": self.port}


class PortalGroup:
    """Portals whose connections may belong to one session; the tag is the TPGT."""

    def __init__(self, tag: int, portals: list[Portal], private: bool, wait: bool) -> None:
        self.tag = tag
        self.portals = portals
        self.private = private
        self.waiting = wait
        """Does not listen before iscsi_start_portal_group."""
        self.auth: Auth | None = None
        """The policy for discovery sessions that arrive here; None: the target's (iscsi_set_discovery_auth)."""

    @classmethod
    def of(cls, group: PortalGroup, portals: list[Portal], wait: bool) -> PortalGroup:
        """Some portals of a group, to be opened together."""
        return cls(group.tag, portals, group.private, wait)

    def bind(self) -> None:
        """All or none of the portals. Raises EngineError."""
        bound: list[Portal] = []
        try:
            for portal in self.portals:
                portal.bind()
                bound.append(portal)
        except EngineError:
            loop = asyncio.get_running_loop()
            for portal in bound:
                portal.close(loop)
            raise

    def listen(self, loop: asyncio.AbstractEventLoop, accept: Accept) -> None:
        for portal in self.portals:
            portal.listen(loop, accept)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        for portal in self.portals:
            portal.close(loop)

    def to_rpc(self) -> dict[str, Any]:
        """As iscsi_get_portal_groups gives it; a policy of the group's own is shown too, which SPDK does not."""
        return {**self._made_of(), **(self.auth._asdict() if self.auth is not None else {})}

    def _made_of(self) -> dict[str, Any]:
        return {"tag": self.tag, "portals": [portal.to_rpc() for portal in self.portals], "private": self.private}

    def config(self) -> tuple[str, dict[str, Any]]:
        params = self._made_of()
        if self.waiting:
            params["wait"] = True
        return "iscsi_create_portal_group", params

    def further_config(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The calls that complete what ``config`` makes."""
        if self.auth is not None:
            yield "iscsi_portal_group_set_auth", {"tag": self.tag, **self.auth._asdict()}
