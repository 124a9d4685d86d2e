# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's management over HTTP: where it listens, and the file of those who may use it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from .._engine.facts import MIN_HTTP_SECRET
from .errors import ServiceError
from .files import Directory, ensure, explained, write_atomically
from .manager import Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .layout import Layout


class Web(NamedTuple):
    """``address`` is ADDR:PORT; ``certificate`` and ``key`` are files on the host.

    ``credentials`` has a user:password or a token each. No text made here repeats one.
    """

    address: str
    certificate: str | None = None
    key: str | None = None
    credentials: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Web({self.address!r}, {self.certificate!r}, {self.key!r})"

    @classmethod
    def of(cls, option: Mapping[str, Any] | None) -> Web | None:
        """The module's option. Raises ServiceError for what the engine would not start with."""
        if not option:
            return None
        web = cls(option["address"], option["certificate"], option["key"], tuple(option["credentials"] or ()))
        web.check()
        return web

    def check(self) -> None:
        """Before a running engine is stopped for it. Raises ServiceError."""
        is_safe = self.certificate is not None and bool(self.credentials)
        if not is_safe and not _is_loopback(self.address):
            raise ServiceError(
                f"http.address {self.address}: others may reach it. Set http.certificate and http.credentials, or "
                "listen on 127.0.0.1."
            )
        if self.key is not None and self.certificate is None:
            raise ServiceError("http.key: of no use without http.certificate. Set that, too.")
        for index, line in enumerate(self.credentials):
            _user, colon, password = line.partition(":")
            if len(password if colon else line) < MIN_HTTP_SECRET:
                kind = "password" if colon else "token"
                raise ServiceError(f"http.credentials[{index}]: a {kind} has at least {MIN_HTTP_SECRET} characters.")
            if not line.isprintable() or line.startswith("#") or line != line.strip():
                raise ServiceError(
                    f"http.credentials[{index}]: it begins with # or a blank, ends with a blank, or cannot be printed. "
                    "Write user:password or a token."
                )

    def arguments(self, layout: Layout) -> list[str]:
        """Of the engine's command line."""
        files = {
            "--http-credentials": layout.http_credentials if self.credentials else None,
            "--http-certificate": self.certificate,
            "--http-key": self.key,
        }
        options = [word for name, path in files.items() if path is not None for word in (name, path)]
        return ["--http", self.address, *options]


def _is_loopback(address: str) -> bool:
    """Raises ServiceError for what is no address and port."""
    host, colon, port = address.rpartition(":")
    try:
        if not colon or not 1 <= int(port) <= 65535:
            raise ValueError
        name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        return host == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        example = "Write ADDRESS:PORT, such as 127.0.0.1:8260 or [::1]:8260."
        raise ServiceError(f"http.address {address}: not an address and a port. {example}") from None


class CredentialsFile:
    """Private to the engine's user, ``owner``; None is ours. Without ``lines`` there is none."""

    def __init__(self, layout: Layout, lines: tuple[str, ...], owner: str | None) -> None:
        self.path = layout.http_credentials
        self._directory = Directory(layout.state_dir, 0o700, owner)
        self._text = "".join(f"{line}\n" for line in lines)

    def saving(self) -> Iterator[Step]:
        """Raises ServiceError."""
        found = self._found()
        if self._text and found != self._text:
            yield Step("write", f"file {self.path}", "its content differs", self._write)
        elif found is not None and not self._text:
            yield Step("remove", f"file {self.path}", "nobody has credentials any more", partial(os.unlink, self.path))

    def _found(self) -> str | None:
        with explained(self.path), contextlib.suppress(FileNotFoundError), open(self.path, encoding="utf-8") as file:
            return file.read()
        return None

    def _write(self) -> None:
        ensure(self._directory)
        write_atomically(self.path, self._text, 0o600, self._directory.owner)
