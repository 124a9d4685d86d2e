# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a row of the method tables says about an RPC method."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, Final, NamedTuple

from ..errors import EngineError
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


@contextlib.contextmanager
def worded(text: str) -> Iterator[None]:
    """Let the answer to an EngineError raised in here begin with SPDK's words for it.

    ``{reason}`` in ``text`` is the system's word for the error.
    """
    try:
        yield
    except EngineError as error:
        error.words = text.replace("{reason}", error.strerror)
        raise


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
    """What a method makes or removes, so that a restored configuration can be told what superseded it.

    That is an object, or a part of one, which is gone when the object is gone.
    """

    kind: str
    key: str
    """The parameter that names the object."""
    removes: bool = False
    part: str = ""
    which: str = ""
    """The parameter that tells one such part of the object from another."""

    def identity(self, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """Kind and key of the object, and for a part of it what identifies that."""
        part = (self.part, params.get(self.which)) if self.part else ()
        return (self.kind, params.get(self.key), *part)


class Refusal(NamedTuple):
    """SPDK's code and text for parameters that do not decode."""

    code: int = INVALID_PARAMS
    text: str = "Invalid parameters"


DECODE_FAILED: Final = Refusal(INTERNAL_ERROR, "spdk_json_decode_object failed")
INVALID_ARGUMENTS: Final = Refusal(INVALID_PARAMS, "Invalid arguments")


class Spread(enum.Enum):
    """Where a method is carried out, when worker processes serve target nodes."""

    MAIN = enum.auto()
    """In the main process alone."""
    EVERYWHERE = enum.auto()
    """In the main process and then, when it succeeded, in all workers."""
    GATHERED = enum.auto()
    """In all of them; one answer is made of the results."""


Calls = Iterable["tuple[str, Mapping[str, Any]]"]
"""Method names with parameters."""


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
    spread: Spread | None = None
    """None: EVERYWHERE for what mutates, MAIN for the rest. See :attr:`reach`."""
    followed_by: Callable[[Any, Mapping[str, Any], Any], Calls] | None = None
    """``(engine, parameters, result)``, after success: the calls by which workers follow, where it is not the same one
    again: because it chose something at random, or changed the host."""
    merge: Callable[[Any, Mapping[int, Any]], Any] | None = None
    """``(engine, results)``: the answer of a GATHERED method; 0 is the main process's result, 1 and so on workers'."""

    @property
    def reach(self) -> Spread:
        return self.spread or (Spread.EVERYWHERE if self.mutates else Spread.MAIN)

    @property
    def is_change(self) -> bool:
        """Whether it changes what is live, saved or not."""
        return self.mutates or self.reach is Spread.EVERYWHERE
