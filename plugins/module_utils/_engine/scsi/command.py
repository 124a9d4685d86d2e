# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a row of the command table says."""

from __future__ import annotations

from typing import Any, Callable, Final, NamedTuple

from ..bdev.base import Bdev
from .alua import Access
from .device import Task
from .reservations import Conflict
from .sense import InvalidFieldInCdb

CDB_LENGTHS: Final = {0: 6, 1: 10, 2: 10, 3: 32, 4: 16, 5: 12, 6: 0, 7: 0}
"""By the operation code's group, its three high bits (SAM-5 §5.2)."""


class Rules(NamedTuple):
    """When a command may be carried out."""

    conflicts: Conflict
    access: Access
    medium: bool = False
    """Needs a medium, and one that is not being erased."""
    writes: bool = False
    """Forbidden on a write-protected unit."""
    alone: bool = False
    """Nothing else may happen to the unit meanwhile."""
    anytime: bool = False
    """Answers without a logical unit and in spite of a unit attention (SPC-4 §5.14, SAM-5 §5.14)."""
    erasing: bool = False
    """Answers while the unit is being formatted or sanitized."""


INQUIRE: Final = Rules(Conflict.NEVER, Access.ANY, anytime=True, erasing=True)
ASK: Final = Rules(Conflict.RESERVE, Access.ANY, erasing=True)
READY: Final = Rules(Conflict.RESERVE, Access.ACTIVE, medium=True)
LOOK: Final = Rules(Conflict.NEVER, Access.ACTIVE, medium=True)
MANAGE: Final = Rules(Conflict.WRITE, Access.STANDBY)
RESERVING: Final = Rules(Conflict.NEVER, Access.STANDBY)
READ: Final = Rules(Conflict.READ, Access.ACTIVE, medium=True)
FLUSH: Final = Rules(Conflict.WRITE, Access.ACTIVE, medium=True)
WRITE: Final = Rules(Conflict.WRITE, Access.ACTIVE, medium=True, writes=True)
ATOMIC: Final = Rules(Conflict.WRITE, Access.ACTIVE, medium=True, writes=True, alone=True)


def _always(_bdev: Bdev) -> bool:
    return True


class Command(NamedTuple):
    """A command: from its row it is dispatched, checked and reported (REPORT SUPPORTED OPERATION CODES)."""

    opcode: int
    service_action: int | None
    name: str
    handler: Callable[[Task], Any]
    """Gives the Data-In buffer or None, or an awaitable of one; raises CommandFailed or OSError."""
    usage: str
    """CDB usage data in hexadecimal (SPC-4 §6.35.3): the bits of the CDB that mean something here."""
    rules: Rules
    prepare: Callable[[Task], int] | None = None
    """For commands with Data-Out: checks the command and gives the number of bytes it wants."""
    offered: Callable[[Bdev], bool] = _always
    """Some need what not every bdev can do."""

    @property
    def cdb_length(self) -> int:
        return CDB_LENGTHS[self.opcode >> 5]


def parameters(first: int, size: int, most: int = 65535) -> Callable[[Task], int]:
    """``prepare`` of a command whose CDB has the parameter list's length in ``size`` bytes from ``first`` on."""

    def wanted(task: Task) -> int:
        length = int.from_bytes(task.cdb[first : first + size], "big")
        if length > most:
            raise InvalidFieldInCdb(byte=first)
        return length

    return wanted
