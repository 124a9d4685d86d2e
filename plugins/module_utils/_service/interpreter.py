# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Python that runs the engine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from .errors import ServiceError

if TYPE_CHECKING:
    from .manager import Run

OLDEST: Final = (3, 9)


def check_interpreter(python: str, run: Run) -> None:
    """Raises ServiceError when ``python`` is not an interpreter that can run the engine."""
    version = tuple(sys.version_info[:2]) if python == sys.executable else _asked(python, run)
    if version < OLDEST:
        raise ServiceError(
            f"python {python}: is Python {version[0]}.{version[1]}, and the engine needs {OLDEST[0]}.{OLDEST[1]} or "
            "newer. Install a newer one and set the option python to its path."
        )


def _asked(python: str, run: Run) -> tuple[int, ...]:
    done = run([python, "-I", "-c", "import sys; print(*sys.version_info[:2])"])
    numbers = done.output.split()
    if done.status or not all(number.isdecimal() for number in numbers):
        reason = done.errors.strip() or f"status {done.status}"
        raise ServiceError(
            f"python {python}: cannot be run ({reason}). Set the option python to the path of an interpreter."
        )
    return tuple(int(number) for number in numbers)
