# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Showing calls and objects without the secrets in them."""

from __future__ import annotations

from typing import Any, Final

_SECRETS: Final = frozenset({"secret", "msecret"})
_MASK: Final = "********"


def masked(value: Any) -> Any:
    """The same value with asterisks for every secret of CHAP."""
    if isinstance(value, dict):
        return {key: _MASK if key in _SECRETS else masked(each) for key, each in value.items()}
    return [masked(each) for each in value] if isinstance(value, list) else value
