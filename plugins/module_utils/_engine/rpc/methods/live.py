# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""iscsi_*: changes to what exists, which SPDK does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...facts import MAX_ALIAS_BYTES, MAX_LUN_ID
from ...iscsi import live
from ...scsi.alua import SETTABLE
from ..method import Method, Subject
from ..schema import boolean, choice, integer, optional, required, string
from .iscsi import NODE, PORTALS, QUEUE_DEPTH, TAG, TARGET_NODE

if TYPE_CHECKING:
    from ...service import Engine


def add_portals(engine: Engine, tag: int, portals: list[tuple[str, str]]) -> bool:
    live.add_portals(engine.target, tag, portals)
    return True


def remove_portals(engine: Engine, tag: int, portals: list[tuple[str, str]]) -> bool:
    live.remove_portals(engine.target, tag, portals)
    return True


def remove_lun(engine: Engine, name: str, lun_id: int) -> bool:
    live.remove_lun(engine.target, name, lun_id)
    return True


def set_access_state(engine: Engine, name: str, pg_tag: int, access_state: str) -> bool:
    live.set_access_state(engine.target, name, pg_tag, _ACCESS_STATES[access_state])
    return True


def set_options(
    engine: Engine,
    name: str,
    alias_name: str | None,
    queue_depth: int | None,
    header_digest: bool | None,
    data_digest: bool | None,
) -> bool:
    live.set_options(engine.target, name, alias_name, queue_depth, header_digest, data_digest)
    return True


def enable(engine: Engine, name: str) -> bool:
    live.enable(engine.target, name)
    return True


def disable(engine: Engine, name: str) -> bool:
    live.disable(engine.target, name)
    return True


_ACCESS_STATES: Final = {state.name.lower(): state for state in SETTABLE}

METHODS: Final = (
    Method("iscsi_portal_group_add_portals", add_portals, {"tag": TAG, "portals": PORTALS}, mutates=True),
    Method("iscsi_portal_group_remove_portals", remove_portals, {"tag": TAG, "portals": PORTALS}, mutates=True),
    Method(
        "iscsi_target_node_remove_lun",
        remove_lun,
        {"name": NODE, "lun_id": required(integer(0, MAX_LUN_ID))},
        mutates=True,
    ),
    Method(
        "iscsi_target_node_set_access_state",
        set_access_state,
        {"name": NODE, "pg_tag": TAG, "access_state": required(choice(*_ACCESS_STATES))},
        mutates=True,
        subject=Subject(TARGET_NODE, "name", part="access_state", which="pg_tag"),
    ),
    Method(
        "iscsi_target_node_set_options",
        set_options,
        {
            "name": NODE,
            "alias_name": optional(string(MAX_ALIAS_BYTES)),
            "queue_depth": optional(QUEUE_DEPTH),
            "header_digest": optional(boolean),
            "data_digest": optional(boolean),
        },
        mutates=True,
    ),
    Method(
        "iscsi_target_node_enable",
        enable,
        {"name": NODE},
        mutates=True,
        subject=Subject(TARGET_NODE, "name", removes=True, part="disabled"),
    ),
    Method(
        "iscsi_target_node_disable",
        disable,
        {"name": NODE},
        mutates=True,
        subject=Subject(TARGET_NODE, "name", part="disabled"),
    ),
)
