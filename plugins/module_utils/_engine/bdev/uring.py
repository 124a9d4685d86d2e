# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A block device on a file or a kernel block device under SPDK's bdev_uring: the same as bdev_aio here."""

from __future__ import annotations

from typing import Any

from .aio import AioBdev


class UringBdev(AioBdev):
    """Its own kind only to those who ask for it by name."""

    product_name = "URING bdev"

    def driver_specific(self) -> dict[str, Any]:
        return {"uring": {"filename": self.filename}}

    def config(self) -> tuple[str, dict[str, Any]]:
        return "bdev_uring_create", {
            "name": self.name,
            **({"block_size": self.block_size} if self.block_size_override else {}),
            "filename": self.filename,
            "uuid": self.uuid,
        }
