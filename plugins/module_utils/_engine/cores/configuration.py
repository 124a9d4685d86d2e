# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The live configuration as calls that make a worker like the main process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from ..bdev.aio import AioBdev
from ..bdev.malloc import MallocBdev
from ..rpc.method import Spread, State
from ..rpc.methods.worker import stand_ins
from .host import Call

if TYPE_CHECKING:
    from ..service import Engine

_MAKE: Final = frozenset({"bdev_malloc_create", "bdev_aio_create", "bdev_uring_create"})
"""What they make workers have in common with the main process."""
_ATTACH: Final = "bdev_nvme_attach_controller"


def calls_of(engine: Engine) -> Iterator[Call]:
    yield Call("log_set_level", {"level": engine.logs.level})
    yield from (Call("log_set_flag", {"flag": name}) for name, is_set in engine.logs.flags.items() if is_set)
    sections = engine.configuration()
    for phase in (State.STARTUP, State.RUNTIME):
        for section in sections:
            for method, params in section.entries or ():
                row = engine.dispatcher.methods[method]
                early = State.STARTUP in row.state
                if early is not (phase is State.STARTUP):
                    continue
                if method == _ATTACH and params is not None:
                    yield from (Call(*call) for call in stand_ins(engine, params["name"]))
                elif row.reach is Spread.EVERYWHERE:
                    descriptor = descriptor_of(engine, method, params)
                    yield Call(method, params, descriptor, "STARTUP" if early else "RUNTIME")


def descriptor_of(engine: Engine, method: str, params: Mapping[str, Any] | None) -> int | None:
    """A descriptor that goes with a call; it is the bdev's."""
    if method not in _MAKE or params is None:
        return None
    bdev = engine.bdevs.get(params["name"])
    if isinstance(bdev, AioBdev):
        return bdev.descriptor
    return bdev.shared if isinstance(bdev, MallocBdev) else None
