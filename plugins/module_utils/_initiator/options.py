# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the initiator's modules."""

from __future__ import annotations

from typing import Any, Final

from .interfaces import BINDINGS
from .nodes import DEFAULT_INTERFACE
from .settings import DIGESTS

CHAP: Final[dict[str, Any]] = {
    "type": "dict",
    "options": {
        "user": {"type": "str"},
        "secret": {"type": "str", "no_log": True},
        "muser": {"type": "str"},
        "msecret": {"type": "str", "no_log": True},
    },
}
_NUMBERS: Final = (
    *("login_timeout", "login_retries", "replacement_timeout", "noop_interval", "noop_timeout"),
    *("queue_depth", "cmds_max"),
)
SESSION: Final[dict[str, Any]] = {
    "target": {"type": "str", "required": True},
    "portals": {"type": "list", "elements": "str"},
    "state": {"type": "str", "choices": ["present", "recorded", "absent"], "default": "present"},
    "interface": {"type": "str"},
    "binding": {"type": "dict", "options": {name: {"type": "str"} for name in BINDINGS}},
    "startup": {"type": "str", "choices": ["manual", "automatic", "onboot"]},
    "chap": CHAP,
    "header_digest": {"type": "str", "choices": list(DIGESTS)},
    "data_digest": {"type": "str", "choices": list(DIGESTS)},
    **{name: {"type": "int"} for name in _NUMBERS},
    "params": {"type": "dict"},
    "luns": {"type": "list", "elements": "int"},
    "wait": {"type": "int", "default": 60},
    "rescan": {"type": "bool", "default": True},
    "relogin": {"type": "bool", "default": False},
    "exclusive": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
}
NAME: Final[dict[str, Any]] = {
    "name": {"type": "str"},
    "unique": {"type": "bool", "default": False},
    "prefix": {"type": "str", "default": "iqn.2016-04.com.open-iscsi"},
    "force": {"type": "bool", "default": False},
}
DISCOVERY: Final[dict[str, Any]] = {
    "portals": {"type": "list", "elements": "str", "required": True},
    "targets": {"type": "list", "elements": "str"},
    "interface": {"type": "str", "default": DEFAULT_INTERFACE},
    "initiator_name": {"type": "str"},
    "chap": CHAP,
    "record": {"type": "bool", "default": True},
    "prune": {"type": "bool", "default": False},
    "ignore": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "int", "default": 10},
}
MOUNT: Final[dict[str, Any]] = {
    "device": {"type": "path"},
    "target": {"type": "str"},
    "lun": {"type": "int"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "filesystem": {"type": "str"},
    "mkfs_options": {"type": "list", "elements": "str", "default": []},
    "path": {"type": "path"},
    "options": {"type": "str", "default": "defaults,_netdev"},
    "force": {"type": "bool", "default": False},
}
INFO: Final[dict[str, Any]] = {"target": {"type": "str"}}
