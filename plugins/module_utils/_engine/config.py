# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SPDK's configuration file.

``{"subsystems": [{"subsystem": name, "config": [{"method": name, "params": object}, …] or null}, …]}``
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from .rpc.framing import NotJson, Repeated, decode

# A string, or a comment: what looks like a comment inside a string is none.
_STRING_OR_COMMENT: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_ENTRY_KEYS: Final = frozenset({"method", "params"})


class BadConfig(ValueError):
    """Text that is no configuration; the message says where and why."""


class Entry(NamedTuple):
    """One method call of a configuration; ``params`` is None when it has none."""

    method: str
    params: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return {"method": self.method} if self.params is None else {"method": self.method, "params": self.params}


class Section(NamedTuple):
    """A subsystem's calls in order; None when the subsystem has no configuration."""

    subsystem: str
    entries: list[Entry] | None


def parse(text: bytes, comments: bool = False) -> list[Section]:
    """Read a configuration; an array of calls in the place of one call is a batch and read as its calls.

    Raises BadConfig.
    """
    if not text.strip():
        raise BadConfig("the file is empty")
    if comments:
        text = _STRING_OR_COMMENT.sub(_without_comment, text)
    try:
        document = decode(text)
    except NotJson as error:
        raise BadConfig(f"the file is cut short or not JSON: {error}") from error
    subsystems = document.get("subsystems") if isinstance(document, dict) else None
    if not isinstance(subsystems, list):
        raise BadConfig('the file has no "subsystems" array')
    return [_section(value, index) for index, value in enumerate(subsystems)]


def render(sections: Iterable[Section]) -> Iterator[str]:
    """The configuration as text, a call a line, so that a human can read it and compare two of them."""
    yield '{"subsystems": ['
    for index, section in enumerate(sections):
        head = json.dumps(section.subsystem)
        yield f'{"," if index else ""}\n{{"subsystem": {head}, "config": '
        if section.entries is None:
            yield "null}"
        elif not section.entries:
            yield "[]}"
        else:
            lead = "[\n  "
            for entry in section.entries:
                yield lead + json.dumps(entry.to_json())
                lead = ",\n  "
            yield "\n]}"
    yield "\n]}\n"


def _section(value: Any, index: int) -> Section:
    where = f"subsystems[{index}]"
    name = value.get("subsystem") if isinstance(value, dict) else None
    if not isinstance(name, str):
        raise BadConfig(f'{where} has no "subsystem" name')
    calls = value.get("config")
    if calls is None:
        return Section(name, None)
    if not isinstance(calls, list):
        raise BadConfig(f'{where} ({name}): "config" is neither an array nor null')
    return Section(name, [entry for number, call in enumerate(calls) for entry in _entries(call, f"{name}[{number}]")])


def _entries(call: Any, where: str) -> Iterator[Entry]:
    for one in call if isinstance(call, list) else [call]:
        method = one.get("method") if isinstance(one, dict) else None
        params = one.get("params") if isinstance(one, dict) else None
        if not isinstance(method, str) or not isinstance(params, (dict, type(None))) or not one.keys() <= _ENTRY_KEYS:
            raise BadConfig(f'{where} is not a call: {{"method": name, "params": object}}')
        if isinstance(one, Repeated):
            raise BadConfig(f"{where}: {one.key} is given more than once")
        yield Entry(method, params)


def _without_comment(found: re.Match[bytes]) -> bytes:
    return found.group() if found.group().startswith(b'"') else b" "
