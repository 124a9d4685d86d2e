# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logical units: what a bdev is to SCSI, and the LUNs by which target nodes show it."""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ..bdev.base import Bdev
from .gate import Gate
from .reservations import Identity, Reservations, Told
from .sense import (
    BusDeviceReset,
    RegistrationsPreempted,
    ReservationsPreempted,
    ReservationsReleased,
    ScsiError,
    UnitAttention,
)
from .use import OTHERS, Use

if TYPE_CHECKING:
    from .device import Device, Nexus

VENDOR: Final = b"OPENLUN "
_MOST_USES: Final = 4096
"""Pairs of LUN and initiator that are told apart in what is counted; what comes then counts as one for each LUN."""

_TOLD: Final = {
    Told.RESERVATIONS_PREEMPTED: ReservationsPreempted,
    Told.RESERVATIONS_RELEASED: ReservationsReleased,
    Told.REGISTRATIONS_PREEMPTED: RegistrationsPreempted,
}


class Options(NamedTuple):
    """How a target node shows a LUN."""

    removable: bool = False
    """Its medium can be ejected and loaded."""
    readonly: bool = False

    def to_rpc(self) -> dict[str, bool]:
        """Only what differs from the defaults."""
        return {name: value for name, value in self._asdict().items() if value}


class Erasure(Protocol):
    """FORMAT UNIT or SANITIZE at work, or how it failed."""

    failed: bool
    sanitizes: bool
    may_exit: bool
    """A failure need not be mended by another erasure."""

    def refusal(self) -> ScsiError:
        """What other commands are told meanwhile."""

    async def at_rest(self, seconds: float, more_seconds: float) -> bool:
        """Wait until nothing is erased any more; after ``seconds`` it fails at its next step.

        False when even that did not come within ``more_seconds``.
        """


class Modes(NamedTuple):
    """What MODE SELECT can change."""

    write_cache: bool = True
    """WCE: a write is stable only after a flush. Without it every write is flushed."""
    descriptor_sense: bool = False
    """D_SENSE"""
    write_protected: bool = False
    """SWP"""


class Keeper(Protocol):
    """Keeps elsewhere what is in this process's memory, so that it outlives the process."""

    def unit_changed(self, unit: UnitState) -> None:
        """Reservations, mode parameters, the medium or an erasure."""

    def access_changed(self, device: Device) -> None:
        """The access states of a target node."""

    def kept(self) -> Awaitable[None] | None:
        """What to wait for before a change is answered; None when what was told so far is safe already."""


class UnitState:
    """What everybody who uses a bdev shares, whichever target node, LUN or portal they come through."""

    def __init__(self, bdev: Bdev, keeper: Keeper | None = None) -> None:
        self.bdev = bdev
        self._keeper = keeper
        self.made_by = 0
        """The number of the change (see :class:`Units`) that made it."""
        self.luns: list[LogicalUnit] = []
        self.gate = Gate()
        self.reservations = Reservations()
        self.loaded = True
        self.is_away = False
        """Another process works on its blocks, or may do so: it is served there, or here when that has ended."""
        self.prevented: set[Nexus] = set()
        """Nexuses that forbid removing the medium."""
        self.erasure: Erasure | None = None
        self.modes = Modes()
        self.write_through = False
        """Every write is flushed: there is no write cache (WCE)."""
        self.guarded = False
        """Something keeps commands from simply being run, which :func:`dispatch.execute` then looks into."""

    def refresh(self) -> None:
        """To be called after every change of what ``guarded`` and ``write_through`` sum up."""
        self.write_through = not self.modes.write_cache
        self.guarded = (
            self.reservations.active
            or not self.loaded
            or self.is_away
            or self.erasure is not None
            or self.gate.closed
            or any(lun.readonly or lun.device.restricts_access for lun in self.luns)
        )

    def changed(self) -> Awaitable[None] | None:
        """To be called after every change of what outlives sessions; gives what to wait for before it is answered."""
        self.refresh()
        if self._keeper is None:
            return None
        self._keeper.unit_changed(self)
        return self._keeper.kept()

    def let_in(self) -> None:
        """Start the commands that waited for others to finish."""
        for start in self.gate.admitted():
            start()
        self.refresh()

    @asynccontextmanager
    async def taking_part(self) -> AsyncIterator[None]:
        """For a command of another unit that works on this one as well: what has to be alone is alone for it too."""
        turn = asyncio.get_running_loop().create_future()
        entered = False

        def start() -> None:
            nonlocal entered
            if not turn.cancelled():
                entered = True
                self.gate.enter(alone=False)
                turn.set_result(None)

        self.gate.join(start)
        self.refresh()
        try:
            await turn
            yield
        finally:
            if entered:
                self.gate.leave()
                if self.guarded:
                    self.let_in()

    def nexuses(self) -> Iterator[tuple[Nexus, LogicalUnit]]:
        """Everybody who is logged in, and by which LUN they see the unit."""
        for lun in self.luns:
            for nexus in lun.device.nexuses:
                yield nexus, lun

    def tell_others(self, own: Nexus, attention: type[UnitAttention]) -> None:
        for nexus, lun in self.nexuses():
            if nexus is not own:
                nexus.attend(lun.id, attention)

    def notify(self, notices: dict[Identity, Told]) -> None:
        """Unit attentions of a change of reservations."""
        if notices:
            for nexus, lun in self.nexuses():
                told = notices.get(nexus.identity)
                if told is not None:
                    nexus.attend(lun.id, _TOLD[told])

    def abort(self, victims: set[Identity]) -> None:
        """PREEMPT AND ABORT: what these have under way is given up."""
        for nexus, lun in list(self.nexuses()):
            if nexus.identity in victims and nexus.abort is not None:
                nexus.abort(lun)

    def resume(self, before: UnitState) -> None:
        """Be what the unit was before it was forgotten."""
        self.reservations, self.modes, self.loaded = before.reservations, before.modes, before.loaded
        self.made_by = before.made_by
        if before.erasure is not None and before.erasure.failed:
            self.erasure = before.erasure
        self.changed()

    def reset(self) -> Awaitable[None] | None:
        """Logical unit reset (SAM-5 §6.3.3): what is not meant to last goes; everybody learns of it.

        Gives what to wait for before it is answered.
        """
        self.reservations.reserved_by = None
        self.prevented.clear()
        self.modes = Modes()
        kept = self.changed()
        for nexus, lun in self.nexuses():
            nexus.attend(lun.id, BusDeviceReset)
        return kept

    def forget(self, nexus: Nexus) -> None:
        """The nexus is lost (SAM-5 §6.3.4)."""
        self.prevented.discard(nexus)
        if self.reservations.reserved_by == nexus.identity:
            self.reservations.reserved_by = None
            self.refresh()


class LogicalUnit:
    """A LUN of a device: a logical unit as one target node shows it."""

    def __init__(self, lun_id: int, state: UnitState, device: Device, options: Options) -> None:
        self.id = lun_id
        self.state = state
        self.bdev = state.bdev
        self.device = device
        self.options = options
        self.mask: tuple[int, ...] = ()
        """Tags of the initiator groups that see it; all do when there are none."""
        self.uses: dict[str, Use] = {}
        """By the name of the initiator; one that left stays."""

    @property
    def readonly(self) -> bool:
        return self.bdev.readonly or self.options.readonly or self.state.modes.write_protected

    @property
    def serial(self) -> str:
        """32 hexadecimal digits: the bdev's UUID, so the same behind every target and after every restart."""
        return self.bdev.uuid.replace("-", "")

    @property
    def naa(self) -> bytes:
        """Eight bytes, NAA locally assigned (SPC-4 §7.8.6.6.4): 3h and 60 bits of the UUID's digest."""
        digest = hashlib.sha256(self.bdev.uuid.encode()).digest()
        return struct.pack(">Q", 0x3 << 60 | int.from_bytes(digest[:8], "big") >> 4)

    @property
    def t10_id(self) -> bytes:
        """Vendor and serial number (SPC-4 §7.8.6.4)."""
        return VENDOR + self.serial.encode()

    def shows_to(self, group: int | None) -> bool:
        return not self.mask or group in self.mask

    def use_of(self, initiator: str) -> Use:
        """Where the commands of an initiator are counted; those that come when there are too many share one place."""
        use = self.uses.get(initiator)
        if use is None and not self.device.units.has_room_for_use():
            initiator = OTHERS
            use = self.uses.get(initiator)
        if use is None:
            use = self.uses[initiator] = Use(self, initiator)
        return use

    def to_rpc(self) -> dict[str, Any]:
        mask = {"initiator_groups": list(self.mask)} if self.mask else {}
        return {"bdev_name": self.bdev.name, "lun_id": self.id, **self.options.to_rpc(), **mask}


class ReservationStore(Protocol):
    """Keeps persistent reservations over a power loss (APTPL)."""

    def load(self, uuid: str) -> dict[str, Any] | None:
        """What was saved last for the bdev of that UUID."""

    async def save(self, uuid: str, saved: dict[str, Any] | None) -> None:
        """Returns when it is on stable storage. Raises OSError."""


class Units:
    """The logical units of all target nodes, by their bdev."""

    def __init__(self, store: ReservationStore | None = None) -> None:
        self.store = store
        self.keeper: Keeper | None = None
        """To be set before there are units."""
        self.change = 0
        """The number of the change under way, where others make the same ones later and tell what they have by then."""
        self.begin_away = False
        """Who serves a new one is decided, and told to it, later."""
        self._by_bdev: dict[Bdev, UnitState] = {}

    def __iter__(self) -> Iterator[UnitState]:
        return iter(self._by_bdev.values())

    def get(self, bdev: Bdev) -> UnitState | None:
        """None when nobody shows the bdev."""
        return self._by_bdev.get(bdev)

    def share(self, bdev: Bdev) -> UnitState:
        """The state of ``bdev``; made, and its reservations restored, for the first who shows it."""
        state = self._by_bdev.get(bdev)
        if state is None:
            state = self._by_bdev[bdev] = UnitState(bdev, self.keeper)
            state.made_by = self.change
            state.is_away = self.begin_away
            saved = self.store.load(bdev.uuid) if self.store else None
            if saved is not None:
                state.reservations.restore(saved)
            state.refresh()
        return state

    def has_room_for_use(self) -> bool:
        """May one more initiator be counted by its name?"""
        return sum(len(lun.uses) for state in self for lun in state.luns) < _MOST_USES

    def release(self, state: UnitState) -> None:
        """Forget it if nobody shows it any more."""
        if not state.luns:
            self._by_bdev.pop(state.bdev, None)
