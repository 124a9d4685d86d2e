# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done on a host, as data: it can be told before it is done."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple


class Step(NamedTuple):
    """One thing to do: how it reads, and how it is done."""

    action: str
    object: str
    why: str
    do: Callable[[], Any]

    def told(self) -> dict[str, str]:
        """For the module's result."""
        return {"action": self.action, "object": self.object, "why": self.why}
