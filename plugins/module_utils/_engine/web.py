# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The management interface over HTTP: what the command line asks for, its rules, and its upkeep."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Final, NamedTuple

from .errors import EngineError, Invalid
from .process import NOTICE
from .rpc.http import Address, HttpServer
from .rpc.http_auth import Credentials, Guard, load_certificate, server_tls
from .rpc.pages import Pages

if TYPE_CHECKING:
    from .service import Engine

_LOG = logging.getLogger(__name__)

_SAMPLE_SECONDS: Final = 1.0


class WebSettings(NamedTuple):
    address: str
    credentials: str | None = None
    """File with the credentials; without one nobody may make calls."""
    certificate: str | None = None
    key: str | None = None


class Web:
    """Raises EngineError for settings that cannot be or must not be."""

    def __init__(self, settings: WebSettings, engine: Engine) -> None:
        address = Address.parse(settings.address)
        self._settings = settings
        if not address.is_loopback and not (settings.certificate and settings.credentials):
            raise Invalid(
                f"HTTP address {address}: others may reach it, so it needs TLS and credentials. Give "
                f"--http-certificate and --http-credentials, or listen on 127.0.0.1:{address.port}."
            )
        if settings.key and not settings.certificate:
            raise Invalid("--http-key is of no use without --http-certificate")
        self._guard = Guard(Credentials.read(settings.credentials) if settings.credentials else None)
        self._tls: ssl.SSLContext | None = None
        if settings.certificate:
            self._tls = server_tls(settings.certificate, settings.key)
        self._pages = Pages(engine)
        self._server = HttpServer(address, self._pages.routes(), self._guard, self._tls)
        self._sampler: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._server.start()
        self._sampler = asyncio.get_running_loop().create_task(self._sample())
        scheme = "https" if self._tls is not None else "http"
        calls = "" if self._guard.is_needed else "; no calls without --http-credentials"
        _LOG.log(NOTICE, "management at %s://%s/%s", scheme, self._server.address, calls)

    async def _sample(self) -> None:
        while True:
            await self._pages.sample()
            await asyncio.sleep(_SAMPLE_SECONDS)

    def reload(self) -> None:
        """Read credentials and certificates again; what cannot be read stays as it was."""
        settings = self._settings
        try:
            if settings.credentials:
                self._guard.credentials = Credentials.read(settings.credentials)
            if settings.certificate and self._tls is not None:
                load_certificate(self._tls, settings.certificate, settings.key)
        except EngineError as error:
            _LOG.error("the old one is used on: %s", error)

    async def close(self) -> None:
        if self._sampler is not None:
            self._sampler.cancel()
        await self._server.close()
