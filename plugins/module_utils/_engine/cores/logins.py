# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logins go to the worker that serves their target node, and wait when that cannot be told of them yet."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from ..iscsi.node import TargetNode
from ..iscsi.reception import Arrival
from . import ownership
from .member import Member

if TYPE_CHECKING:
    from ..iscsi.target import IscsiTarget
    from .fleet import Fleet

_LOG = logging.getLogger(__name__)

_WAIT_SECONDS: Final = 20.0
"""How long a login waits for the worker that is to serve it."""
_MOST_WAITING: Final = 4096


class _Waiting(NamedTuple):
    node: TargetNode
    arrival: Arrival
    until: float


class Logins:
    def __init__(self, target: IscsiTarget, fleet: Fleet) -> None:
        self._target = target
        self._fleet = fleet
        self._waiting: list[_Waiting] = []

    def take(self, node: TargetNode, arrival: Arrival) -> bool:
        """See :class:`iscsi.reception.Elsewhere`."""
        if self._is_served_here(node):
            return False
        member = self._ready_for(node)
        if member is not None:
            self._hand_over(member, arrival)
        elif len(self._waiting) < _MOST_WAITING:
            loop = asyncio.get_running_loop()
            self._waiting.append(_Waiting(node, arrival, loop.time() + _WAIT_SECONDS))
            loop.call_later(_WAIT_SECONDS + 0.1, self.let_in)
        else:
            arrival.sock.close()
        return True

    def let_in(self) -> None:
        """Whoever waits for what is there now goes on; who waited too long is to come again."""
        now = asyncio.get_running_loop().time()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            member = self._ready_for(each.node)
            if self._is_served_here(each.node):
                self._target.admit(each.arrival)
            elif member is not None:
                self._hand_over(member, each.arrival)
            elif each.until > now:
                self._waiting.append(each)
            else:
                _LOG.warning("a login to target node %s is dropped: nobody serves that node now", each.node.name)
                each.arrival.sock.close()

    def close(self) -> None:
        for waiting in self._waiting:
            waiting.arrival.sock.close()
        self._waiting.clear()

    def _is_served_here(self, node: TargetNode) -> bool:
        """Or refused here, for good or until it is known who serves it."""
        is_mine = self._fleet.owners.get(node.name) == ownership.MAIN and not self._fleet.is_moving(node)
        return is_mine or node.is_closed

    def _ready_for(self, node: TargetNode) -> Member | None:
        """The worker of a node that can be told of its logins now."""
        owner = self._fleet.owners.get(node.name)
        if not owner or self._fleet.is_moving(node) or not self._fleet.members[owner - 1].ready:
            return None
        return self._fleet.members[owner - 1]

    def _hand_over(self, member: Member, arrival: Arrival) -> None:
        others = sum(each.sessions for each in self._fleet.members if each is not member)
        member.hand_over(arrival, others + len(self._target.sessions))
