# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What target_info tells, and which methods of the engine only tell."""

from __future__ import annotations

import re
from typing import Any, Final

from .reader import Snapshot
from .report import objects_by_option

_READING: Final = re.compile(r"(\w+_)?get_\w+|framework_wait_init|bdev_wait_for_examine")


def only_reads(method: str) -> bool:
    """Whether a method of SPDK's JSON-RPC leaves everything as it is, going by how SPDK names its methods."""
    return _READING.fullmatch(method) is not None


def gather(snapshot: Snapshot) -> dict[str, Any]:
    """The engine, its options, its objects and who is connected."""
    answers = snapshot.answers
    can = snapshot.can
    details = answers.get("engine_get_info") or answers["spdk_get_version"]
    return {
        "engine": {**details, "type": can.engine, "version": can.version},
        "methods": sorted(can.methods),
        "options": answers["iscsi_get_options"],
        **objects_by_option(snapshot.state),
        "connections": answers["iscsi_get_connections"],
    }
