# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a decoded JSON-RPC request to its answer: envelope, method table, states, parameters, errors.

Knows nothing of sockets, so that every transport and the configuration loader go through the same door.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import Any, Final, NamedTuple, Protocol

from ..errors import EngineError, NoDevice, NotFound
from .method import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    WRONG_STATE,
    Errors,
    Method,
    Order,
    RpcError,
    Spread,
    State,
)
from .schema import Mismatch, decode_object

_LOG = logging.getLogger(__name__)

_TOO_EARLY: Final = "Method may only be called after framework is initialized using framework_start_init RPC."
_TOO_LATE: Final = (
    "Method may only be called before framework is initialized. Use --wait-for-rpc command line parameter and then "
    "issue this RPC before the framework_start_init RPC."
)
_REQUEST_KEYS: Final = frozenset({"jsonrpc", "method", "params", "id"})


class Reply(NamedTuple):
    """``answer`` is None when nothing is to be sent; ``changed`` tells that first workers have to follow, and the
    configuration has to be saved."""

    answer: dict[str, Any] | None
    changed: bool = False
    number: int = 0
    """Of the change, where workers follow it by itself."""


class Memory:
    """What the dispatcher tells about objects that come and go; persistence overrides it."""

    def made(self, kind: str, key: Any, *part: Any) -> None:
        """An object, or a part of it, exists now because somebody asked for it."""

    def forget(self, kind: str, key: Any, *part: Any) -> bool:
        """Drop what is only remembered, not live, of an object or a part of it; True if there was something."""
        del kind, key, part
        return False

    def hint(self, kind: str, key: Any) -> str:
        """Why an object that somebody misses is not there, as a sentence, or nothing."""
        del kind, key
        return ""


class Workers(Protocol):
    """The processes that follow what is changed here."""

    def follow(self, method: Method, params: Any, result: Any) -> int:
        """A call succeeded. Gives the number of the change; 0 when it gets one together with others, or has none."""

    async def gather(self, method: Method, params: Any, result: Any) -> Any:
        """The answer that is made of the result here and those of the workers."""


class Dispatcher:
    """The method table and the state that decides which rows may be called."""

    def __init__(self, owner: Any, methods: Iterable[Method], memory: Memory | None = None) -> None:
        self.state = State.STARTUP
        self.called: set[str] = set()
        """Methods that were called in STARTUP."""
        self.workers: Workers | None = None
        self._owner = owner
        self._memory = memory or Memory()
        self._alone: asyncio.Event | None = None
        self._under_way = 0
        """Changes that take time and are not done yet."""
        self._settled = asyncio.Event()
        self._methods: dict[str, Method] = {method.name: method for method in methods}

    @property
    def methods(self) -> dict[str, Method]:
        return self._methods

    def order_of(self, request: Any) -> Order:
        method = self._methods.get(request.get("method")) if _is_plain_call(request) else None
        return method.order if method else Order.SEQUENTIAL

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """For a change that consists of many: those of others wait for its end, after those under way came to theirs.

        Inside, :meth:`begin_inside` makes changes.
        """
        self._under_way -= 1  # the caller's own
        try:
            while self._alone is not None:
                await self._alone.wait()
            self._alone = asyncio.Event()
            try:
                while self._under_way:
                    self._settled.clear()
                    await self._settled.wait()
                yield
            finally:
                self._alone.set()
                self._alone = None
        finally:
            self._under_way += 1

    def begin(self, request: Any) -> Reply | Awaitable[Reply]:
        """Start one request (not a batch). Never raises."""
        if self._alone is not None and self._changes(request):
            return self._begin_later(request)
        return self.begin_inside(request)

    def _changes(self, request: Any) -> bool:
        method = self._methods.get(request.get("method")) if _is_plain_call(request) else None
        return method is not None and method.is_change

    async def _begin_later(self, request: Any) -> Reply:
        while self._alone is not None:
            await self._alone.wait()
        reply = self.begin_inside(request)
        return reply if isinstance(reply, Reply) else await reply

    def begin_inside(self, request: Any) -> Reply | Awaitable[Reply]:
        """:meth:`begin` for whoever is :meth:`alone`."""
        identity = _identity(request)
        try:
            name, params = _open_envelope(request)
            method, result = self._start(name, params, self.state)
        except RpcError as error:
            return Reply(_error(identity, error))
        if isinstance(result, _Failed):
            return self._failed(identity, method, result.error, params)
        if self.workers is not None and method.reach is Spread.GATHERED:
            return self._finish(identity, method, self.workers.gather(method, params, result), params)
        if inspect.isawaitable(result):
            if not method.is_change:
                return self._finish(identity, method, result, params)
            self._under_way += 1
            return self._finish_change(identity, method, result, params)
        return self._done(identity, method, result, params)

    def check(self, name: str, params: Any) -> Method:
        """The method, when it may be called now with these parameters. Raises RpcError."""
        method = self._allowed(name, self.state)
        _arguments(method, params)
        return method

    async def call(self, name: str, params: Any = None, state: State | None = None) -> Any:
        """Run one method of a configuration, as if in ``state``, and give its result. Raises RpcError.

        It supersedes nothing that is remembered: that belongs to the same configuration.
        """
        method, result = self._start(name, params, state or self.state)
        try:
            if isinstance(result, _Failed):
                raise result.error
            result = await result if inspect.isawaitable(result) else result
        except Exception as error:
            # Without a hint at what is remembered: that is where this call comes from.
            raise self._translate(method, error, None) from error
        self._tell_workers(method, params, result)
        return result

    def _allowed(self, name: str, state: State) -> Method:
        method = self._methods.get(name)
        if method is None:
            raise RpcError(METHOD_NOT_FOUND, f"Method not found: {name[:128]}")
        if not method.state & state:
            raise RpcError(WRONG_STATE, _TOO_EARLY if state is State.STARTUP else _TOO_LATE)
        return method

    def _start(self, name: str, params: Any, state: State) -> tuple[Method, Any]:
        method = self._allowed(name, state)
        arguments = _arguments(method, params)
        if state is State.STARTUP:
            self.called.add(name)
        try:
            return method, method.handler(self._owner, **arguments)
        except Exception as error:
            return method, _Failed(error)

    async def _finish(self, identity: Any, method: Method, running: Awaitable[Any], params: Any) -> Reply:
        try:
            result = await running
        except asyncio.CancelledError:
            raise
        except Exception as error:
            return self._failed(identity, method, error, params)
        return self._done(identity, method, result, params)

    async def _finish_change(self, identity: Any, method: Method, running: Awaitable[Any], params: Any) -> Reply:
        try:
            return await self._finish(identity, method, running, params)
        finally:
            self._under_way -= 1
            self._settled.set()

    def _tell_workers(self, method: Method, params: Any, result: Any) -> int | None:
        """The number of the change; None when they have nothing to follow."""
        if self.workers is None or method.reach is not Spread.EVERYWHERE:
            return None
        return self.workers.follow(method, params, result)

    def _done(self, identity: Any, method: Method, result: Any, params: Any) -> Reply:
        """The handler came to its end."""
        number = self._tell_workers(method, params, result)
        reply = self._succeeded(identity, method, result, params)
        return reply if number is None else reply._replace(changed=True, number=number)

    def _succeeded(self, identity: Any, method: Method, result: Any, params: Any) -> Reply:
        if method.subject:
            note = self._memory.forget if method.subject.removes else self._memory.made
            note(*method.subject.identity(params))
        answer = None if identity is None else {"jsonrpc": "2.0", "id": identity, "result": result}
        return Reply(answer, method.mutates)

    def _failed(self, identity: Any, method: Method, error: Exception, params: Any) -> Reply:
        subject = method.subject
        if subject and subject.removes and isinstance(error, (NotFound, NoDevice)):
            remembered = self._memory.forget(*subject.identity(params))
            if remembered:
                return self._succeeded(identity, method, True, params)
        translated = self._translate(method, error, params)
        # A handler that broke in the middle may have changed something all the same.
        changed = method.mutates and not isinstance(error, (EngineError, RpcError))
        return Reply(_error(identity, translated), changed)

    def _translate(self, method: Method, error: Exception, params: Any) -> RpcError:
        if isinstance(error, RpcError):
            return error
        if isinstance(error, OSError):
            _LOG.warning("%s met an operating system error", method.name, exc_info=error)
            error = EngineError.from_os(error, method.name)
        if not isinstance(error, EngineError):
            _LOG.error("%s failed because of a bug; the engine goes on", method.name, exc_info=error)
            what = f"{method.name}: {type(error).__name__}; the engine's log has the details"
            return RpcError(INTERNAL_ERROR, f"Internal error: {what}")
        return self._engine_error(method, error, params)

    def _engine_error(self, method: Method, error: EngineError, params: Any) -> RpcError:
        reason = os.strerror(error.errno)
        detail = str(error)
        if method.subject and params is not None and isinstance(error, (NotFound, NoDevice)):
            detail += self._memory.hint(method.subject.kind, params.get(method.subject.key))
        if method.errors is Errors.AS_INVALID_PARAMS:
            return RpcError(INVALID_PARAMS, f"{error.words or 'Invalid parameters'}: {detail}")
        if detail.endswith(f": {reason}"):
            detail = detail[: -len(reason) - 2]
        return RpcError(-error.errno, f"{error.words or reason}: {detail}")


class _Failed(NamedTuple):
    error: Exception


def error_answer(code: int, message: str, identity: Any = None) -> dict[str, Any]:
    return _error(identity, RpcError(code, message))


def _error(identity: Any, error: RpcError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "error": {"code": error.code, "message": error.message}}


def _is_plain_call(request: Any) -> bool:
    return isinstance(request, dict) and isinstance(request.get("method"), str)


def _identity(request: Any) -> Any:
    """The id to answer with; None, which is also what a notification has, when there is no valid one."""
    identity = request.get("id") if isinstance(request, dict) else None
    return identity if type(identity) in _IDENTITY_TYPES else None


def _open_envelope(request: Any) -> tuple[str, Any]:
    """Method name and parameters of a request. Raises RpcError."""
    if not isinstance(request, dict):
        raise RpcError(INVALID_REQUEST, "Invalid request: a request is an object or an array of objects")
    repeated = getattr(request, "key", None)
    for wrong, message in (
        (repeated is not None, f"{repeated} is given more than once"),
        (type(request.get("id")) not in _IDENTITY_TYPES, "id is a string, a number or null"),
        (not request.keys() <= _REQUEST_KEYS, f"a request has no keys but {', '.join(sorted(_REQUEST_KEYS))}"),
        (request.get("jsonrpc", "2.0") != "2.0", "jsonrpc, when given, is 2.0"),
        (not isinstance(request.get("method"), str), "method is missing or not a string"),
        (not isinstance(request.get("params"), (dict, list, type(None))), "params is an object, an array or null"),
    ):
        if wrong:
            raise RpcError(INVALID_REQUEST, f"Invalid request: {message}")
    return request["method"], request.get("params")


_IDENTITY_TYPES: Final = (str, int, float, type(None))


def _arguments(method: Method, params: Any) -> dict[str, Any]:
    if method.params is None:
        if params is not None:
            raise RpcError(INVALID_PARAMS, method.takes_nothing.format(name=method.name))
        return {}
    if params is None and not any(field.required for field in method.params.values()):
        params = {}
    try:
        return decode_object(method.params, params)
    except Mismatch as mismatch:
        raise RpcError(method.refusal.code, f"{method.refusal.text}: {mismatch}") from None
