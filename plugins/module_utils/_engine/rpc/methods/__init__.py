# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The RPC methods, thin: a table of rows each, and handlers that call the engine's objects."""

from __future__ import annotations

from ..method import Method


def all_methods() -> list[Method]:
    """Every method the engine answers."""
    from . import (
        bdev,
        bdev_nvme,
        bdev_qos,
        bdev_raid,
        bdev_uring,
        bdev_virtual,
        framework,
        histogram,
        iscsi,
        iscsi_auth,
        live,
        log,
        notify,
        scsi,
        transaction,
        tuning,
    )

    devices = (bdev, bdev_nvme, bdev_qos, bdev_raid, bdev_uring, bdev_virtual, scsi)
    modules = (framework, tuning, log, notify, *devices, iscsi, iscsi_auth, live, histogram, transaction)
    return [method for module in modules for method in module.METHODS]
