# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether there are hugepages for a program that takes them at its start (kernel: admin-guide/mm/hugetlbpage)."""

from __future__ import annotations

import os
import re
from typing import Final

from .errors import ServiceError

SYS: Final = "/sys/kernel/mm/hugepages"
_DIRECTORY: Final = re.compile(r"hugepages-(\d+)kB")


def check_free(wanted: int | None, sys: str = SYS) -> None:
    """Raises ServiceError when less than ``wanted`` MiB are free, or none at all for None."""
    free = free_pages(sys)
    room = sum(size * count for size, count in free.items()) >> 10
    if room >= (wanted or 1):
        return
    has = ", ".join(f"{count} of {_readable(size)}" for size, count in sorted(free.items())) or "the kernel has none"
    needs = f"SPDK shall have {wanted} MiB of them" if wanted else "SPDK needs some"
    raise ServiceError(
        f"hugepages: {needs}, and {room} MiB are free ({has}). Reserve more with openlun.iscsi.hugepages, which is "
        "iscsi_target_hugepages of the role, set memory to less, or do without them by hugepages: false."
    )


def free_pages(sys: str = SYS) -> dict[int, int]:
    """Page size in kB -> pages that nobody uses and nobody was promised."""
    found = {}
    for name in os.listdir(sys) if os.path.isdir(sys) else ():
        match = _DIRECTORY.fullmatch(name)
        if match:
            free, reserved = (_number(os.path.join(sys, name, file)) for file in ("free_hugepages", "resv_hugepages"))
            found[int(match[1])] = max(0, free - reserved)
    return found


def _number(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _readable(size: int) -> str:
    return f"{size >> 20} GiB" if size >= 1 << 20 else f"{size >> 10} MiB" if size >= 1 << 10 else f"{size} kB"
