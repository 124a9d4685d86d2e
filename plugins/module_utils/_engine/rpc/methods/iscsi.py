# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""iscsi_*: options, portal groups, initiator groups, target nodes, connections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ...errors import Invalid
from ...facts import (
    MAX_ALIAS_BYTES,
    MAX_INITIATORS_PER_GROUP,
    MAX_LUN_ID,
    MAX_LUNS,
    MAX_MAPS_PER_NODE,
    MAX_NAME_BYTES,
    MAX_NETMASKS_PER_GROUP,
    MAX_PORTALS_PER_GROUP,
    MAX_TAG,
    TARGET_OPTION_RANGES,
)
from ...iscsi.auth import Auth
from ...iscsi.node import Redirect
from .. import merging
from ..method import INTERNAL_ERROR, Calls, Errors, Method, Order, RpcError, Spread, State, Subject, worded
from ..schema import INT32_MAX, array, boolean, integer, optional, pair, required, string
from .iscsi_auth import CHAP
from .worker import DELETE_NODE

if TYPE_CHECKING:
    from ...service import Engine


def get_options(engine: Engine) -> dict[str, Any]:
    return engine.target.options.to_rpc()


def set_options(engine: Engine, **options: Any) -> bool:
    if engine.iscsi_options_set and engine.settings.worker is None:  # workers are told all options first
        raise RpcError(INTERNAL_ERROR, "Must not call more than once")
    given = {name: value for name, value in options.items() if value is not None}
    Auth(**{name: given[name] for name in Auth._fields if name in given}).check("discovery")
    for name, value in given.items():
        setattr(engine.target.options, name, value)
    engine.iscsi_options_set = True
    return True


def create_portal_group(engine: Engine, tag: int, portals: list[tuple[str, str]], private: bool, wait: bool) -> bool:
    engine.target.create_portal_group(tag, portals, private, wait)
    return True


def start_portal_group(engine: Engine, tag: int) -> bool:
    engine.target.start_portal_group(tag)
    return True


def delete_portal_group(engine: Engine, tag: int) -> bool:
    engine.target.delete_portal_group(tag)
    return True


def get_portal_groups(engine: Engine) -> list[dict[str, Any]]:
    return [group.to_rpc() for group in engine.target.portal_groups.values()]


def create_initiator_group(engine: Engine, tag: int, initiators: list[str], netmasks: list[str]) -> bool:
    engine.target.create_initiator_group(tag, initiators, netmasks)
    return True


def add_initiators(engine: Engine, tag: int, initiators: list[str], netmasks: list[str]) -> bool:
    engine.target.add_initiators(tag, initiators, netmasks)
    return True


def remove_initiators(engine: Engine, tag: int, initiators: list[str], netmasks: list[str]) -> bool:
    engine.target.remove_initiators(tag, initiators, netmasks)
    return True


def delete_initiator_group(engine: Engine, tag: int) -> bool:
    engine.target.delete_initiator_group(tag)
    return True


def get_initiator_groups(engine: Engine) -> list[dict[str, Any]]:
    return [group.to_rpc() for group in engine.target.initiator_groups.values()]


def create_target_node(
    engine: Engine,
    name: str,
    alias_name: str,
    pg_ig_maps: list[tuple[int, int]],
    luns: list[tuple[int, str, bool, bool, list[int]]],
    queue_depth: int,
    header_digest: bool,
    data_digest: bool,
    without_lun_0: bool,
    **chap: Any,
) -> bool:
    """``without_lun_0`` is ours: a node that lost its LUN 0 comes back as it was."""
    digests = header_digest, data_digest
    engine.target.create_node(
        name, alias_name, pg_ig_maps, luns, queue_depth, Auth(**chap), *digests, without_lun_0=without_lun_0
    )
    return True


async def delete_target_node(engine: Engine, name: str) -> bool:
    await engine.target.delete_node(name)
    return True


def _delete_in_worker(_engine: Engine, params: Mapping[str, Any], _result: bool) -> Calls:
    yield DELETE_NODE, {"name": params["name"]}


def get_target_nodes(engine: Engine) -> list[dict[str, Any]]:
    return [node.to_rpc() for node in engine.target.nodes.values()]


def add_lun(engine: Engine, name: str, bdev_name: str, lun_id: int, removable: bool, readonly: bool) -> bool:
    """``removable`` and ``readonly`` are ours."""
    engine.target.add_lun(name, bdev_name, lun_id, removable, readonly)
    return True


def set_lun_mask(engine: Engine, name: str, lun_id: int, initiator_groups: list[int]) -> bool:
    """Ours: only initiators that came by these groups see the LUN; with none all do."""
    engine.target.mask_lun(name, lun_id, initiator_groups)
    return True


def add_maps(engine: Engine, name: str, pg_ig_maps: list[tuple[int, int]]) -> bool:
    engine.target.add_maps(name, pg_ig_maps)
    return True


def remove_maps(engine: Engine, name: str, pg_ig_maps: list[tuple[int, int]]) -> bool:
    engine.target.remove_maps(name, pg_ig_maps)
    return True


def set_redirect(
    engine: Engine, name: str, pg_tag: int, redirect_host: str | None, redirect_port: str | None, permanent: bool
) -> bool:
    with worded(f"Target {name} is not found"):
        engine.target.node(name)
    with worded(f"Failed to redirect target {name}, (-22): Invalid argument"):
        engine.target.set_redirect(name, pg_tag, _redirect(redirect_host, redirect_port, permanent))
    return True


def _redirect(host: str | None, port: str | None, permanent: bool) -> Redirect | None:
    if host is None and port is None and not permanent:
        return None
    if host is None or port is None:
        raise Invalid("redirect_host and redirect_port go together; without both of them a redirect ends")
    return Redirect.parse(host, port, permanent)


def request_logout(engine: Engine, name: str, pg_tag: int) -> bool:
    """``pg_tag`` -1 is every portal group."""
    with worded(f"Target {name} is not found"):
        engine.target.request_logout(name, None if pg_tag == -1 else pg_tag)
    return True


def get_connections(engine: Engine) -> list[dict[str, Any]]:
    return list(engine.target.connections())


def get_stats(engine: Engine) -> dict[str, int]:
    """Connections by state; only running ones are kept here."""
    counts = {"invalid": 0, "running": 0, "exiting": 0, "exited": 0}
    for connection in engine.target.connections():
        counts[connection["state"]] = counts.get(connection["state"], 0) + 1
    return counts


TARGET_NODE: Final = "target node"

TAG: Final = required(integer(0, MAX_TAG))
NODE: Final = required(string(MAX_NAME_BYTES, least=1))
QUEUE_DEPTH: Final = integer(-INT32_MAX - 1, INT32_MAX)
"""Any number: what a queue depth cannot be becomes the largest one."""
_MAPS: Final = required(array(pair({"ig_tag": TAG, "pg_tag": TAG}, ("pg_tag", "ig_tag")), MAX_MAPS_PER_NODE))
_LUN_OPTIONS: Final = {"removable": optional(boolean, False), "readonly": optional(boolean, False)}
"""Ours: SPDK knows neither."""
_GROUPS: Final = array(integer(0, MAX_TAG), MAX_MAPS_PER_NODE)
_LUN: Final = pair(
    {
        "lun_id": optional(integer(0, MAX_LUN_ID), 0),
        "bdev_name": required(string()),
        **_LUN_OPTIONS,
        "initiator_groups": optional(_GROUPS, ()),
    },
    ("lun_id", "bdev_name", *_LUN_OPTIONS, "initiator_groups"),
)
_PORTAL: Final = pair({"host": required(string(256)), "port": required(string(16))}, ("host", "port"))
PORTALS: Final = required(array(_PORTAL, MAX_PORTALS_PER_GROUP))
_INITIATORS: Final = array(string(MAX_NAME_BYTES + 1, least=1), MAX_INITIATORS_PER_GROUP)
_NETMASKS: Final = array(string(256, least=1), MAX_NETMASKS_PER_GROUP)
_SOME_INITIATORS: Final = {"tag": TAG, "initiators": optional(_INITIATORS, ()), "netmasks": optional(_NETMASKS, ())}
_OPTIONS: Final = {
    "auth_file": optional(string()),
    "node_base": optional(string(MAX_NAME_BYTES, least=1)),
    "disable_chap": optional(boolean),
    "require_chap": optional(boolean),
    "mutual_chap": optional(boolean),
    "chap_group": optional(integer(0, INT32_MAX)),
    "immediate_data": optional(boolean),
    "allow_duplicated_isid": optional(boolean),
    **{name: optional(integer(low, high)) for name, (low, high) in TARGET_OPTION_RANGES.items()},
}

METHODS: Final = (
    Method("iscsi_set_options", set_options, _OPTIONS, state=State.STARTUP, mutates=True),
    Method("iscsi_get_options", get_options),
    Method(
        "iscsi_create_portal_group",
        create_portal_group,
        {
            "tag": TAG,
            "portals": PORTALS,
            "private": optional(boolean, False),
            "wait": optional(boolean, False),
        },
        mutates=True,
        subject=Subject("portal group", "tag"),
    ),
    Method("iscsi_start_portal_group", start_portal_group, {"tag": TAG}, mutates=True),
    Method(
        "iscsi_delete_portal_group",
        delete_portal_group,
        {"tag": TAG},
        mutates=True,
        subject=Subject("portal group", "tag", removes=True),
    ),
    Method("iscsi_get_portal_groups", get_portal_groups),
    Method(
        "iscsi_create_initiator_group",
        create_initiator_group,
        {
            "tag": TAG,
            "initiators": required(array(string(MAX_NAME_BYTES + 1, least=1), MAX_INITIATORS_PER_GROUP, least=1)),
            "netmasks": required(array(string(256, least=1), MAX_NETMASKS_PER_GROUP, least=1)),
        },
        mutates=True,
        subject=Subject("initiator group", "tag"),
    ),
    Method("iscsi_initiator_group_add_initiators", add_initiators, _SOME_INITIATORS, mutates=True),
    Method("iscsi_initiator_group_remove_initiators", remove_initiators, _SOME_INITIATORS, mutates=True),
    Method(
        "iscsi_delete_initiator_group",
        delete_initiator_group,
        {"tag": TAG},
        mutates=True,
        subject=Subject("initiator group", "tag", removes=True),
    ),
    Method("iscsi_get_initiator_groups", get_initiator_groups),
    Method(
        "iscsi_create_target_node",
        create_target_node,
        {
            "name": NODE,
            # SPDK wants it, but does not save an empty one: its own files would not load.
            "alias_name": optional(string(MAX_ALIAS_BYTES), ""),
            "pg_ig_maps": _MAPS,
            "luns": required(array(_LUN, MAX_LUNS)),
            "queue_depth": required(QUEUE_DEPTH),
            **CHAP,
            "header_digest": optional(boolean, False),
            "data_digest": optional(boolean, False),
            "without_lun_0": optional(boolean, False),
        },
        mutates=True,
        subject=Subject(TARGET_NODE, "name"),
    ),
    Method(
        "iscsi_delete_target_node",
        delete_target_node,
        {"name": NODE},
        mutates=True,
        errors=Errors.AS_ERRNO,
        order=Order.CONCURRENT,
        subject=Subject(TARGET_NODE, "name", removes=True),
        followed_by=_delete_in_worker,
    ),
    Method("iscsi_get_target_nodes", get_target_nodes, spread=Spread.GATHERED, merge=merging.target_nodes),
    Method(
        "iscsi_target_node_add_lun",
        add_lun,
        {
            "name": NODE,
            "bdev_name": required(string()),
            "lun_id": optional(integer(-1, MAX_LUN_ID), -1),
            **_LUN_OPTIONS,
        },
        mutates=True,
    ),
    Method(
        "iscsi_target_node_set_lun_mask",
        set_lun_mask,
        {"name": NODE, "lun_id": required(integer(0, MAX_LUN_ID)), "initiator_groups": required(_GROUPS)},
        mutates=True,
    ),
    Method("iscsi_target_node_add_pg_ig_maps", add_maps, {"name": NODE, "pg_ig_maps": _MAPS}, mutates=True),
    Method("iscsi_target_node_remove_pg_ig_maps", remove_maps, {"name": NODE, "pg_ig_maps": _MAPS}, mutates=True),
    Method(
        "iscsi_target_node_set_redirect",
        set_redirect,
        {
            "name": NODE,
            "pg_tag": TAG,
            "redirect_host": optional(string(256)),
            "redirect_port": optional(string(16)),
            # Ours: login status 0102 instead of 0101.
            "permanent": optional(boolean, False),
        },
        mutates=True,
        subject=Subject(TARGET_NODE, "name", part="redirect", which="pg_tag"),
    ),
    Method(
        "iscsi_target_node_request_logout",
        request_logout,
        {"name": NODE, "pg_tag": optional(integer(-1, MAX_TAG), -1)},
        spread=Spread.EVERYWHERE,
    ),
    Method("iscsi_get_connections", get_connections, spread=Spread.GATHERED, merge=merging.connections),
    Method("iscsi_get_stats", get_stats, spread=Spread.GATHERED, merge=merging.sums),
)
