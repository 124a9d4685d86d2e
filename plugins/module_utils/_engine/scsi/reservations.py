# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has reserved a logical unit: SPC-2's RESERVE, persistent reservations (SPC-4 §5.12). State and rules."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from .sense import InvalidFieldInParameters, InvalidRelease, ReservationConflict

MAX_REGISTRATIONS: Final = 1024


class Conflict(enum.Enum):
    """What kind of reservation by somebody else forbids a command (SPC-4 tables 65 and 66, SBC-4 table 21)."""

    NEVER = enum.auto()
    RESERVE = enum.auto()
    """That of SPC-2's RESERVE; persistent reservations do not forbid it."""
    READ = enum.auto()
    """Exclusive access."""
    WRITE = enum.auto()
    """Write exclusive too."""


class Type(enum.IntEnum):
    """Of a persistent reservation (SPC-4 §6.15.3.3)."""

    WRITE_EXCLUSIVE = 1
    EXCLUSIVE_ACCESS = 3
    WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5
    EXCLUSIVE_ACCESS_REGISTRANTS_ONLY = 6
    WRITE_EXCLUSIVE_ALL_REGISTRANTS = 7
    EXCLUSIVE_ACCESS_ALL_REGISTRANTS = 8

    @property
    def for_all(self) -> bool:
        """Every registrant is a holder."""
        return self >= Type.WRITE_EXCLUSIVE_ALL_REGISTRANTS

    @property
    def admits_registrants(self) -> bool:
        return self >= Type.WRITE_EXCLUSIVE_REGISTRANTS_ONLY

    @property
    def excludes_reads(self) -> bool:
        return self in (3, 6, 8)


class Identity(NamedTuple):
    """An I_T nexus, whether it is there or not."""

    initiator_port: str
    """``name,i,0xISID`` in lower case (RFC 7143 §10.4)."""
    target_port: str
    """``name,t,0xTAG``."""
    relative_port: int


class Told(enum.Enum):
    """What somebody else learns by a unit attention."""

    RESERVATIONS_PREEMPTED = enum.auto()
    RESERVATIONS_RELEASED = enum.auto()
    REGISTRATIONS_PREEMPTED = enum.auto()


Notices = dict[Identity, Told]


class Reservations:
    """The reservations of one logical unit. What an operation changes for others is returned as notices."""

    def __init__(self) -> None:
        self.registrants: dict[Identity, int] = {}
        """Reservation keys."""
        self.holder: Identity | None = None
        """For the all-registrants types just who made it: see :meth:`holds`."""
        self.type: Type | None = None
        self.generation = 0
        self.aptpl = False
        """Activate persist through power loss."""
        self.reserved_by: Identity | None = None
        """SPC-2's RESERVE."""

    @property
    def active(self) -> bool:
        return self.type is not None or self.reserved_by is not None

    def holds(self, who: Identity) -> bool:
        if self.type is None:
            return False
        return who in self.registrants if self.type.for_all else who == self.holder

    def forbids(self, who: Identity, conflict: Conflict) -> bool:
        """Does a reservation forbid ``who`` a command of that class?"""
        if conflict is Conflict.NEVER:
            return False
        if self.reserved_by is not None and self.reserved_by != who:
            return True
        if self.type is None or conflict is Conflict.RESERVE or self.holds(who):
            return False
        if self.type.admits_registrants and who in self.registrants:
            return False
        return conflict is Conflict.WRITE or self.type.excludes_reads

    # -- RESERVE and RELEASE (SPC-2 §7.21, SPC-4 §5.12.3) --------------------------------------------------------------

    def reserve_unit(self, who: Identity) -> None:
        """RESERVE. A registrant of a persistent reservation that lets it in has nothing to do. Raises."""
        if self.registrants:
            if who not in self.registrants or self.forbids(who, Conflict.WRITE):
                raise ReservationConflict()
            return
        if self.reserved_by not in (None, who):
            raise ReservationConflict()
        self.reserved_by = who

    def release_unit(self, who: Identity) -> None:
        """RELEASE; of what somebody else reserved it is good and does nothing."""
        if self.registrants and who not in self.registrants:
            raise ReservationConflict()
        if self.reserved_by == who:
            self.reserved_by = None

    # -- registering (SPC-4 §5.12.7, §5.12.11) -------------------------------------------------------------------------

    def register(self, who: Identity, ports: list[Identity], old: int, new: int, ignore: bool, aptpl: bool) -> Notices:
        """REGISTER, or with ``ignore`` REGISTER AND IGNORE EXISTING KEY, for ``who`` on every one of ``ports``.

        Raises ReservationConflict when ``old`` is not the key that ``who`` has (0 for none).
        """
        if not ignore and self.registrants.get(who, 0) != old:
            raise ReservationConflict()
        notices: Notices = {}
        if new:
            self.registrants.update(dict.fromkeys(ports, new))
        else:
            for each in ports:
                if each in self.registrants:
                    notices.update(self._unregister(each))
        self._changed(aptpl)
        return notices

    def check_key(self, who: Identity, key: int) -> None:
        """Raises ReservationConflict unless ``who`` is registered with ``key``."""
        if self.registrants.get(who) != key:
            raise ReservationConflict()

    def _unregister(self, who: Identity) -> Notices:
        held, kind = self.holds(who), self.type
        del self.registrants[who]
        if not held or kind is None or (kind.for_all and self.registrants):
            if self.holder == who and self.registrants:
                self.holder = next(iter(self.registrants))
            return {}
        self._drop_reservation()
        return dict.fromkeys(self.registrants, Told.RESERVATIONS_RELEASED) if kind.admits_registrants else {}

    # -- reserving (SPC-4 §5.12.9, §5.12.11.2, §5.12.11.4, §5.12.11.5) -----------------------------------------------

    def reserve(self, who: Identity, key: int, kind: Type) -> None:
        self.check_key(who, key)
        if self.type is not None and not (self.holds(who) and self.type is kind):
            raise ReservationConflict()
        if self.type is None:
            self.holder, self.type = who, kind

    def release(self, who: Identity, key: int, kind: int) -> Notices:
        self.check_key(who, key)
        if self.type is None or not self.holds(who):
            return {}
        if self.type != kind:
            raise InvalidRelease()
        admits = self.type.admits_registrants
        self._drop_reservation()
        return {each: Told.RESERVATIONS_RELEASED for each in self.registrants if each != who} if admits else {}

    def clear(self, who: Identity, key: int) -> Notices:
        self.check_key(who, key)
        notices = {each: Told.RESERVATIONS_PREEMPTED for each in self.registrants if each != who}
        self.registrants.clear()
        self._drop_reservation()
        self._changed(self.aptpl)
        return notices

    def preempt(self, who: Identity, key: int, victim: int, kind: Type) -> Notices:
        """PREEMPT: take registrations with the key ``victim`` away, and the reservation if such a one holds it."""
        self.check_key(who, key)
        old = self.type
        everybody = old is not None and old.for_all and not victim
        if not victim and not everybody:
            raise InvalidFieldInParameters(byte=8)
        takes_over = everybody or (
            old is not None and not old.for_all and self.holder is not None and self.registrants[self.holder] == victim
        )
        gone = [each for each, held in self.registrants.items() if each != who and (everybody or held == victim)]
        if not gone and not takes_over:
            raise ReservationConflict()
        for each in gone:
            del self.registrants[each]
        notices: Notices = dict.fromkeys(gone, Told.REGISTRATIONS_PREEMPTED)
        if takes_over:
            self.holder, self.type = who, kind
            if old is not kind:
                released = [each for each in self.registrants if each != who]
                notices.update(dict.fromkeys(released, Told.RESERVATIONS_RELEASED))
        elif self.holder not in self.registrants and self.type is not None:
            self.holder = who  # of an all-registrants reservation: whoever is left
        self._changed(self.aptpl)
        return notices

    def move(self, who: Identity, key: int, to: Identity, new: int, unregister: bool, aptpl: bool) -> None:
        """REGISTER AND MOVE (SPC-4 §5.12.8)."""
        self.check_key(who, key)
        if not self.holds(who):
            raise ReservationConflict()
        if not new:
            raise InvalidFieldInParameters(byte=8)
        if self.type is not None and self.type.for_all:
            raise ReservationConflict()
        self.registrants[to] = new
        self.holder = to
        if unregister:
            del self.registrants[who]
        self._changed(aptpl)

    def _drop_reservation(self) -> None:
        self.holder = self.type = None

    def _changed(self, aptpl: bool) -> None:
        self.aptpl = aptpl
        self.generation = (self.generation + 1) & 0xFFFFFFFF

    # -- over a power loss ---------------------------------------------------------------------------------------------

    def saved(self) -> dict[str, Any] | None:
        """What has to survive a power loss; None when nothing has to."""
        return self.to_plain() if self.aptpl and self.registrants else None

    def to_plain(self) -> dict[str, Any]:
        """What :meth:`restore` takes."""
        return {
            "registrants": [[*who, key] for who, key in self.registrants.items()],
            "holder": list(self.holder) if self.holder else None,
            "type": int(self.type) if self.type else None,
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Raises KeyError, TypeError or ValueError for what :meth:`to_plain` did not make."""
        self.registrants = {Identity(*who): int(key) for *who, key in saved["registrants"]}
        self.holder = Identity(*saved["holder"]) if saved["holder"] else None
        self.type = Type(saved["type"]) if saved["type"] else None
        self.aptpl = True
