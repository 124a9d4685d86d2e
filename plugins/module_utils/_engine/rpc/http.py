# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP/1.1, as much of it as a management interface needs: one asyncio task a client, everything bounded.

What is served is a table of routes; who may have it is the business of a guard.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import ssl
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from typing import Callable, Final, NamedTuple

from ..errors import EngineError, Invalid
from .framing import MAX_REQUEST_BYTES
from .http_auth import Guard, Verdict

_LOG = logging.getLogger(__name__)

MAX_CLIENTS: Final = 256
_HEAD_BYTES: Final = 16 * 1024
_HEAD_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 75.0
_BODY_SECONDS: Final = 120.0
_LINGER_SECONDS: Final = 2.0
_LONGEST_NUMBER: Final = 20
_MOST_TRAILERS: Final = 64
_DIGITS: Final = {10: frozenset("0123456789"), 16: frozenset("0123456789abcdefABCDEF")}
_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_ALWAYS: Final = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """``127.0.0.1:8080``, ``[::1]:8080``. Raises Invalid."""
        host, colon, port = text.rpartition(":")
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        try:
            if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
                raise ValueError
            address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        except ValueError:
            raise Invalid(f"HTTP address {text!r}: an address and a port are wanted, such as 127.0.0.1:8080") from None
        return cls(str(address), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback


class Request(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]
    """By their names in lower case."""
    body: bytes
    peer: str


class Response(NamedTuple):
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: tuple[tuple[str, str], ...] = ()


class Route(NamedTuple):
    handler: Callable[[Request], Awaitable[Response]]
    is_open: bool = False
    """Everybody may have it."""
    is_powerful: bool = False
    """Nobody may have it without credentials, even where none are configured."""


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, why: str, *headers: tuple[str, str]) -> None:
        super().__init__(why)
        self.response = Response(f"{why}\n".encode(), status=status, headers=headers)


class HttpServer:
    """``routes`` by method and path; the path ``*`` is any other one."""

    def __init__(
        self, address: Address, routes: Mapping[tuple[str, str], Route], guard: Guard, tls: ssl.SSLContext | None
    ) -> None:
        self.address = address
        self._routes = routes
        self._guard = guard
        self._tls = tls
        self._server: asyncio.AbstractServer | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises EngineError."""
        try:
            self._server = await asyncio.start_server(
                self._client, self.address.host, self.address.port, ssl=self._tls, limit=_HEAD_BYTES
            )
        except OSError as error:
            raise EngineError.from_os(error, f"HTTP address {self.address}") from error
        self.address = self.address._replace(port=self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for client in self._clients:
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients, timeout=_LINGER_SECONDS)

    # -- clients -----------------------------------------------------------------------------------------------------

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("asyncio runs this as a task")
        self._clients.add(task)
        try:
            if len(self._clients) > MAX_CLIENTS:
                await _send(writer, Response(b"too many clients\n", status=HTTPStatus.SERVICE_UNAVAILABLE), close=True)
                return
            patience = _HEAD_SECONDS
            while await self._one(reader, writer, patience):
                patience = _IDLE_SECONDS
        except (OSError, EOFError, asyncio.TimeoutError, asyncio.CancelledError):
            pass  # gone, silent for too long, or we stop
        except Exception:
            _LOG.exception("an HTTP client is disconnected because of a bug")
        finally:
            self._clients.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: float) -> bool:
        """Answer one request; False when the connection ends with it."""
        keep = head_only = False
        try:
            head = await _head(reader, patience)
            if head is None:
                return False
            peer = writer.get_extra_info("peername")
            request, keep = _parse(head, peer[0] if peer else "")
            head_only = request.method == "HEAD"
            route = self._find(request)
            await self._admit(route, request)
            request = request._replace(body=await _body(reader, writer, request))
            response = await route.handler(request)
        except _Refused as refusal:
            # What may still come of the request is not read.
            response, keep = refusal.response, False
        await _send(writer, response, close=not keep, head_only=head_only)
        return keep

    def _find(self, request: Request) -> Route:
        method = "GET" if request.method == "HEAD" else request.method
        route = self._routes.get((method, request.path)) or self._routes.get((method, "*"))
        if route is not None:
            return route
        others = [each for each, path in self._routes if path == request.path]
        if others:
            why = f"{request.path} is for {', '.join(others)}"
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, why, ("Allow", ", ".join(others)))
        raise _Refused(HTTPStatus.NOT_FOUND, f"{request.path} is not here")

    async def _admit(self, route: Route, request: Request) -> None:
        host = request.headers.get("host", "")
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise _Refused(HTTPStatus.FORBIDDEN, "the request comes from a page of another site")
        if route.is_open:
            return
        if self._guard.is_needed:
            verdict = await self._guard.judge(request.headers.get("authorization"), request.peer)
            if verdict is not Verdict.ADMITTED:
                status = HTTPStatus.TOO_MANY_REQUESTS if verdict is Verdict.BUSY else HTTPStatus.UNAUTHORIZED
                challenge = ("WWW-Authenticate", 'Basic realm="openlun-iscsi", charset="UTF-8"')
                raise _Refused(status, "credentials are wanted", challenge)
        elif route.is_powerful:
            raise _Refused(HTTPStatus.FORBIDDEN, "calls need credentials: start the engine with --http-credentials")
        elif _host_name(host) not in _LOOPBACK_NAMES:
            # A page whose name somebody pointed at this machine could read what its browser may.
            raise _Refused(HTTPStatus.FORBIDDEN, f"this is not {host[:255]}")


def _host_name(host: str) -> str:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower()


async def _head(reader: asyncio.StreamReader, patience: float) -> bytes | None:
    """The request line and headers; None when the client is done."""
    try:
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), patience)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise _Refused(HTTPStatus.BAD_REQUEST, "the request ends in its headers") from None
        return None
    except asyncio.LimitOverrunError:
        raise _Refused(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"more than {_HEAD_BYTES} bytes of headers"
        ) from None


def _parse(head: bytes, peer: str) -> tuple[Request, bool]:
    """The request without its body, and whether the connection goes on after it. Raises _Refused."""
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or parts[2] not in ("HTTP/1.0", "HTTP/1.1") or not parts[1].startswith("/"):
        raise _Refused(HTTPStatus.BAD_REQUEST, "the request line is none of HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or not _TOKEN.issuperset(name) or "\0" in value:
            raise _Refused(HTTPStatus.BAD_REQUEST, "a header line is none")
        name = name.lower()
        if name in headers and name in ("content-length", "transfer-encoding", "host", "authorization"):
            raise _Refused(HTTPStatus.BAD_REQUEST, f"{name} is given twice")
        headers[name] = value.strip(" \t")
    wanted = headers.get("connection", "").lower()
    keep = wanted != "close" if parts[2] == "HTTP/1.1" else wanted == "keep-alive"
    return Request(parts[0], parts[1].partition("?")[0], headers, b"", peer), keep


async def _body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request) -> bytes:
    # Only calls have a body. Everybody may ask for some pages, and would make us keep it.
    most = MAX_REQUEST_BYTES if request.method == "POST" else 0
    encoding, text = request.headers.get("transfer-encoding"), request.headers.get("content-length")
    if encoding is None and text is None:
        if request.method == "POST":
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "Content-Length is wanted")
        return b""
    if encoding is not None and text is not None:
        raise _Refused(HTTPStatus.BAD_REQUEST, "Content-Length and Transfer-Encoding exclude each other")
    if encoding is not None and encoding.lower() != "chunked":
        raise _Refused(HTTPStatus.NOT_IMPLEMENTED, "of Transfer-Encoding only chunked is supported")
    length = 0 if text is None else _number(text, 10, most)
    if request.headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    reading = reader.readexactly(length) if encoding is None else _chunks(reader, most)
    return await asyncio.wait_for(reading, _BODY_SECONDS)


def _number(text: str, base: int, most: int) -> int:
    """A length of a body or a part of it. Raises _Refused."""
    if not text or len(text) > _LONGEST_NUMBER or not _DIGITS[base].issuperset(text):
        raise _Refused(HTTPStatus.BAD_REQUEST, "what should be a length is none")
    if int(text, base) > most:
        raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {most} bytes")
    return int(text, base)


async def _chunks(reader: asyncio.StreamReader, most: int) -> bytes:
    """A body in pieces that tell their own length (RFC 9112 §7.1)."""
    body = bytearray()
    try:
        while True:
            line = await reader.readuntil(b"\r\n")
            size = _number(line.decode("latin-1").partition(";")[0].strip(), 16, most - len(body))
            if not size:
                break
            body += await reader.readexactly(size)
            if await reader.readexactly(2) != b"\r\n":
                raise _Refused(HTTPStatus.BAD_REQUEST, "a chunk is longer than it says")
        for _trailer in range(_MOST_TRAILERS):
            if await reader.readuntil(b"\r\n") == b"\r\n":
                return bytes(body)
    except asyncio.LimitOverrunError:
        pass
    raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too much between the chunks")


async def _send(writer: asyncio.StreamWriter, response: Response, close: bool, head_only: bool = False) -> None:
    status = response.status
    headers = [
        ("Content-Type", response.content_type),
        ("Content-Length", str(len(response.body))),
        *_ALWAYS,
        *response.headers,
        *((("Connection", "close"),) if close else ()),
    ]
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    writer.write(f"HTTP/1.1 {status.value} {status.phrase}\r\n{lines}\r\n".encode("latin-1"))
    if not head_only:
        writer.write(response.body)
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(writer.drain(), _BODY_SECONDS)
