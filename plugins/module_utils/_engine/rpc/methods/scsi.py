# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""scsi_*: the SCSI devices behind the target nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..method import Method

if TYPE_CHECKING:
    from ...service import Engine


def get_devices(engine: Engine) -> list[dict[str, Any]]:
    return [{"id": index, "device_name": name} for index, name in enumerate(engine.target.nodes)]


METHODS: Final = (Method("scsi_get_devices", get_devices),)
