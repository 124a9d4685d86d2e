# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What bdevs are made of and outlives a worker: the main process has it open, workers get it with the call.

Memory it makes and keeps. Files and disks workers open once more by its descriptor: the same one, though its name
may be gone or another's by then.
"""

from __future__ import annotations

import os
from typing import Protocol

from ..bdev.malloc import shared_memory
from ..errors import EngineError


class Sources(Protocol):
    def memory(self, name: str, num_blocks: int, block_size: int) -> int:
        """A descriptor of memory for a bdev, which the caller owns. Raises EngineError."""

    def descriptor(self) -> int | None:
        """A descriptor, which the caller owns, of the file or disk of a bdev that others have already; else None."""


class OwnSources:
    """In the main process."""

    def memory(self, name: str, num_blocks: int, block_size: int) -> int:
        return shared_memory(name, num_blocks, block_size)

    def descriptor(self) -> int | None:
        return None


class GivenSources:
    """In a worker: what came with the call that makes the bdev."""

    def __init__(self) -> None:
        self._given: int | None = None

    def give(self, descriptors: tuple[int, ...]) -> None:
        """At most one; what is not fetched until there is another one is closed."""
        if self._given is not None:
            os.close(self._given)
        self._given = descriptors[0] if descriptors else None

    def memory(self, name: str, num_blocks: int, block_size: int) -> int:
        del num_blocks, block_size
        given = self.descriptor()
        if given is None:
            raise EngineError(f"bdev {name}: the main process did not hand over its memory")
        return given

    def descriptor(self) -> int | None:
        given, self._given = self._given, None
        return given
