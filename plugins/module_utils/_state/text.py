# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How messages are put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_SHOWN: Final = 20


def listed(names: Sequence[str]) -> str:
    """``a, b, c``, ``nothing`` for none; of a long list the beginning, and how many more there are."""
    shown = ", ".join(names[:_SHOWN])
    more = len(names) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown or "nothing"


def sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


class Problems(list[str]):
    """Sentences, each with the path of the variable it is about."""

    def note(self, path: str, text: str) -> None:
        self.append(f"{path}: {text}" if path else text)
