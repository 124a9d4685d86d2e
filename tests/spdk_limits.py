# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection's engine has and SPDK's iscsi_tgt has not, taken away from the methods of the engine.

The keys of answers are those of recorded exchanges with iscsi_tgt; what it refuses is in its source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

METHODS: Final = frozenset(
    (
        "bdev_aio_resize",
        "engine_apply",
        "engine_get_info",
        "iscsi_get_masked_auth_groups",
        "iscsi_portal_group_add_portals",
        "iscsi_portal_group_remove_portals",
        "iscsi_target_node_disable",
        "iscsi_target_node_enable",
        "iscsi_target_node_remove_lun",
        "iscsi_target_node_set_lun_mask",
        "iscsi_target_node_set_options",
    )
)
PARAMETERS: Final = {
    "bdev_aio_create": ("size", "sparse"),
    "bdev_aio_delete": ("remove_file",),
    "iscsi_portal_group_set_auth": ("inherit",),
}
KEYS: Final = {
    "iscsi_get_portal_groups": ("tag", "portals", "private"),
    "iscsi_get_target_nodes": (
        *("name", "alias_name", "pg_ig_maps", "luns", "queue_depth"),
        *("disable_chap", "require_chap", "mutual_chap", "chap_group", "header_digest", "data_digest"),
    ),
    "iscsi_get_connections": (
        *("id", "cid", "tsih", "state", "login_phase", "initiator_addr", "target_addr", "target_node_name"),
        "thread_name",
    ),
}
VERSION: Final = {"version": "SPDK v26.05", "fields": {"major": 26, "minor": 5, "patch": 0, "suffix": ""}}

Handler = Callable[..., Any]


def limited(methods: Iterable[Any], refused: Callable[[str], Exception]) -> list[Any]:
    """``methods`` as SPDK has them; ``refused`` makes the error for what it does not do."""
    kept = [method for method in methods if method.name not in METHODS]
    return [_limited(method, refused) for method in kept]


def _limited(method: Any, refused: Callable[[str], Exception]) -> Any:
    if method.name in PARAMETERS:
        gone = dict.fromkeys(PARAMETERS[method.name])
        params = {name: kind for name, kind in method.params.items() if name not in gone}
        defaults = {name: method.params[name].default for name in gone if name in method.params}
        return method._replace(params=params, handler=_with(method.handler, defaults))
    if method.name in KEYS:
        return method._replace(handler=_of_keys(method.handler, KEYS[method.name]))
    if method.name == "iscsi_target_node_add_lun":
        return method._replace(handler=_without_connections(method.handler, refused))
    if method.name == "spdk_get_version":
        return method._replace(handler=lambda _engine: VERSION)
    return method


def _with(handler: Handler, defaults: dict[str, Any]) -> Handler:
    return lambda engine, **params: handler(engine, **params, **defaults)


def _of_keys(handler: Handler, keys: tuple[str, ...]) -> Handler:
    def answer(engine: Any) -> list[dict[str, Any]]:
        return [{key: each[key] for key in keys if key in each} for each in handler(engine)]

    return answer


def _without_connections(handler: Handler, refused: Callable[[str], Exception]) -> Handler:
    def answer(engine: Any, name: str, **params: Any) -> Any:
        short = name.partition(":")[2] or name
        if any(each["target_node_name"] == short for each in engine.target.connections()):
            raise refused("Invalid parameters")
        return handler(engine, name=name, **params)

    return answer
