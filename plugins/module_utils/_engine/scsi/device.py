# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SCSI devices, logical units, I_T nexuses and tasks (SAM-5)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Callable, Final

from ..bdev.base import Bdev, Buffer
from ..bdev.histogram import Histogram
from ..errors import Exists, Invalid, NotFound
from ..facts import MAX_LUN_ID
from .alua import Cause, State
from .reservations import Identity
from .sense import (
    GOOD,
    AccessStateChanged,
    CapacityChanged,
    CommandFailed,
    LunsChanged,
    UnitAttention,
)
from .unit import LogicalUnit, Options, Units
from .use import Use

_FLAT: Final = 0x4000 << 48  # SAM-5 §4.7.4: flat space addressing in the first two bytes of the LUN field
_MAX_ATTENTIONS: Final = 16
_PLAIN: Final = Options()


def target_port(name: str, tag: int) -> str:
    """Of a target node and the portal group of that tag (RFC 7143 §10.4)."""
    return f"{name},t,0x{tag:04x}"


class Device:
    """A SCSI target device: the LUNs of one target node, and the nexuses that use them."""

    def __init__(self, name: str, units: Units | None = None) -> None:
        self.name = name
        self.units = units or Units()
        self.luns: dict[int, LogicalUnit] = {}
        self.by_field: dict[int, LogicalUnit] = {}
        """Logical units by the eight bytes of a LUN field as a number, in either addressing method."""
        self.nexuses: list[Nexus] = []
        self.ports: dict[int, State] = {}
        """Access states of the target port groups, by the tag of their portal group (SPC-4 §5.15)."""
        self.causes: dict[int, Cause] = {}
        """Who changed them."""
        self.made_by = self.units.change
        self.set_by: dict[int, int] = {}
        """By tag the number of the change (see :class:`Units`) that set its access state last."""
        self.histogram: Histogram | None = None
        """Of the time that its commands take, while somebody wants it."""

    def free_lun_id(self) -> int:
        for lun_id in range(MAX_LUN_ID + 1):
            if lun_id not in self.luns:
                return lun_id
        raise Invalid(f"target node {self.name}: all {MAX_LUN_ID + 1} LUNs are taken")

    @property
    def restricts_access(self) -> bool:
        """Some target port group is in a state that does not take every command."""
        return any(state.restricted for state in self.ports.values())

    def identities(self, initiator_port: str) -> list[Identity]:
        """The nexuses of an initiator port with every target port."""
        return [Identity(initiator_port.lower(), target_port(self.name, tag).lower(), tag) for tag in self.ports]

    def set_ports(self, tags: list[int]) -> None:
        """The portal groups by which the device can be reached; a new one is active and optimized.

        Everybody learns that there are other paths now, and asks for all of them (REPORT TARGET PORT GROUPS).
        """
        changed = self.ports.keys() != set(tags)
        self.ports = {tag: self.ports.get(tag, State.OPTIMIZED) for tag in tags}
        self.causes = {tag: cause for tag, cause in self.causes.items() if tag in self.ports}
        self._refresh()
        if changed:
            self._tell_all(AccessStateChanged)

    def set_access(self, states: dict[int, State], own: Nexus | None = None) -> bool:
        """Change access states; everybody but ``own``, who asked for it, learns of it (SPC-4 §5.15.2.7).

        False when they are like that already.
        """
        changed = {tag: state for tag, state in states.items() if self.ports.get(tag) is not state}
        if own is None:
            self.set_by.update(dict.fromkeys(states, self.units.change))
        self.ports.update(changed)
        self.causes.update(dict.fromkeys(changed, Cause.COMMAND if own else Cause.TARGET))
        self._refresh()
        if changed:
            self._tell_all(AccessStateChanged, own)
            if self.units.keeper is not None and self.nexuses:  # else whoever asked for it knows
                self.units.keeper.access_changed(self)
        return bool(changed)

    def restore_access(self, states: dict[int, State], causes: dict[int, Cause]) -> None:
        """Let access states be what they were in another process; nobody is logged in."""
        self.ports.update(states)
        self.causes = causes
        self._refresh()

    def _refresh(self) -> None:
        for lun in self.luns.values():
            lun.state.refresh()

    def add(self, lun_id: int, bdev: Bdev, options: Options = _PLAIN) -> LogicalUnit:
        """Raises Exists when the LUN id is taken, Invalid when it is out of range."""
        if not 0 <= lun_id <= MAX_LUN_ID:
            raise Invalid(f"target node {self.name}: LUN {lun_id} is not in 0..{MAX_LUN_ID}")
        if lun_id in self.luns:
            taken = self.luns[lun_id].bdev.name
            raise Exists(f"target node {self.name}: LUN {lun_id} is taken by bdev {taken}")
        state = self.units.share(bdev)
        lun = LogicalUnit(lun_id, state, self, options)
        state.luns.append(lun)
        state.refresh()
        self.luns[lun_id] = lun
        self.by_field[lun_id << 48] = lun
        self.by_field[_FLAT | lun_id << 48] = lun
        self._show()
        self._tell_all(LunsChanged)
        return lun

    def remove(self, lun_id: int) -> None:
        lun = self.luns.pop(lun_id)
        lun.state.luns.remove(lun)
        self.units.release(lun.state)
        del self.by_field[lun_id << 48]
        del self.by_field[_FLAT | lun_id << 48]
        self._show()
        self._tell_all(LunsChanged)

    def sort(self, lun_ids: Iterable[int]) -> None:
        """Put these LUNs in front, in this order."""
        self.luns = {**{lun_id: self.luns[lun_id] for lun_id in lun_ids if lun_id in self.luns}, **self.luns}

    def close(self) -> None:
        """The target node is gone."""
        for lun in self.luns.values():
            lun.state.luns.remove(lun)
            lun.state.refresh()
            self.units.release(lun.state)
        self.luns.clear()
        self.by_field.clear()
        self._show()

    def capacity_changed(self, bdev: Bdev) -> None:
        for lun in self.luns.values():
            if lun.bdev is bdev:
                for nexus in self.nexuses:
                    nexus.attend(lun.id, CapacityChanged)

    def mask(self, lun_id: int, groups: tuple[int, ...]) -> None:
        """Show a LUN to initiators of these groups only; to all when there are none. Raises NotFound."""
        lun = self.luns.get(lun_id)
        if lun is None:
            raise NotFound(f"target node {self.name}: there is no LUN {lun_id}")
        lun.mask = groups
        self._show()
        self._tell_all(LunsChanged)

    def _show(self) -> None:
        for nexus in self.nexuses:
            nexus.look()

    def join(self, nexus: Nexus) -> None:
        self.nexuses.append(nexus)
        nexus.look()

    def leave(self, nexus: Nexus) -> None:
        """The nexus is lost, by a logout or otherwise."""
        self.nexuses.remove(nexus)
        nexus.abort = None  # else it and its session would keep each other until the collector comes by
        nexus.lost()

    def _tell_all(self, attention: type[UnitAttention], own: Nexus | None = None) -> None:
        for nexus in self.nexuses:
            if nexus is not own:
                for lun_id in self.luns:
                    nexus.attend(lun_id, attention)


def _lower(text: str) -> str:
    """The very same text if it is in lower case already: there is one for each session."""
    lower = text.lower()
    return text if lower == text else lower


class Nexus:
    """An I_T nexus: one initiator port and one target port, with the unit attentions that wait for it."""

    __slots__ = (
        *("abort", "attentions", "by_field", "copies", "device", "echo", "group"),
        *("identity", "initiator_port", "relative_port", "target_port", "uses"),
    )

    def __init__(self, device: Device, initiator_port: str, target_port: str, relative_port: int) -> None:
        self.device = device
        self.initiator_port = initiator_port
        self.target_port = target_port
        self.relative_port = relative_port
        """Relative target port identifier: the portal group's tag."""
        self.identity = Identity(_lower(initiator_port), _lower(target_port), relative_port)
        self.abort: Callable[[LogicalUnit], object] | None = None
        """Set by the transport: gives up all commands of this nexus for a logical unit."""
        self.group: int | None = None
        """Tag of the initiator group that let the initiator in."""
        self.by_field = device.by_field
        """The logical units that it sees, as the device has them: the very same unless some are hidden from it."""
        self.uses: dict[int, Use] = {}
        """Those of them that it uses, likewise, with what is counted: see :meth:`use`."""
        self.echo = b""
        """What WRITE BUFFER left for READ BUFFER."""
        self.copies: dict[int, Any] = {}
        """What became of EXTENDED COPY commands, by list identifier, until somebody asks."""
        self.attentions: dict[int, deque[type[UnitAttention]]] = {}

    def look(self) -> None:
        """Find out anew which logical units this nexus sees."""
        self.uses.clear()
        everything = self.device.by_field
        if any(lun.mask for lun in self.device.luns.values()):
            self.by_field = {field: lun for field, lun in everything.items() if lun.shows_to(self.group)}
        else:
            self.by_field = everything

    def use(self, field: int) -> Use | None:
        """The logical unit of a LUN field with what this initiator does there; None when it sees none."""
        lun = self.by_field.get(field)
        if lun is None:
            return None
        use = self.uses[field] = lun.use_of(self.initiator_port.partition(",i,0x")[0])
        return use

    def sees(self, lun_id: int) -> bool:
        return lun_id << 48 in self.by_field

    def attend(self, lun_id: int, attention: type[UnitAttention]) -> None:
        if not self.sees(lun_id):
            return
        waiting = self.attentions.setdefault(lun_id, deque(maxlen=_MAX_ATTENTIONS))
        if attention not in waiting:
            waiting.append(attention)

    def forget(self, attention: type[UnitAttention]) -> None:
        """What it tells is known by now."""
        for lun_id, waiting in list(self.attentions.items()):
            if attention in waiting:
                waiting.remove(attention)
            if not waiting:
                del self.attentions[lun_id]

    def lost(self) -> None:
        """I_T nexus loss (SAM-5 §6.3.4): what the logical units keep for this nexus alone is gone."""
        self.attentions.clear()
        for lun in self.device.luns.values():
            lun.state.forget(self)

    def next_attention(self, lun_id: int) -> UnitAttention | None:
        """Take the oldest unit attention of the LUN, if there is one."""
        waiting = self.attentions.get(lun_id)
        if not waiting:
            return None
        attention = waiting.popleft()
        if not waiting:
            del self.attentions[lun_id]
        return attention()


class Task:
    """A SCSI command on its way: what it asks, the data it brought, and what became of it.

    The defaults are the class's, so that making one, which happens for every command, sets only what differs.
    """

    data_out: Buffer = b""
    borrowed: bool = False
    """``data_out`` is in a buffer that its owner will reuse as soon as the handler returns."""
    expected: int | None = None
    """Bytes that the initiator has room for or has to give; None when it does not say."""
    private: bool = False
    """``data_in`` must not change until it is sent."""
    aborted: bool = False
    """Nobody waits for it any more."""
    give_up: Callable[[], object] | None = None
    """Ends a command that is aborted, where what it began goes on without it."""
    offset: int = 0
    """Where a prepared WRITE begins, in bytes."""
    data_in: Buffer | None = None
    status: int = GOOD
    sense: bytes = b""
    unit: LogicalUnit
    """``lun``, for handlers of commands that are only dispatched when there is one."""

    def __init__(self, nexus: Nexus, lun: LogicalUnit | None, cdb: bytes) -> None:
        self.nexus = nexus
        self.lun = lun
        if lun is not None:
            self.unit = lun
        self.cdb = cdb

    def own_data_out(self) -> Buffer:
        """The data that came with the command, safe to keep."""
        if self.borrowed:
            self.data_out = bytes(self.data_out)
            self.borrowed = False
        return self.data_out

    def fail(self, error: CommandFailed) -> None:
        self.status = error.status
        self.sense = error.sense(self.lun is not None and self.lun.state.modes.descriptor_sense)
        self.data_in = None
