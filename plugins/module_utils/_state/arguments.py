# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the target modules, written down once: a single object's module and target_config share them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .._engine.facts import BLOCK_SIZES, TARGET_OPTION_RANGES
from .._rpc import DEFAULT_SOCKET
from .auth import ALWAYS, INHERIT, ON_CREATE, POLICIES
from .base import (
    AUTH_GROUP,
    BDEV,
    DISCOVERY_AUTH,
    INITIATOR_GROUP,
    PORTAL_GROUP,
    SINGLETONS,
    TARGET_NODE,
    TARGET_OPTIONS,
)
from .bdevs import Latency, Qos
from .declaration import COLLECTIONS
from .drivers import RAID_LEVELS, TYPES
from .target_options import FLAGS

Arguments = Mapping[str, Mapping[str, Any]]

CONNECTION: Final[Arguments] = {
    "socket": {"type": "path", "default": DEFAULT_SOCKET},
    "timeout": {"type": "int", "default": 60},
    "url": {"type": "str"},
    "url_username": {"type": "str"},
    "url_password": {"type": "str", "no_log": True},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
}

RPC: Final[Arguments] = {"method": {"type": "str", "required": True}, "params": {"type": "dict"}}

_STATE: Final[Arguments] = {"state": {"type": "str", "choices": ["present", "absent"], "default": "present"}}
_LIMITS: Final[Arguments] = {
    "prune": {"type": "bool", "default": False},
    "ignore": {"type": "list", "elements": "str", "default": []},
}
_PERSIST: Final[Arguments] = {"persist": {"type": "path"}}
_FORCE: Final[Arguments] = {"force": {"type": "bool", "default": False}}

_POLICY: Final[Arguments] = {
    "chap": {"type": "str", "choices": list(POLICIES)},
    "auth_group": {"type": "int"},
}

_OBJECTS: Final[Mapping[str, Arguments]] = {
    BDEV: {
        "name": {"type": "str", "required": True},
        "type": {"type": "str", "choices": list(TYPES)},
        "size": {"type": "str"},
        "block_size": {"type": "int", "choices": list(BLOCK_SIZES)},
        "uuid": {"type": "str"},
        "path": {"type": "path"},
        "readonly": {"type": "bool"},
        "sparse": {"type": "bool"},
        "address": {"type": "str"},
        "base_bdevs": {"type": "list", "elements": "str"},
        "count": {"type": "int"},
        "latency": {"type": "dict", "options": {name: {"type": "int"} for name in Latency._fields}},
        "level": {"type": "str", "choices": list(RAID_LEVELS)},
        "strip_size": {"type": "str"},
        "pool": {"type": "str"},
        "image": {"type": "str"},
        "ceph_user": {"type": "str"},
        "cluster": {"type": "str"},
        "qos": {"type": "dict", "options": {name: {"type": "int"} for name in Qos._fields}},
        "remove_file": {"type": "bool", "default": False},
    },
    AUTH_GROUP: {
        "tag": {"type": "int", "required": True},
        "secrets": {
            "type": "list",
            "elements": "dict",
            "no_log": False,
            "options": {
                "user": {"type": "str", "required": True},
                "secret": {"type": "str", "no_log": True},
                "muser": {"type": "str"},
                "msecret": {"type": "str", "no_log": True},
            },
        },
        "update_secret": {"type": "str", "choices": [ALWAYS, ON_CREATE], "default": ALWAYS, "no_log": False},
    },
    PORTAL_GROUP: {
        "tag": {"type": "int", "required": True},
        "portals": {"type": "list", "elements": "str"},
        "private": {"type": "bool"},
        "chap": {"type": "str", "choices": [INHERIT, *POLICIES]},
        "auth_group": {"type": "int"},
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
            "options": {
                "id": {"type": "int", "default": 0},
                "bdev": {"type": "str", "required": True},
                "initiator_groups": {"type": "list", "elements": "int"},
                "readonly": {"type": "bool"},
                "removable": {"type": "bool"},
            },
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
        "enabled": {"type": "bool"},
        **_POLICY,
        "redirects": {
            "type": "list",
            "elements": "dict",
            "options": {
                "portal_group": {"type": "int", "required": True},
                "address": {"type": "str", "required": True},
                "permanent": {"type": "bool", "default": False},
            },
        },
    },
    DISCOVERY_AUTH: _POLICY,
    TARGET_OPTIONS: {
        "node_base": {"type": "str"},
        **{name: {"type": "bool"} for name in FLAGS},
        **{name: {"type": "int"} for name in TARGET_OPTION_RANGES},
    },
}


def object_arguments(kind: str) -> dict[str, Mapping[str, Any]]:
    """The options of the module for one object of ``kind``."""
    presence = {} if kind in SINGLETONS else {**_STATE, **_FORCE}
    return {**_OBJECTS[kind], **presence, **CONNECTION}


def config_arguments() -> dict[str, Mapping[str, Any]]:
    """The options of target_config: a list of every kind, the singletons, and how far a run may go."""
    lists: dict[str, Mapping[str, Any]] = {
        collection: {"type": "list", "elements": "dict", "options": {**_OBJECTS[kind], **_STATE}}
        for kind, collection in COLLECTIONS.items()
    }
    singletons: dict[str, Mapping[str, Any]] = {
        kind: {"type": "dict", "options": _OBJECTS[kind]} for kind in SINGLETONS
    }
    return {**lists, **singletons, **_LIMITS, **_PERSIST, **_FORCE, **CONNECTION}
