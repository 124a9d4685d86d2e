# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may use the management interface over HTTP: credentials from a file, and patience with those who guess."""

from __future__ import annotations

import asyncio
import base64
import binascii
import enum
import hashlib
import hmac
import logging
import os
import ssl
import stat
from collections import OrderedDict
from typing import Final

from ..errors import EngineError, Invalid
from ..facts import MIN_HTTP_SECRET

_LOG = logging.getLogger(__name__)

_FIRST_DELAY: Final = 1.0
_LONGEST_DELAY: Final = 8.0
_MAX_WAITING: Final = 8
"""Guesses of one address that may wait at a time."""
_MAX_ADDRESSES: Final = 1024


class Credentials:
    """The accepted ``Authorization`` headers, only their digests."""

    def __init__(self, accepted: frozenset[bytes], users: frozenset[str]) -> None:
        self._accepted = accepted
        self.users = users

    @classmethod
    def read(cls, path: str) -> Credentials:
        """From a file with one of them a line: ``user:password``, or a token without a colon. Raises EngineError."""
        what = f"credentials file {path}"
        try:
            with open(path, encoding="utf-8") as file:
                mode = os.fstat(file.fileno()).st_mode
                lines = file.read().split("\n")
        except OSError as error:
            raise EngineError.from_os(error, what) from error
        except UnicodeDecodeError:
            raise Invalid(f"{what}: it is not UTF-8") from None
        if stat.S_IMODE(mode) & 0o077:
            raise Invalid(f"{what}: others may read or write it. chmod 600 {path} makes it private.")
        accepted, users = set(), set()
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            user, colon, password = line.partition(":")
            if len(password if colon else line) < MIN_HTTP_SECRET:
                kind = "password" if colon else "token"
                raise Invalid(f"{what}, line {number}: a {kind} has at least {MIN_HTTP_SECRET} characters")
            accepted.add(_digest("basic" if colon else "bearer", line.encode()))
            if colon:
                users.add(user)
        if not accepted:
            raise Invalid(f"{what}: it has no line. Write user:password or a token into it.")
        return cls(frozenset(accepted), frozenset(users))

    def accept(self, header: str) -> bool:
        scheme, _blank, value = header.partition(" ")
        scheme = scheme.lower()
        offered = value.strip().encode("latin-1", "replace")
        if scheme == "basic":
            offered = _decoded(offered)
        digest = _digest(scheme, offered)
        # Every one of them is compared, so that the time tells nothing.
        return sum(hmac.compare_digest(digest, each) for each in self._accepted) > 0

    def user_of(self, header: str) -> str:
        """Who it claims to be, when that is a known user: anything else might be a password in the wrong place."""
        scheme, _blank, value = header.partition(" ")
        user = _decoded(value.strip().encode("latin-1", "replace")).partition(b":")[0].decode("utf-8", "replace")
        return f"user {user}" if scheme.lower() == "basic" and user in self.users else "somebody unknown"


def _decoded(value: bytes) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        return b""


def _digest(scheme: str, value: bytes) -> bytes:
    return hashlib.sha256(scheme.encode("latin-1", "replace") + b" " + value).digest()


class Verdict(enum.Enum):
    ADMITTED = enum.auto()
    REFUSED = enum.auto()
    BUSY = enum.auto()
    """It guesses faster than it may."""


class Guard:
    """Answers right credentials at once and wrong ones slower and slower."""

    def __init__(self, credentials: Credentials | None, first_delay: float = _FIRST_DELAY) -> None:
        self.credentials = credentials
        self._first_delay = first_delay
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._waiting: dict[str, int] = {}

    @property
    def is_needed(self) -> bool:
        return self.credentials is not None

    async def judge(self, header: str | None, peer: str) -> Verdict:
        """``header`` is what the client at ``peer`` sent as Authorization."""
        if self.credentials is None:
            raise AssertionError("asked though nobody needs credentials")
        if header is None:
            return Verdict.REFUSED
        if self.credentials.accept(header):
            self._failures.pop(peer, None)
            return Verdict.ADMITTED
        if self._waiting.get(peer, 0) >= _MAX_WAITING:
            return Verdict.BUSY
        failures = self._failures[peer] = self._failures.pop(peer, 0) + 1
        if len(self._failures) > _MAX_ADDRESSES:
            self._failures.popitem(last=False)
        _LOG.warning("HTTP: wrong credentials of %s from %s", self.credentials.user_of(header), peer)
        self._waiting[peer] = self._waiting.get(peer, 0) + 1
        try:
            await asyncio.sleep(min(self._first_delay * 2 ** min(failures - 1, 10), _LONGEST_DELAY))
        finally:
            self._waiting[peer] -= 1
            if not self._waiting[peer]:
                del self._waiting[peer]
        return Verdict.REFUSED


def server_tls(certificate: str, key: str | None) -> ssl.SSLContext:
    """TLS with the certificates of a PEM file; the key is in it, or in a file of its own. Raises EngineError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, certificate, key)
    return context


def load_certificate(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    """Of new connections from now on. Raises EngineError, and then the old one stays."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        where = f"certificate {certificate}" + (f" with key {key}" if key else "")
        raise Invalid(
            f"{where}: {error.reason or error}. PEM with the certificate and its unencrypted key is wanted."
        ) from error
    except OSError as error:
        raise EngineError.from_os(error, f"certificate {certificate}" + (f" or key {key}" if key else "")) from error


def _no_password() -> str:
    """An encrypted key fails instead of asking at a terminal."""
    return ""
