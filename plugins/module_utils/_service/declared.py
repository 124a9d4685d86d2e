# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the target as a whole, as a module that starts an engine is given them."""

from __future__ import annotations

from typing import Any

from ansible_collections.openlun.iscsi.plugins.module_utils._state.base import TARGET_OPTIONS
from ansible_collections.openlun.iscsi.plugins.module_utils._state.declaration import Entry, declare

from .errors import ServiceError


def declared_options(given: dict[str, Any] | None) -> dict[str, Any]:
    """Those that were given, checked. Raises ServiceError with everything that is wrong with them."""
    declaration = declare([Entry(TARGET_OPTIONS, given or {}, TARGET_OPTIONS)], "")
    if declaration.problems:
        raise ServiceError("\n".join(declaration.problems))
    return dict(declaration.wishes[TARGET_OPTIONS, ""].given)
