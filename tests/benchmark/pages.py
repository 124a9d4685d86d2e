# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the kernel from passing ever more memory around between the client's core and the server's.

What one core allocates for packets the other one frees. Since Linux 6.7 the list of free pages that each core keeps for
itself grows while that goes on, up to an eighth of the memory. Then no page comes back while a cache still holds it:
the client needs half as much time again for each WRITE, and becomes the limit, in some rounds and in others not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SETTING: Final = Path("/proc/sys/vm/percpu_pagelist_high_fraction")
_SHORT: Final = "20000"
"""As a part of the memory: some hundred pages for each core."""


@contextlib.contextmanager
def short_lists(setting: Path = SETTING) -> Iterator[str]:
    """Gives what is said of it in the results; the setting is put back afterwards."""
    try:
        before = setting.read_text().strip()
        setting.write_text(_SHORT)
    except OSError as error:
        yield f"{setting.name} cannot be set: {error.strerror}"
        return
    try:
        yield f"{setting.name} {_SHORT}"
    finally:
        setting.write_text(before)
