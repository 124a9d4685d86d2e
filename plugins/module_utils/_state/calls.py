# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of a plan as calls of SPDK's JSON-RPC. Only this and ``bdev_calls`` know how an object is written in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from .._engine.facts import MAX_SECRETS_PER_CALL
from .._rpc import Call
from . import bdev_calls
from .auth import INHERIT, AuthGroup, DiscoveryAuth, Secret, loosens, rpc_policy
from .base import AUTH_GROUP, BDEV, DISCOVERY_AUTH, INITIATOR_GROUP, PORTAL_GROUP, TARGET_NODE
from .model import DISABLE, REMOVE_LUN, SET_OPTIONS, InitiatorGroup, Lun, Map, PortalGroup, Redirect, TargetNode
from .operations import Operation, as_kind
from .portals import Portal
from .schedule import CHANGE, DOWN, UP, Step

_LUNS_PER_CALL: Final = 64
"""SPDK's iscsi_create_target_node takes no more."""


def calls(step: Step) -> list[Call]:
    """The RPCs that a step consists of, in order; none if the engine has done it by itself."""
    return list(_CALLS[step.part, step.operation.ref[0]](step.operation))


_Calls = Iterator[Call]


def _auth_group_up(operation: Operation) -> _Calls:
    group = as_kind(AuthGroup, operation.after)
    first = [secret.to_rpc() for secret in group.secrets[:MAX_SECRETS_PER_CALL]]
    yield Call("iscsi_create_auth_group", {"tag": group.tag, "secrets": first})
    yield from _add_secrets(group, group.secrets[MAX_SECRETS_PER_CALL:])


def _auth_group_down(operation: Operation) -> _Calls:
    yield Call("iscsi_delete_auth_group", {"tag": as_kind(AuthGroup, operation.before).tag})


def _auth_group_change(operation: Operation) -> _Calls:
    """No engine changes a secret: its user goes and comes back at once. Who is logged in stays."""
    before, after = as_kind(AuthGroup, operation.before), as_kind(AuthGroup, operation.after)
    kept = frozenset(after.secrets)
    new = {each.user: each for each in after.new_since(before)}
    for old in before.secrets:
        if old in kept:
            continue
        yield Call("iscsi_auth_group_remove_secret", {"tag": after.tag, "user": old.user})
        if old.user in new:
            yield from _add_secrets(after, [new.pop(old.user)])
    yield from _add_secrets(after, new.values())


def _add_secrets(group: AuthGroup, secrets: Iterable[Secret]) -> _Calls:
    for each in secrets:
        yield Call("iscsi_auth_group_add_secret", {"tag": group.tag, **each.to_rpc()})


def _discovery_auth_change(operation: Operation) -> _Calls:
    discovery = as_kind(DiscoveryAuth, operation.after)
    yield Call("iscsi_set_discovery_auth", rpc_policy(discovery.chap, discovery.auth_group))


def _portal_group_up(operation: Operation) -> _Calls:
    group = as_kind(PortalGroup, operation.after)
    private = {"private": True} if group.private else {}
    yield Call("iscsi_create_portal_group", {"tag": group.tag, "portals": _portals(group.portals), **private})
    if group.chap != INHERIT:
        yield _set_portal_auth(group)


def _portal_group_change(operation: Operation) -> _Calls:
    """New portals before old ones go, apart from those that the operation has released."""
    before, after = as_kind(PortalGroup, operation.before), as_kind(PortalGroup, operation.after)
    if (before.chap, before.auth_group) != (after.chap, after.auth_group):
        yield _set_portal_auth(after)
    gone = {*after.portals, *operation.released}
    moves = {
        "add": [portal for portal in after.portals if portal not in before.portals],
        "remove": [portal for portal in before.portals if portal not in gone],
    }
    for verb, portals in moves.items():
        if portals:
            yield _move_portals(verb, after, portals)


def _portal_group_down(operation: Operation) -> _Calls:
    before = as_kind(PortalGroup, operation.before)
    if operation.removes:
        yield Call("iscsi_delete_portal_group", {"tag": before.tag})
    else:
        yield _move_portals("remove", before, [portal for portal in before.portals if portal in operation.released])


def _set_portal_auth(group: PortalGroup) -> Call:
    policy = {"inherit": True} if group.chap == INHERIT else rpc_policy(group.chap, group.auth_group)
    return Call("iscsi_portal_group_set_auth", {"tag": group.tag, **policy})


def _move_portals(verb: str, group: PortalGroup, portals: Iterable[Portal]) -> Call:
    return Call(f"iscsi_portal_group_{verb}_portals", {"tag": group.tag, "portals": _portals(portals)})


def _portals(portals: Iterable[Portal]) -> list[dict[str, str]]:
    return [{"host": portal.host, "port": str(portal.port)} for portal in portals]


def _initiator_group_up(operation: Operation) -> _Calls:
    yield Call("iscsi_create_initiator_group", as_kind(InitiatorGroup, operation.after).show())


def _initiator_group_down(operation: Operation) -> _Calls:
    yield Call("iscsi_delete_initiator_group", {"tag": as_kind(InitiatorGroup, operation.before).tag})


def _initiator_group_change(operation: Operation) -> _Calls:
    """Additions first: the group is never empty, and nobody who stays is shut out."""
    before, after = as_kind(InitiatorGroup, operation.before), as_kind(InitiatorGroup, operation.after)
    new_masks = [mask for mask in after.netmasks if mask not in before.netmasks]
    old_masks = [mask for mask in before.netmasks if mask not in after.netmasks]
    edits = [
        ("add", {"netmasks": new_masks}),
        *((verb, {"initiators": names}) for verb, names in reordered(before.initiators, after.initiators)),
        ("remove", {"netmasks": old_masks}),
    ]
    for verb, lists in edits:
        if any(lists.values()):
            yield Call(f"iscsi_initiator_group_{verb}_initiators", {"tag": after.tag, **lists})


def _target_node_up(operation: Operation) -> _Calls:
    node = as_kind(TargetNode, operation.after)
    luns = sorted(node.luns)
    yield Call(
        "iscsi_create_target_node",
        {
            "name": node.name,
            "alias_name": node.alias,
            "pg_ig_maps": _maps(node.maps),
            "luns": [_lun(lun) for lun in luns[:_LUNS_PER_CALL]],
            "queue_depth": node.queue_depth,
            **rpc_policy(node.chap, node.auth_group),
            "header_digest": node.header_digest,
            "data_digest": node.data_digest,
        },
    )
    yield from _add_luns(node, luns[_LUNS_PER_CALL:])
    yield from _set_redirects(node, node.redirects)
    if not node.enabled:
        yield Call(DISABLE, {"name": node.name})


def _target_node_down(operation: Operation) -> _Calls:
    before = as_kind(TargetNode, operation.before)
    if operation.removes:
        yield Call("iscsi_delete_target_node", {"name": before.name})
        return
    for lun in sorted(before.luns):
        if lun in operation.released:
            yield Call(REMOVE_LUN, {"name": before.name, "lun_id": lun.id})


def _target_node_change(operation: Operation) -> _Calls:
    """Stricter first and more open last, so that nobody comes in who may neither before nor after."""
    before, after = as_kind(TargetNode, operation.before), as_kind(TargetNode, operation.after)
    policy: list[Call] = []
    if (before.chap, before.auth_group) != (after.chap, after.auth_group):
        params = {"name": after.name, **rpc_policy(after.chap, after.auth_group)}
        policy.append(Call("iscsi_target_node_set_auth", params))
    opens = loosens(before.chap, after.chap)
    if before.enabled and not after.enabled:
        yield Call(DISABLE, {"name": after.name})
    yield from () if opens else policy
    yield from _set_options(before, after)
    live_luns = {lun.fixed: lun.initiator_groups for lun in before.luns if lun not in operation.released}
    yield from _add_luns(after, sorted(lun for lun in after.luns if lun.fixed not in live_luns))
    for lun in sorted(after.luns):
        if lun.initiator_groups != live_luns.get(lun.fixed, lun.initiator_groups):
            yield _mask(after, lun)
    left = [each for each in before.maps if each not in operation.detached]
    live, wanted = _groups(left), _groups(after.maps)
    # The engine ends a redirect with the last map of its portal group.
    redirects = {each for each in before.redirects if each.portal_group in live}
    unwanted = {each.portal_group for each in redirects} - {each.portal_group for each in after.redirects}
    for portal_group in sorted(unwanted & wanted.keys()):
        yield Call("iscsi_target_node_set_redirect", {"name": after.name, "pg_tag": portal_group})
    # New portal groups before old ones go, so that there is always a way in.
    for portal_group in [*wanted, *(tag for tag in live if tag not in wanted)]:
        for verb, groups in reordered(live.get(portal_group, ()), wanted.get(portal_group, ())):
            maps = [Map(portal_group, group) for group in groups]
            yield Call(f"iscsi_target_node_{verb}_pg_ig_maps", {"name": after.name, "pg_ig_maps": _maps(maps)})
    yield from _set_redirects(after, (each for each in after.redirects if each not in redirects))
    yield from policy if opens else ()
    if after.enabled and not before.enabled:
        yield Call("iscsi_target_node_enable", {"name": after.name})


def _set_options(before: TargetNode, after: TargetNode) -> _Calls:
    """What is for the next login: the alias, the queue depth and the digests."""
    names = {"alias": "alias_name", **{name: name for name in ("queue_depth", "header_digest", "data_digest")}}
    values = {rpc: getattr(after, name) for name, rpc in names.items() if getattr(after, name) != getattr(before, name)}
    if values:
        yield Call(SET_OPTIONS, {"name": after.name, **values})


def _set_redirects(node: TargetNode, redirects: Iterable[Redirect]) -> _Calls:
    for tag, address, permanent in redirects:
        where = {"redirect_host": address.host.strip("[]"), "redirect_port": str(address.port)}
        lasting = {"permanent": True} if permanent else {}
        yield Call("iscsi_target_node_set_redirect", {"name": node.name, "pg_tag": tag, **where, **lasting})


def _add_luns(node: TargetNode, luns: Iterable[Lun]) -> _Calls:
    for lun in luns:
        params = {"name": node.name, "bdev_name": lun.bdev, "lun_id": lun.id, **lun.flags}
        yield Call("iscsi_target_node_add_lun", params)
        if lun.initiator_groups:
            yield _mask(node, lun)


def _lun(lun: Lun) -> dict[str, Any]:
    mask = {"initiator_groups": list(lun.initiator_groups)} if lun.initiator_groups else {}
    return {"lun_id": lun.id, "bdev_name": lun.bdev, **lun.flags, **mask}


def _mask(node: TargetNode, lun: Lun) -> Call:
    groups = list(lun.initiator_groups or ())
    return Call("iscsi_target_node_set_lun_mask", {"name": node.name, "lun_id": lun.id, "initiator_groups": groups})


_CALLS: Final[dict[tuple[str, str], Callable[[Operation], _Calls]]] = {
    (UP, BDEV): bdev_calls.up,
    (DOWN, BDEV): bdev_calls.down,
    (CHANGE, BDEV): bdev_calls.change,
    (UP, AUTH_GROUP): _auth_group_up,
    (DOWN, AUTH_GROUP): _auth_group_down,
    (CHANGE, AUTH_GROUP): _auth_group_change,
    (CHANGE, DISCOVERY_AUTH): _discovery_auth_change,
    (UP, PORTAL_GROUP): _portal_group_up,
    (DOWN, PORTAL_GROUP): _portal_group_down,
    (CHANGE, PORTAL_GROUP): _portal_group_change,
    (UP, INITIATOR_GROUP): _initiator_group_up,
    (DOWN, INITIATOR_GROUP): _initiator_group_down,
    (CHANGE, INITIATOR_GROUP): _initiator_group_change,
    (UP, TARGET_NODE): _target_node_up,
    (DOWN, TARGET_NODE): _target_node_down,
    (CHANGE, TARGET_NODE): _target_node_change,
}

_Item = TypeVar("_Item")


def reordered(live: Sequence[_Item], wanted: Sequence[_Item]) -> list[tuple[str, list[_Item]]]:
    """Appends and removals, as ("add" | "remove", items), that turn ``live`` into ``wanted`` including its order.

    The longest beginning of ``wanted`` that stands in this order in ``live`` stays; what is in the wrong place is
    removed and appended again; what is not wanted goes last.
    """
    position = {item: index for index, item in enumerate(live)}
    kept, last = 0, -1
    while kept < len(wanted) and position.get(wanted[kept], -1) > last:
        last = position[wanted[kept]]
        kept += 1
    edits: list[tuple[str, list[_Item]]] = []
    for item in wanted[kept:]:
        if item in position:
            edits.append(("remove", [item]))
        if edits and edits[-1][0] == "add":
            edits[-1][1].append(item)
        else:
            edits.append(("add", [item]))
    gone = [item for item in live if item not in wanted]
    return [*edits, ("remove", gone)] if gone else edits


def _groups(maps: Iterable[Map]) -> dict[int, tuple[int, ...]]:
    groups: dict[int, tuple[int, ...]] = {}
    for portal_group, initiator_group in maps:
        groups[portal_group] = (*groups.get(portal_group, ()), initiator_group)
    return groups


def _maps(maps: Iterable[Map]) -> list[dict[str, int]]:
    return [{"pg_tag": each.portal_group, "ig_tag": each.initiator_group} for each in maps]
