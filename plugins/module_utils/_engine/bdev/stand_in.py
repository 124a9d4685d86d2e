# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A block device that another process of the engine drives: here it has a name and a size, and no blocks."""

from __future__ import annotations

import errno
from typing import Any, NoReturn

from .base import Bdev, Buffer


class StandInBdev(Bdev):
    """Stands in for a namespace of the NVMe ``controller`` that the main process drives, so that the configuration of a
    worker is like that of all others. Nobody reads or writes it: its target nodes are the main process's."""

    product_name = "NVMe disk of the main process"

    def __init__(self, name: str, block_size: int, num_blocks: int, uuid: str, controller: str) -> None:
        super().__init__(name, block_size, num_blocks, uuid)
        self.controller = controller

    @property
    def missing(self) -> bool:
        return True

    def read(self, offset: int, length: int) -> Buffer:
        self._refuse(offset, length)

    def write(self, offset: int, data: Buffer) -> None:
        self._refuse(offset, len(data))

    def flush(self) -> None:
        return None

    def _refuse(self, offset: int, length: int) -> NoReturn:
        what = f"bdev {self.name}: {length} bytes at {offset} are the main process's"
        raise OSError(errno.EIO, what)

    def config(self) -> tuple[str, dict[str, Any]] | None:
        return None

    def close(self) -> None:
        """There is nothing to give back."""
