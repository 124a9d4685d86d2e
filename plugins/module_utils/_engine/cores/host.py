# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the main process and a worker, as it knows it, have to do with each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from ..iscsi.luggage import Luggage
    from .member import Member


class Call(NamedTuple):
    """What a worker is to do as the main process did."""

    method: str
    params: Mapping[str, Any] | None
    descriptor: int | None = None
    """Of the memory, or of the file, of the bdev it makes."""
    phase: str = "RUNTIME"
    change: int = 0
    """The number of the change that it belongs to."""
    concerns: frozenset[int] = frozenset()
    """Workers whose target nodes it is about."""


class Host(Protocol):
    """What a member needs of the main process."""

    def introduction(self, number: int) -> dict[str, Any]:
        """What a new worker is told first."""

    async def may_configure(self) -> None:
        """Wait until the configuration is whole."""

    def configuration(self) -> Iterable[Call]:
        """The live one, as calls."""

    def luggage(self, number: int) -> tuple[list[str], Luggage]:
        """The target nodes of that worker, and what they and their units have in memory."""

    def is_ready(self, member: Member) -> None:
        """It serves from now on."""

    def counted(self) -> None:
        """Its number of sessions changed."""

    def reported(self, member: Member, words: Mapping[str, Any]) -> None:
        """Something happened in the worker that nobody asked for."""
