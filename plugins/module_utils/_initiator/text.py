# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and values as login and text PDUs carry them (RFC 7143 §6.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def encoded(keys: Mapping[str, str]) -> bytes:
    return "".join(f"{key}={value}\0" for key, value in keys.items()).encode()


def decoded(data: bytes) -> list[tuple[str, str]]:
    pairs = (item.partition("=") for item in data.decode(errors="replace").split("\0") if item)
    return [(key, value) for key, _equals, value in pairs]
