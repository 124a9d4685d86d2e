# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module initiator_info calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import settings
from .iscsiadm import Iscsiadm, Run
from .names import initiator_name
from .records import Record, Records
from .sessions import Sessions

if TYPE_CHECKING:
    from .._host.sysfs import Host


def gather(host: Host, run: Run, target: str | None) -> dict[str, Any]:
    """The module's result. Raises InitiatorError or HostError."""
    iscsiadm = Iscsiadm(run, lenient=True)
    return {
        "changed": False,
        "name": initiator_name(host),
        "version": iscsiadm.version() or None,
        "interfaces": iscsiadm.interfaces(),
        "records": [_told(record) for record in Records(host).all() if target in (None, record.node.target)],
        "sessions": Sessions(host, run, iscsiadm=iscsiadm).told(target),
    }


def _told(record: Record) -> dict[str, Any]:
    node = record.node
    return {
        "target": node.target,
        "portal": str(node.portal),
        "tag": node.tag,
        "interface": node.interface,
        "startup": record.values.get("node.startup", ""),
        "path": record.path,
        "values": settings.shown(record.values),
    }
