# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a row of the method tables says about an RPC method."""

from __future__ import annotations

import enum
from typing import Any, Callable, Final, NamedTuple

from .schema import Table

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
WRONG_STATE: Final = -1


class RpcError(Exception):
    """An error answer: JSON-RPC's or SPDK's ``code`` and a message that begins with SPDK's text."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class State(enum.Flag):
    """When a method may be called: before framework_start_init, after it, or both."""

    STARTUP = enum.auto()
    RUNTIME = enum.auto()
    BOTH = STARTUP | RUNTIME


class Errors(enum.Enum):
    """How a method answers an EngineError: SPDK's iscsi methods with -32602, most others with -errno."""

    AS_INVALID_PARAMS = enum.auto()
    AS_ERRNO = enum.auto()


class Order(enum.Enum):
    """How the requests of one client that arrived together follow each other, for methods that take time."""

    SEQUENTIAL = enum.auto()
    """Everything before it is finished first, and it is finished before what comes next."""
    CONCURRENT = enum.auto()
    """Goes on beside other concurrent ones; the next sequential one waits for it."""
    DETACHED = enum.auto()
    """Nothing waits for it: it may depend on a later request."""


class Subject(NamedTuple):
    """The object that a method makes or removes, so that a restored configuration can be told what superseded it."""

    kind: str
    key: str
    """The parameter that names it."""
    removes: bool = False


class Refusal(NamedTuple):
    """SPDK's code and text for parameters that do not decode."""

    code: int = INVALID_PARAMS
    text: str = "Invalid parameters"


DECODE_FAILED: Final = Refusal(INTERNAL_ERROR, "spdk_json_decode_object failed")
INVALID_ARGUMENTS: Final = Refusal(INVALID_PARAMS, "Invalid arguments")


class Method(NamedTuple):
    """One row: ``handler(engine, **parameters)`` gives the result, or an awaitable of it."""

    name: str
    handler: Callable[..., Any]
    params: Table | None = None
    """None: the method takes no parameters, not even ``{}``."""
    state: State = State.RUNTIME
    mutates: bool = False
    """Success changes what is saved."""
    errors: Errors = Errors.AS_INVALID_PARAMS
    refusal: Refusal = Refusal()
    takes_nothing: str = "{name} requires no parameters"
    order: Order = Order.SEQUENTIAL
    subject: Subject | None = None
