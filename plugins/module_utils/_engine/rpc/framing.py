# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cutting a byte stream of bare concatenated JSON values into values, in linear time.

SPDK's requests have no delimiter: a client may send several values at once, one value in many pieces, or pretty-printed
text without a newline at its end. The splitter only follows strings and brackets; ``decode`` does the real parsing.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

MAX_REQUEST_BYTES: Final = 64 * 1024 * 1024
MAX_DEPTH: Final = 64
"""Nesting of arrays and objects, as in SPDK."""

_VALUE_START = re.compile(rb"[^ \t\r\n]")
_STRUCTURE = re.compile(rb'([{\[])|([}\]])|(?:"[^"\\]*"[^"{}\[\]]*)+|(")')
_STRINGS, _OPENED, _CLOSED, _LONE_QUOTE = range(4)  # which group of _STRUCTURE matched
_STRING_STOP = re.compile(rb'["\\]')
_SCALAR_STOP = re.compile(rb'[ \t\r\n{}\[\]",:]')
_SCALAR_FIRST: Final = frozenset(b"-0123456789tfn")
_QUOTE, _BACKSLASH, _OBJECT, _ARRAY = b'"\\{['
_OPENING: Final = frozenset(b"{[")
_MAX_NUMBER_LENGTH: Final = 64


class NotJson(ValueError):
    """Text that is not one JSON value; the message says where and why."""


class Repeated(dict[str, Any]):
    """An object in which a key came twice; ``key`` is the first such key."""

    key: str = ""


class Splitter:
    """Feed pieces, get the complete values; ``error`` says why nothing more will come."""

    def __init__(self, limit: int = MAX_REQUEST_BYTES) -> None:
        self.error: str | None = None
        self._limit = limit
        self._buffer = bytearray()
        self._scanned = 0
        self._in_value = False
        self._in_string = False
        self._in_scalar = False
        self._depth = 0

    @property
    def unfinished(self) -> bool:
        """Whether a value has begun and not ended."""
        return self._in_value

    def feed(self, piece: bytes) -> list[bytes]:
        """Take the next bytes of the stream; gives the values that they complete, each as its own text."""
        if self.error is not None:
            return []
        self._buffer += piece
        values: list[bytes] = []
        start = 0
        while self.error is None:
            if not self._in_value:
                begin = _VALUE_START.search(self._buffer, self._scanned)
                if begin is None:
                    start = self._scanned = len(self._buffer)
                    break
                start = begin.start()
                self._open(self._buffer[start], start + 1)
            elif self._scan() and self.error is None:
                values.append(bytes(self._buffer[start : self._scanned]))
                self._in_value = False
                start = self._scanned
            else:
                if len(self._buffer) - start > self._limit:
                    self.error = f"a request of more than {self._limit} bytes"
                break
        del self._buffer[:start]
        self._scanned -= start
        return values

    def _open(self, first: int, position: int) -> None:
        self._in_value = True
        self._in_string = first == _QUOTE
        self._in_scalar = first in _SCALAR_FIRST
        self._depth = 1 if first in _OPENING else 0
        self._scanned = position
        if not (self._depth or self._in_string or self._in_scalar):
            self.error = f"no JSON value begins with byte 0x{first:02x}"

    def _scan(self) -> bool:
        """Go on until the value ends (True) or the buffer does (False)."""
        if self._in_scalar:
            stop = _SCALAR_STOP.search(self._buffer, self._scanned)
            self._scanned = len(self._buffer) if stop is None else stop.start()
            return stop is not None
        while self._scanned < len(self._buffer):
            if self._in_string:
                if not self._scan_string():
                    return False
                if not self._depth:
                    return True
            elif self._scan_structure():
                return True
        return False

    def _scan_string(self) -> bool:
        """Go on inside a string; True when it ended."""
        buffer, position, end = self._buffer, self._scanned, len(self._buffer)
        while position < end:
            stop = _STRING_STOP.search(buffer, position)
            if stop is None:
                position = end
                break
            at = stop.start()
            if buffer[at] == _QUOTE:
                self._scanned = at + 1
                self._in_string = False
                return True
            if at + 1 == end:  # the escaped byte has not come yet
                position = at
                break
            position = at + 2
        self._scanned = position
        return False

    def _scan_structure(self) -> bool:
        """Go on between strings; True when the outermost bracket closed, False at a string's beginning or the end."""
        # One token is one bracket, or as many whole strings as come without a bracket between them: few tokens, few
        # turns of this loop.
        depth = self._depth
        token = None
        for token in _STRUCTURE.finditer(self._buffer, self._scanned):
            group = token.lastindex or _STRINGS
            if group == _OPENED:
                depth += 1
                if depth > MAX_DEPTH:
                    self.error = f"arrays and objects nested deeper than {MAX_DEPTH}"
                    break
            elif group == _CLOSED:
                depth -= 1
                if not depth:
                    break
            elif group == _LONE_QUOTE:
                self._in_string = True
                break
        self._depth = depth
        stopped = token is not None and (self._in_string or not depth)
        self._scanned = token.end() if token is not None and stopped else len(self._buffer)
        return not depth or self.error is not None


def decode(text: bytes) -> Any:
    """Parse one JSON value strictly (RFC 8259); an object with a repeated key becomes :class:`Repeated`.

    Raises NotJson.
    """
    try:
        return _DECODER.decode(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise NotJson("nested too deeply") from error
    except json.JSONDecodeError as error:
        raise NotJson(f"line {error.lineno} column {error.colno}: {error.msg}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    names = [name for name, _value in pairs]
    repeated = Repeated(values)
    repeated.key = next(name for index, name in enumerate(names) if name in names[:index])
    return repeated


def _integer(text: str) -> int:
    if len(text) > _MAX_NUMBER_LENGTH:
        raise NotJson(f"a number of {len(text)} digits")
    return int(text)


def _number(text: str) -> float:
    value = float(text) if len(text) <= _MAX_NUMBER_LENGTH else math.inf
    if math.isinf(value):
        raise NotJson(f"number {text[:_MAX_NUMBER_LENGTH]} is out of range")
    return value


def _no_constant(text: str) -> None:
    raise NotJson(f"{text} is not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_no_constant
)
