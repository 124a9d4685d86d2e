# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the target modules, written down once: a single object's module and target_config share them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .._engine.facts import BLOCK_SIZES
from .._rpc import DEFAULT_SOCKET
from .declaration import COLLECTIONS
from .model import BDEV, INITIATOR_GROUP, PORTAL_GROUP, TARGET_NODE

Arguments = Mapping[str, Mapping[str, Any]]

CONNECTION: Final[Arguments] = {
    "socket": {"type": "path", "default": DEFAULT_SOCKET},
    "timeout": {"type": "int", "default": 60},
}

RPC: Final[Arguments] = {"method": {"type": "str", "required": True}, "params": {"type": "dict"}}

_STATE: Final[Arguments] = {"state": {"type": "str", "choices": ["present", "absent"], "default": "present"}}
_LIMITS: Final[Arguments] = {
    "prune": {"type": "bool", "default": False},
    "ignore": {"type": "list", "elements": "str", "default": []},
}
_FORCE: Final[Arguments] = {"force": {"type": "bool", "default": False}}

_OBJECTS: Final[Mapping[str, Arguments]] = {
    BDEV: {
        "name": {"type": "str", "required": True},
        "type": {"type": "str", "choices": ["malloc", "aio"]},
        "size": {"type": "str"},
        "block_size": {"type": "int", "choices": list(BLOCK_SIZES)},
        "uuid": {"type": "str"},
        "path": {"type": "path"},
        "readonly": {"type": "bool"},
        "sparse": {"type": "bool"},
        "remove_file": {"type": "bool", "default": False},
    },
    PORTAL_GROUP: {
        "tag": {"type": "int", "required": True},
        "portals": {"type": "list", "elements": "str"},
        "private": {"type": "bool"},
    },
    INITIATOR_GROUP: {
        "tag": {"type": "int", "required": True},
        "initiators": {"type": "list", "elements": "str"},
        "netmasks": {"type": "list", "elements": "str"},
    },
    TARGET_NODE: {
        "name": {"type": "str", "required": True},
        "alias": {"type": "str"},
        "luns": {
            "type": "list",
            "elements": "dict",
            "options": {"id": {"type": "int", "default": 0}, "bdev": {"type": "str", "required": True}},
        },
        "maps": {
            "type": "list",
            "elements": "dict",
            "options": {
                "portal_group": {"type": "int", "required": True},
                "initiator_group": {"type": "int", "required": True},
            },
        },
        "queue_depth": {"type": "int"},
        "header_digest": {"type": "bool"},
        "data_digest": {"type": "bool"},
    },
}


def object_arguments(kind: str) -> dict[str, Mapping[str, Any]]:
    """The options of the module for one object of ``kind``."""
    return {**_OBJECTS[kind], **_STATE, **_FORCE, **CONNECTION}


def config_arguments() -> dict[str, Mapping[str, Any]]:
    """The options of target_config: a list of every kind, and how far a run may go."""
    lists: dict[str, Mapping[str, Any]] = {
        collection: {"type": "list", "elements": "dict", "options": {**_OBJECTS[kind], **_STATE}}
        for kind, collection in COLLECTIONS.items()
    }
    return {**lists, **_LIMITS, **_FORCE, **CONNECTION}
