# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting until the disks of sessions can be opened by the names that udev gives them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Callable, Final

from . import disks
from .nodes import by_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .._host.sysfs import Host
    from .iscsiadm import Iscsiadm, Run
    from .nodes import Node
    from .session_text import Session

_PAUSE: Final = 0.5


class Patience:
    """Looks again and again until a deadline. ``clock`` counts seconds, ``pause`` sleeps."""

    def __init__(
        self,
        host: Host,
        iscsiadm: Iscsiadm,
        run: Run,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._host = host
        self._iscsiadm = iscsiadm
        self._run = run
        self._clock = clock
        self._pause = pause

    def wait(self, nodes: Sequence[Node], luns: Sequence[int] | None, seconds: float) -> list[str]:
        """What is still missing when the time is over, one sentence each; none when all is there.

        ``luns`` are those that each node has to have, None for any. Raises InitiatorError.
        """
        deadline = self._clock() + seconds
        while True:
            left = max(deadline - self._clock(), 0)
            self.settle(left)
            missing = list(self._missing(nodes, luns, seconds))
            if not missing or self._clock() >= deadline:
                return missing
            self._pause(min(_PAUSE, left))

    def settle(self, seconds: float) -> None:
        """Until udev has done what it was told; where there is none there is nothing to wait for."""
        try:
            self._run(["udevadm", "settle", f"--timeout={int(seconds) + 1}"])
        except OSError:
            return

    def _missing(self, nodes: Sequence[Node], luns: Sequence[int] | None, seconds: float) -> Iterator[str]:
        sessions = self._iscsiadm.sessions()
        for node in nodes:
            own = [each for each in sessions if each.node.key == node.key]
            if not any(each.logged_in for each in own):
                yield f"{node}: the session is not up after {seconds:g} s. See the journal of iscsid."
                continue
            yield from self._missing_disks(node, own, sessions, luns, seconds)

    def _missing_disks(
        self,
        node: Node,
        own: Sequence[Session],
        sessions: Sequence[Session],
        luns: Sequence[int] | None,
        seconds: float,
    ) -> Iterator[str]:
        has = sorted({unit.lun for each in own for unit in each.disks})
        if luns is None and not has:
            yield (
                f"{node}: logged in, but it shows no disk after {seconds:g} s. Does the target have a LUN for this "
                "host? For a target that may have none, set luns: []."
            )
        for lun in has if luns is None else luns:
            if lun not in has:
                others = f"It has {', '.join(map(str, has))}" if has else "It has none"
                yield f"{node}: LUN {lun} did not appear in {seconds:g} s. {others}. Does the target map it to us?"
                continue
            # Sessions by other interfaces have the same link, and it leads to the disk of one of them.
            path = by_path(node, lun)
            same = [each for each in sessions if (each.target, each.portal) == (node.target, node.portal)]
            names = {unit.disk for each in same for unit in each.disks if unit.lun == lun}
            if disks.resolved(self._host, path) not in names:
                yield f"{node}: {path} did not appear in {seconds:g} s. Does udev run? Look at: udevadm monitor."
