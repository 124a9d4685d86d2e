# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP server for tests that behaves like SPDK's rpc_http_proxy.py: basic authentication, no batches, HTTP/1.0."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

USER, PASSWORD = "operator", "pässword: not for your eyes"
"""A colon and a letter beyond ASCII: what basic authentication can get wrong."""


class Answer(NamedTuple):
    """What the server says; None as content drops the connection."""

    content: bytes | None
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


class Proxy:
    """Serves 127.0.0.1; ``answer`` gets the body of each request, ``requests`` keeps them parsed."""

    def __init__(self, answer: Callable[[bytes], Answer], certificate: Path | None = None) -> None:
        self.requests: list[Any] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                known = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Authorization"] != known:
                    self._send(Answer(b"", 401, (("WWW-Authenticate", "text/html"),)))
                    return
                request = json.loads(body)
                proxy.requests.append(request)
                reply = answer(body)
                # Like its model: a batch is not taken for a request, because the list has no "id".
                if "id" in request and reply.content is not None:
                    self._send(reply)

            def _send(self, reply: Answer) -> None:
                self.send_response(reply.status)
                for name, value in (("Content-type", "text/html"), *reply.headers):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.content or b"")

            def log_message(self, *_words: Any) -> None:
                """Nothing: the tests look at answers."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_where: Any) -> None:
                """A client that does not trust the certificate, or does not wait, is what some tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if certificate is None else "https"
        self.address = f"{scheme}://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
