# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asymmetric logical unit access (SPC-4 §5.15): the states of target port groups, and what each lets through."""

from __future__ import annotations

import enum
from typing import Final

from .sense import AccessStateTransition, ScsiError, TargetPortStandby, TargetPortUnavailable


class State(enum.IntEnum):
    """Access state of a target port group (SPC-4 §6.33)."""

    OPTIMIZED = 0x0
    NON_OPTIMIZED = 0x1
    STANDBY = 0x2
    UNAVAILABLE = 0x3
    TRANSITIONING = 0xF

    @property
    def restricted(self) -> bool:
        return self >= State.STANDBY

    def refusal(self) -> ScsiError:
        """What a command that is not possible in this state is told."""
        return _REFUSALS[self]()


SETTABLE: Final = (State.OPTIMIZED, State.NON_OPTIMIZED, State.STANDBY, State.UNAVAILABLE)
"""The states in which a target port group can be put."""


class Cause(enum.IntEnum):
    """Who changed an access state last: the status code of REPORT TARGET PORT GROUPS (SPC-4 §6.37)."""

    NOBODY = 0x0
    COMMAND = 0x1
    """SET TARGET PORT GROUPS"""
    TARGET = 0x2


_REFUSALS: dict[State, type[ScsiError]] = {
    State.STANDBY: TargetPortStandby,
    State.UNAVAILABLE: TargetPortUnavailable,
    State.TRANSITIONING: AccessStateTransition,
}


class Access(enum.Enum):
    """In which states of its target port a command is carried out (SPC-4 §5.15.2.4)."""

    ACTIVE = enum.auto()
    STANDBY = enum.auto()
    """In standby too."""
    ANY = enum.auto()

    def allows(self, state: State) -> bool:
        return self is Access.ANY or not state.restricted or (self is Access.STANDBY and state is State.STANDBY)
