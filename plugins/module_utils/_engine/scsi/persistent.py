# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RESERVE, RELEASE and PERSISTENT RESERVE IN and OUT (SPC-4 §6.15, §6.16): the commands; the rules are elsewhere."""

from __future__ import annotations

import struct
from typing import Callable, Final, NamedTuple

from ..bdev.base import Buffer
from . import transport_id
from .alua import Access
from .command import Rules
from .device import Task
from .reservations import MAX_REGISTRATIONS, Conflict, Identity, Notices, Reservations, Type
from .sense import (
    InsufficientRegistrationResources,
    InvalidFieldInCdb,
    InvalidFieldInParameters,
    ParameterListLengthError,
)

LONGEST_LIST: Final = 8192
RULES: Final = Rules(Conflict.RESERVE, Access.STANDBY)

_LIST = struct.Struct(">QQ4xBxxx")
_MOVE = struct.Struct(">QQxBHL")
_SPEC_I_PT, _ALL_TG_PT, _APTPL, _UNREGISTER = 0x08, 0x04, 0x01, 0x02
_CAPABILITIES: Final = 0x10 | _SPEC_I_PT | _ALL_TG_PT  # CRH, SIP_C, ATP_C
_TYPE_MASK: Final = 0xEA01
_HOLDER: Final = 0x01


# -- RESERVE and RELEASE


def reserve_6(task: Task) -> None:
    """RESERVE(6): the whole unit for this nexus."""
    if task.cdb[1] & 0x11:
        raise InvalidFieldInCdb(byte=1, bit=4)  # third party, extents
    _reserve_unit(task)


def reserve_10(task: Task) -> None:
    if task.cdb[1] & 0x13:
        raise InvalidFieldInCdb(byte=1, bit=4)
    _reserve_unit(task)


def _reserve_unit(task: Task) -> None:
    state = task.unit.state
    state.reservations.reserve_unit(task.nexus.identity)
    state.refresh()


def release_6(task: Task) -> None:
    """RELEASE(6), and (10), which is the same for a whole unit."""
    state = task.unit.state
    state.reservations.release_unit(task.nexus.identity)
    state.refresh()


release_10 = release_6


# -- PERSISTENT RESERVE IN


def _cut(task: Task, data: bytes) -> bytes:
    return data[: int.from_bytes(task.cdb[7:9], "big")]


def _read_keys(task: Task) -> Buffer:
    reservations = task.unit.state.reservations
    keys = b"".join(struct.pack(">Q", key) for key in reservations.registrants.values())
    return _cut(task, struct.pack(">LL", reservations.generation, len(keys)) + keys)


def _read_reservation(task: Task) -> Buffer:
    reservations = task.unit.state.reservations
    if reservations.type is None or reservations.holder is None:
        return _cut(task, struct.pack(">LL", reservations.generation, 0))
    key = 0 if reservations.type.for_all else reservations.registrants[reservations.holder]
    return _cut(task, struct.pack(">LLQ5xBxx", reservations.generation, 16, key, reservations.type))


def _report_capabilities(task: Task) -> Buffer:
    state = task.unit.state
    lasting = 1 if task.nexus.device.units.store is not None else 0
    active = 1 if state.reservations.aptpl else 0
    return _cut(task, struct.pack(">HBBHxx", 8, _CAPABILITIES | lasting, 0x80 | active, _TYPE_MASK))


def _read_full_status(task: Task) -> Buffer:
    reservations = task.unit.state.reservations
    found = []
    for who, key in reservations.registrants.items():
        holds = reservations.holds(who)
        kind = reservations.type if holds and reservations.type else 0
        port = transport_id.encode(who.initiator_port)
        flags = _HOLDER if holds else 0
        found.append(struct.pack(">Q4xBB4xHL", key, flags, kind, who.relative_port, len(port)) + port)
    body = b"".join(found)
    return _cut(task, struct.pack(">LL", reservations.generation, len(body)) + body)


IN: Final[tuple[tuple[int, str, Callable[[Task], Buffer]], ...]] = (
    (0x00, "READ KEYS", _read_keys),
    (0x01, "READ RESERVATION", _read_reservation),
    (0x02, "REPORT CAPABILITIES", _report_capabilities),
    (0x03, "READ FULL STATUS", _read_full_status),
)


# -- PERSISTENT RESERVE OUT


class _Order(NamedTuple):
    """What a PERSISTENT RESERVE OUT asks for."""

    task: Task
    reservations: Reservations
    who: Identity
    key: int
    action_key: int
    flags: int
    data: bytes

    @property
    def aptpl(self) -> bool:
        return bool(self.flags & _APTPL)

    def type(self) -> Type:
        """Raises InvalidFieldInCdb for a type or scope there is not."""
        scope, kind = self.task.cdb[2] >> 4, self.task.cdb[2] & 0x0F
        if scope:
            raise InvalidFieldInCdb(byte=2, bit=7)
        try:
            return Type(kind)
        except ValueError:
            raise InvalidFieldInCdb(byte=2, bit=3) from None


def _register(order: _Order, ignore: bool = False) -> Notices:
    registered = order.who in order.reservations.registrants
    ports = [order.who]
    if order.flags & _SPEC_I_PT:
        if ignore or registered:
            raise InvalidFieldInParameters(byte=20, bit=3)
        ports += _named_ports(order)
    if order.flags & _ALL_TG_PT:
        ports = [each for port in ports for each in order.task.nexus.device.identities(port.initiator_port)]
    if len(order.reservations.registrants) + len(ports) > MAX_REGISTRATIONS:
        raise InsufficientRegistrationResources()
    return order.reservations.register(order.who, ports, order.key, order.action_key, ignore, order.aptpl)


def _register_and_ignore(order: _Order) -> Notices:
    return _register(order, ignore=True)


def _named_ports(order: _Order) -> list[Identity]:
    """The initiator ports that SPEC_I_PT registers too, each with the target port of the command."""
    names = transport_id.decode_list(order.data[24:])
    if not names:
        raise InvalidFieldInParameters(byte=24)
    own = order.who
    return [Identity(name, own.target_port, own.relative_port) for name in names if name != own.initiator_port]


def _reserve(order: _Order) -> Notices:
    order.reservations.reserve(order.who, order.key, order.type())
    return {}


def _release(order: _Order) -> Notices:
    return order.reservations.release(order.who, order.key, order.type())


def _clear(order: _Order) -> Notices:
    return order.reservations.clear(order.who, order.key)


def _preempt(order: _Order) -> Notices:
    return order.reservations.preempt(order.who, order.key, order.action_key, order.type())


def _preempt_and_abort(order: _Order) -> Notices:
    """What those who lose their registration have under way is aborted (SPC-4 §5.12.11.5)."""
    before = set(order.reservations.registrants)
    notices = _preempt(order)
    order.task.unit.state.abort(before - set(order.reservations.registrants))
    return notices


def _move(order: _Order) -> Notices:
    if len(order.data) < _MOVE.size:
        raise ParameterListLengthError()
    key, new, flags, port, length = _MOVE.unpack_from(order.data)
    if len(order.data) != _MOVE.size + length:
        raise ParameterListLengthError()
    name = transport_id.decode(order.data[_MOVE.size :])
    device = order.task.nexus.device
    to = next((each for each in device.identities(name) if each.relative_port == port), None)
    if to is None or to == order.who:
        raise InvalidFieldInParameters(byte=18 if to is None else 24)
    aptpl, unregister = bool(flags & _APTPL), bool(flags & _UNREGISTER)
    order.reservations.move(order.who, key, to, new, unregister, aptpl)
    return {}


_ACTIONS: Final[dict[int, tuple[str, Callable[[_Order], Notices]]]] = {
    0x00: ("REGISTER", _register),
    0x01: ("RESERVE", _reserve),
    0x02: ("RELEASE", _release),
    0x03: ("CLEAR", _clear),
    0x04: ("PREEMPT", _preempt),
    0x05: ("PREEMPT AND ABORT", _preempt_and_abort),
    0x06: ("REGISTER AND IGNORE EXISTING KEY", _register_and_ignore),
    0x07: ("REGISTER AND MOVE", _move),
}
OUT: Final = tuple((action, name) for action, (name, _handler) in _ACTIONS.items())
_MOVES: Final = 0x07
_REGISTERS: Final = frozenset({0x00, 0x06})


async def out(task: Task) -> None:
    """PERSISTENT RESERVE OUT. It is answered when what has to survive a power loss is on stable storage, and the rest
    where it survives this process."""
    action = task.cdb[1] & 0x1F
    data = bytes(task.data_out)
    if len(data) < _LIST.size:
        raise ParameterListLengthError()
    key, action_key, flags = _LIST.unpack_from(data)
    if action == _MOVES:
        flags = data[17] & _APTPL
    else:
        _check_length(action, data, flags)
    state, store = task.unit.state, task.nexus.device.units.store
    if flags & _APTPL and store is None:
        raise InvalidFieldInParameters(byte=20, bit=0)
    reservations = state.reservations
    saved = reservations.saved()
    order = _Order(task, reservations, task.nexus.identity, key, action_key, flags, data)
    notices = _ACTIONS[action][1](order)
    kept = state.changed()
    state.notify(notices)
    if store is not None and reservations.saved() != saved:
        await store.save(state.bdev.uuid, reservations.saved())
    if kept is not None:
        await kept


def _check_length(action: int, data: bytes, flags: int) -> None:
    if action in _REGISTERS and flags & _SPEC_I_PT:
        if len(data) < 28 or len(data) != 28 + int.from_bytes(data[24:28], "big"):
            raise ParameterListLengthError()
    elif len(data) != _LIST.size:
        raise ParameterListLengthError()
