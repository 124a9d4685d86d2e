# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option ``chap`` of the initiator's modules: what a host proves itself with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .chap import Credentials
from .errors import InitiatorError

if TYPE_CHECKING:
    from collections.abc import Mapping


def parse_chap(options: Mapping[str, str | None] | None) -> Credentials | None:
    """The option ``chap`` of a module; None for no CHAP. Raises InitiatorError."""
    given = {name: str(value) for name, value in (options or {}).items() if value}
    if not given:
        return None
    for one, other in (("user", "secret"), ("muser", "msecret")):
        if (one in given) != (other in given):
            raise InitiatorError(f"chap: {one} and {other} belong together. Give both or none.")
    if "user" not in given:
        raise InitiatorError("chap: mutual CHAP needs user and secret, too.")
    return Credentials(**given)
