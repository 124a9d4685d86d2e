# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of aio bdevs for an engine that serves them as they are: here, on its host, they are made, grown and removed.

To the planner and the executor such an engine looks like one that does it by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from .._engine.bdev.backing import open_backing, remove_file
from .._engine.errors import EngineError
from .._rpc import Call, CallError
from .reader import Client

_MAKE, _GROW, _DELETE, _RESCAN = "bdev_aio_create", "bdev_aio_resize", "bdev_aio_delete", "bdev_aio_rescan"


class HostFiles:
    """A client on the host of its engine. It leaves the files to an engine that has bdev_aio_resize."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.keeps_files = False

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        result = self._client.call(method, params)
        if method == "rpc_get_methods":
            self.keeps_files = _GROW not in result and _RESCAN in result
        return result

    def call_batch(self, calls: Sequence[Call]) -> list[Any]:
        if not self.keeps_files:
            return self._client.call_batch(calls)
        files = [_File(self._client, call) for call in calls]
        answers = iter(self._client.call_batch([file.call for file in files if file.call is not None]))
        return [file.outcome if file.call is None else file.finish(next(answers)) for file in files]


class _File:
    """What a call means for a file: something before it is sent, something after its answer, or nothing.

    ``call`` is what the engine gets; None with the error in ``outcome`` if the file could not be made ready.
    """

    def __init__(self, client: Client, call: Call) -> None:
        self.call: Call | None = call
        self.outcome: Any = None
        self._client = client
        self._made: str | None = None
        self._unwanted: str | None = None
        prepare = _PREPARATIONS.get(call.method)
        if prepare is None:
            return
        try:
            self.call = prepare(self, call.params or {})
        except EngineError as error:
            self.call, self.outcome = None, CallError(-error.errno, str(error), call.method)
        except CallError as error:
            self.call, self.outcome = None, error

    def make(self, params: Mapping[str, Any]) -> Call:
        """The file in its size; one that is new goes again if the engine does not take it."""
        path, size = str(params["filename"]), params.get("size")
        if size is not None:
            is_new = not os.path.exists(path)
            _reach(str(params["name"]), path, size, bool(params.get("sparse")), bool(params.get("readonly")))
            self._made = path if is_new else None
        return Call(_MAKE, {name: value for name, value in params.items() if name not in ("size", "sparse")})

    def grow(self, params: Mapping[str, Any]) -> Call:
        """A file with holes may have more of them."""
        name = str(params["name"])
        path = self._path(name)
        _reach(name, path, params["size"], _has_holes(path), readonly=False)
        return Call(_RESCAN, {"name": name})

    def delete(self, params: Mapping[str, Any]) -> Call:
        name = str(params["name"])
        self._unwanted = self._path(name) if params.get("remove_file") else None
        return Call(_DELETE, {"name": name})

    def finish(self, answer: Any) -> Any:
        """What the caller gets for the engine's answer."""
        failed = isinstance(answer, CallError)
        unwanted = self._made if failed else self._unwanted
        if unwanted is not None and self.call is not None:
            try:
                remove_file(str((self.call.params or {})["name"]), unwanted)
            except EngineError as error:
                return answer if failed else CallError(-error.errno, str(error), self.call.method)
        return answer

    def _path(self, name: str) -> str:
        [bdev] = self._client.call("bdev_get_bdevs", {"name": name})
        return str(bdev["driver_specific"]["aio"]["filename"])


def _has_holes(path: str) -> bool:
    try:
        file = os.stat(path)
    except OSError:
        return False
    return file.st_blocks * _STAT_BLOCK < file.st_size


_STAT_BLOCK: Final = 512
"""Bytes in a block of stat(2)."""


def _reach(name: str, path: str, size: int, sparse: bool, readonly: bool) -> None:
    os.close(open_backing(name, path, readonly, size, sparse).fd)


_PREPARATIONS: Final[Mapping[str, Callable[[_File, Mapping[str, Any]], Call]]] = {
    _MAKE: _File.make,
    _GROW: _File.grow,
    _DELETE: _File.delete,
}
