# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MODE SELECT (SPC-4 §6.9, §6.10): mode parameters that take effect for everybody at once."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Callable, Final

from .device import Task
from .mode import CACHING, CONTROL, D_SENSE, PAGES, SWP, WCE, block_descriptor
from .sense import InvalidFieldInCdb, InvalidFieldInParameters, ModeParametersChanged, ParameterListLengthError
from .unit import LogicalUnit, Modes

_PAGE_FORMAT, _SAVE = 0x10, 0x01


def _set_caching(modes: Modes, body: bytes) -> Modes:
    return modes._replace(write_cache=bool(body[0] & WCE))


def _set_control(modes: Modes, body: bytes) -> Modes:
    return modes._replace(descriptor_sense=bool(body[0] & D_SENSE), write_protected=bool(body[2] & SWP))


_SET: Final[dict[int, Callable[[Modes, bytes], Modes]]] = {CACHING: _set_caching, CONTROL: _set_control}


def select_6(task: Task) -> Awaitable[None] | None:
    """MODE SELECT(6)."""
    return _select(task, header=4, descriptors=slice(3, 4), long_lba=None)


def select_10(task: Task) -> Awaitable[None] | None:
    """MODE SELECT(10)."""
    return _select(task, header=8, descriptors=slice(6, 8), long_lba=4)


def _select(task: Task, header: int, descriptors: slice, long_lba: int | None) -> Awaitable[None] | None:
    if not task.cdb[1] & _PAGE_FORMAT:
        raise InvalidFieldInCdb(byte=1, bit=4)
    if task.cdb[1] & _SAVE:
        raise InvalidFieldInCdb(byte=1, bit=0)
    data, lun = bytes(task.data_out), task.unit
    if not data:
        return None
    if len(data) < header:
        raise ParameterListLengthError()
    size = int.from_bytes(data[descriptors], "big")
    _check_descriptor(lun, data[header : header + size], size, long_lba is not None and bool(data[long_lba] & 0x01))
    modes = _changed(lun.state.modes, data, header + size)
    if modes == lun.state.modes:
        return None
    lun.state.modes = modes
    lun.state.tell_others(task.nexus, ModeParametersChanged)
    return lun.state.changed()


def _check_descriptor(lun: LogicalUnit, given: bytes, size: int, long_lba: bool) -> None:
    """The block descriptor may only say what is so, or 0 blocks for no change."""
    if not size:
        return
    ours = block_descriptor(lun, long_lba)
    if size != len(ours) or len(given) != size:
        raise ParameterListLengthError()
    blocks = 8 if long_lba else 4
    if given[blocks:] != ours[blocks:] or (any(given[:blocks]) and given[:blocks] != ours[:blocks]):
        raise InvalidFieldInParameters(byte=len(given))


def _changed(modes: Modes, data: bytes, at: int) -> Modes:
    """All pages or none. Raises ParameterListLengthError or InvalidFieldInParameters."""
    while at < len(data):
        if len(data) - at < 2:
            raise ParameterListLengthError()
        code, length = data[at] & 0x3F, data[at + 1]
        page = PAGES.get(code)
        if page is None or data[at] & 0x40:
            raise InvalidFieldInParameters(byte=at, bit=5)
        body, current = data[at + 2 : at + 2 + length], page.current(modes)
        if length != len(current):
            raise InvalidFieldInParameters(byte=at + 1)
        if len(body) != length:
            raise ParameterListLengthError()
        for index, (new, old, mask) in enumerate(zip(body, current, page.changeable)):
            if (new ^ old) & ~mask & 0xFF:
                raise InvalidFieldInParameters(byte=at + 2 + index)
        setter = _SET.get(code)
        if setter is not None:
            modes = setter(modes, body)
        at += 2 + length
    return modes
