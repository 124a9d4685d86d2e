# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON-RPC over HTTP: POST with basic authentication, as SPDK's rpc_http_proxy.py takes it.

PRIVATE to the collection. Needs the package requests, which is imported when the transport is used.
"""

from __future__ import annotations

import http
import json
import os
import socket
import ssl
import typing as t
import warnings
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.client import (
    Closed,
    RpcError,
    TimedOut,
    Unreachable,
)

if t.TYPE_CHECKING:
    import requests


class HttpTransport:
    """An HTTP server in front of an engine; ``timeout`` in seconds is for each request.

    Raises Unreachable if ``url`` or ``ca_path`` cannot be used, or without the package requests.
    """

    def __init__(
        self,
        url: str,
        timeout: float,
        credentials: tuple[str, str] | None = None,
        validate_certs: bool = True,
        ca_path: str | None = None,
    ) -> None:
        self.timeout = timeout
        self._url = url
        self._place = _place(url)
        if ca_path is not None and not os.path.exists(ca_path):
            raise Unreachable(f"ca_path: there is no {ca_path}. Name a file of certificates in PEM format.")
        self._verify: bool | str = (ca_path or True) if validate_certs else False
        self._session = _session(credentials)

    def exchange(self, document: t.Any) -> t.Any:
        """Send a request, or the requests of a batch one by one. Raises RpcError."""
        # rpc_http_proxy.py gives a batch to the engine and drops the connection without waiting for the answers.
        if not isinstance(document, list):
            return self._post(document)
        answers: list[t.Any] = []
        for request in document:
            try:
                answers.append(self._post(request))
            except Unreachable as error:
                # Unreachable says that nothing was carried out.
                raise (Closed(str(error)) if answers else error) from None
        return answers

    def close(self) -> None:
        self._session.close()

    def _post(self, request: t.Any) -> t.Any:
        try:
            with warnings.catch_warnings():
                # Who turns validate_certs off knows that; a module's stderr is not for saying it again.
                warnings.filterwarnings("ignore", message="Unverified HTTPS request")
                response = self._session.post(
                    self._url,
                    data=json.dumps(request).encode("ascii"),
                    timeout=self.timeout,
                    verify=self._verify,
                    allow_redirects=False,
                )
        except OSError as error:  # every exception of requests is one
            raise self._failure(error) from None
        return self._answer(response)

    def _answer(self, response: requests.Response) -> t.Any:
        status = response.status_code
        if status in _REFUSED:
            raise Unreachable(f"{self._place}: {_REFUSED[status]}")
        answer = _json_rpc(response.content)
        if answer is not None:
            return answer
        if status != http.HTTPStatus.OK:
            raise Closed(f"{self._place}: the answer is HTTP status {_status(status)}. {_advice(status)}")
        raise Closed(f"{self._place}: the answer is not JSON-RPC. Is this the address of a target's RPC?")

    def _failure(self, error: OSError) -> RpcError:
        import requests

        if isinstance(error, requests.ConnectTimeout):
            return Unreachable(f"{self._place}: no connection within {self.timeout:g} seconds. Is the address right?")
        causes = list(_causes(error))
        for kind, exception, text in _FAILURES:
            for cause in causes:
                if isinstance(cause, kind):
                    return exception(f"{self._place}: {text.format(cause=cause, timeout=self.timeout)}")
        reasons = [cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror]
        return Closed(f"{self._place}: {[str(causes[-1]), *reasons][-1]}.")


def _place(url: str) -> str:
    """``url`` as errors show it, without a query, which may be a secret. Raises Unreachable if it is no such URL."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = None
    if not usable:
        raise Unreachable("url: this is no URL of an HTTP server. Write it as https://host:port/.")
    if "@" in parts.netloc:
        raise Unreachable("url: it holds a user name. Use the options url_username and url_password.")
    return urlunsplit(parts._replace(query="", fragment=""))


def password_in(url: str | None) -> str | None:
    """The password that somebody has written into a URL, where it does not belong."""
    try:
        return urlsplit(url or "").password
    except ValueError:
        return None


def _session(credentials: tuple[str, str] | None) -> requests.Session:
    """Raises Unreachable without the package requests."""
    try:
        import requests
    except ImportError:
        reason = "for engines that are reached with the option url"
        raise Unreachable(missing_required_lib("requests", reason=reason)) from None
    session = requests.Session()
    # Neither credentials of a .netrc nor proxies nor authorities that the task does not name.
    session.trust_env = False
    session.headers["Content-Type"] = "application/json"
    if credentials is not None:
        user, password = credentials
        session.auth = requests.auth.HTTPBasicAuth(user.encode(), password.encode())
    return session


def _json_rpc(content: bytes) -> t.Any:
    """The JSON-RPC response in ``content``, None if it is something else."""
    try:
        answer = json.loads(content)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and ("result" in answer or "error" in answer) else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what it was made of, outermost first: requests and urllib3 each wrap what they caught."""
    queue: list[BaseException] = [error]
    seen: set[int] = set()
    while queue:
        each = queue.pop(0)
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            inside = (*each.args, getattr(each, "reason", None), each.__cause__, each.__context__)
            queue += [cause for cause in inside if isinstance(cause, BaseException)]


_REFUSED: t.Final = {
    401: "the server does not accept these credentials. Check url_username and url_password.",
    403: "the server does not allow this user to use it. Check url_username, or what the server grants the user.",
}

_ADVICE: t.Final = {
    # hundreds of the status: what to do
    3: "Redirects are not followed; name the address that it moved to.",
    5: "See whether the engine behind it runs, and the log of the server.",
}


def _advice(status: int) -> str:
    return _ADVICE.get(status // 100, "Is this the address of a target's RPC?")


def _status(status: int) -> str:
    try:
        return f"{status} ({http.HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)


_FAILURES: t.Final[tuple[tuple[type[BaseException], type[RpcError], str], ...]] = (
    # what happened at the bottom of it, what it is for the caller, in words; the first that fits
    (
        ssl.SSLCertVerificationError,
        Unreachable,
        (
            "its certificate is not trusted ({cause.verify_message}). "
            "Name the file of its authority in ca_path, or turn validate_certs off."
        ),
    ),
    (ssl.SSLError, Unreachable, "TLS failed ({cause.reason}). Is this an https port?"),
    (
        socket.gaierror,
        Unreachable,
        "there is no host of this name. Check the name, and the resolver of this host.",
    ),
    (ConnectionRefusedError, Unreachable, "nobody listens there. Start the HTTP server in front of the engine."),
    (
        ConnectionError,
        Closed,
        "the server closed the connection without an answer. See whether the engine behind it runs.",
    ),
    (
        socket.timeout,
        TimedOut,
        (
            "no answer within {timeout:g} seconds. "
            "The request may still be carried out; a longer timeout gives it more time."
        ),
    ),
)
