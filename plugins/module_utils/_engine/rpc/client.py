# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small blocking JSON-RPC client. Imports nothing but the standard library, so that modules can take this file along.

Works with every engine that speaks SPDK's JSON-RPC. The errors say what to do.
"""

from __future__ import annotations

import errno
import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

DEFAULT_TIMEOUT = 60.0
DEFAULT_SOCKET = "/var/tmp/spdk.sock"
_BATCH_VALUES = 6000
_BATCH_BYTES = 128 * 1024
"""SPDK takes 8192 JSON values and 256 KiB a request; a batch stays well below."""


class RpcError(Exception):
    """A call that did not succeed: one sentence, ready to be shown."""

    code: int | None = None
    method: str | None = None

    @property
    def message(self) -> str:
        return str(self)


class Unreachable(RpcError):
    """Nobody answers at the address."""


class TimedOut(RpcError):
    """The engine took longer than the timeout; what was asked for may still happen."""


class Closed(RpcError):
    """The connection ended before the answer."""


class CallError(RpcError):
    """The engine answered with an error: ``code``, ``method`` and the engine's own ``text``."""

    def __init__(self, code: int, text: str, method: str) -> None:
        super().__init__(f"{method}: {text} (code {code})")
        self.code = code
        self.text = text
        self.method = method


class Call(NamedTuple):
    """One method call of a batch."""

    method: str
    params: dict[str, Any] | None = None


class Transport(Protocol):
    """Carries one JSON-RPC document (a request or a batch) there and its answer back."""

    def exchange(self, document: Any) -> Any:
        """Send and wait. Raises RpcError."""

    def close(self) -> None:
        """Give back what the transport holds."""


class UnixTransport:
    """A unix stream socket, connected at the first use and kept."""

    def __init__(self, path: str, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.path = path
        self.timeout = timeout
        self._socket: socket.socket | None = None

    def exchange(self, document: Any) -> Any:
        deadline = time.monotonic() + self.timeout
        try:
            connection = self._connected(deadline)
            connection.settimeout(_left(deadline))
            connection.sendall(json.dumps(document).encode("ascii"))
            return json.loads(self._line(connection, deadline))
        except socket.timeout:
            self.close()
            raise TimedOut(
                f"{self.path}: no answer within {self.timeout:g} seconds. "
                "The request may still be carried out; a longer timeout gives it more time."
            ) from None
        except ValueError as error:
            self.close()
            raise Closed(f"{self.path}: the answer is not JSON ({error}). Is this a target's RPC socket?") from error
        except OSError as error:
            self.close()
            raise Closed(f"{self.path}: connection lost ({error.strerror or error}); see the engine's log.") from error
        except RpcError:
            self.close()
            raise

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self, deadline: float) -> socket.socket:
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(_left(deadline))
                connection.connect(self.path)
            except socket.timeout:
                connection.close()
                raise
            except OSError as error:
                connection.close()
                raise Unreachable(f"{self.path}: {_advice(error)}") from error
            self._socket = connection
        return self._socket

    def _line(self, connection: socket.socket, deadline: float) -> bytes:
        pieces: list[bytes] = []
        while True:
            connection.settimeout(_left(deadline))
            piece = connection.recv(1 << 20)
            if not piece:
                raise Closed(
                    f"{self.path}: the engine closed the connection without an answer. It may have been stopped; "
                    "see its log."
                )
            pieces.append(piece)
            if piece.endswith(b"\n"):
                return b"".join(pieces)


ClientType = TypeVar("ClientType", bound="Client")


class Client:
    """Method calls over a transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._last_id = 0

    def __enter__(self: ClientType) -> ClientType:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """The result of one call. Raises RpcError."""
        request = self._request(Call(method, params))
        answer = self._exchange(request, method)
        return _result(answer, method)

    def call_batch(self, calls: Sequence[Call]) -> list[Any]:
        """Results in the order of ``calls``, sent in as few batches as the engine takes.

        A call that the engine refused has its CallError as result, and those after it are carried out all the same.
        Raises RpcError when the engine does not answer.
        """
        results: list[Any] = []
        for chunk in self._chunks(calls):
            answers = self._exchange([request for _call, request in chunk], chunk[0][0].method)
            if not isinstance(answers, list):
                _result(answers, chunk[0][0].method)  # the engine refused the batch as a whole
                raise Closed("the engine answered a batch with something else")
            by_id = {answer.get("id"): answer for answer in answers if isinstance(answer, dict)}
            for call, request in chunk:
                results.append(_outcome(by_id.get(request["id"]), call.method))
        return results

    def _exchange(self, document: Any, method: str) -> Any:
        try:
            return self._transport.exchange(document)
        except RpcError as error:
            error.method = method
            raise

    def _request(self, call: Call) -> dict[str, Any]:
        self._last_id += 1
        request: dict[str, Any] = {"jsonrpc": "2.0", "id": self._last_id, "method": call.method}
        if call.params:
            request["params"] = call.params
        return request

    def _chunks(self, calls: Sequence[Call]) -> Iterator[list[tuple[Call, dict[str, Any]]]]:
        chunk: list[tuple[Call, dict[str, Any]]] = []
        size = values = 0
        for call in calls:
            request = self._request(call)
            length, count = len(json.dumps(request)), _values_in(request)
            if chunk and (values + count > _BATCH_VALUES or size + length > _BATCH_BYTES):
                yield chunk
                chunk, size, values = [], 0, 0
            chunk.append((call, request))
            size += length
            values += count
        if chunk:
            yield chunk


def _values_in(document: Any) -> int:
    """JSON values as SPDK counts them: names of members, and both ends of an object or array, are values, too."""
    if isinstance(document, dict):
        return 2 + sum(1 + _values_in(each) for each in document.values())
    if isinstance(document, (list, tuple)):
        return 2 + sum(map(_values_in, document))
    return 1


def _result(answer: Any, method: str) -> Any:
    outcome = _outcome(answer, method)
    if isinstance(outcome, CallError):
        raise outcome
    return outcome


def _outcome(answer: Any, method: str) -> Any:
    if not isinstance(answer, dict) or not ("result" in answer or isinstance(answer.get("error"), dict)):
        return CallError(-errno.EPROTO, "the engine gave no answer to this call", method)
    if "result" in answer:
        return answer["result"]
    error = answer["error"]
    return CallError(error.get("code", -errno.EPROTO), error.get("message", "no reason given"), method)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout
    return left


_ADVICE: Mapping[int, str] = {
    errno.ENOENT: "there is no such socket. Start the target engine, or name the socket that it serves.",
    errno.ECONNREFUSED: "nobody listens on this socket. The engine was stopped or died; start it again.",
    errno.EACCES: "no permission to use this socket. Become the user that runs the engine (often root).",
    errno.ENOTSOCK: "this is not a socket. Name the socket that the engine serves.",
    errno.EAGAIN: "the engine has more connections waiting than it accepts. Try again.",
}


def _advice(error: OSError) -> str:
    return _ADVICE.get(error.errno or 0, f"{error.strerror or error}.")
