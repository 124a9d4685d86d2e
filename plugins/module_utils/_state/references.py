# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does it all fit together? What the wishes mean among each other, with the live objects and for this engine.

Nothing here is sent anywhere: an engine refuses late, one object at a time and (SPDK) without saying why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from . import bdev_checks
from .auth import ASKS_NOBODY, INHERIT, MUTUAL, REQUIRED, AuthGroup, DiscoveryAuth
from .base import (
    AUTH_GROUP,
    BDEV,
    DISCOVERY_AUTH,
    INITIATOR_GROUP,
    PORTAL_GROUP,
    TARGET_NODE,
    TARGET_OPTIONS,
    Ref,
    changes,
    label,
)
from .context import Context, Found, dangling
from .goal import Goal
from .model import DISABLE, Capabilities, InitiatorGroup, PortalGroup, State, TargetNode
from .portals import WILDCARD_HOSTS, Portal, is_every_address
from .target_options import TargetOptions
from .text import Problems, listed


def check(current: State, goal: Goal, can: Capabilities, problems: Problems) -> None:
    """Note in ``problems`` all that keeps the goal from being reached, whatever the order of the steps."""
    wanted = {ref for ref, wish in goal.wishes.items() if wish.present}
    context = Context(current, goal, can, frozenset(wanted | set(goal.objects)))
    for each in goal.objects.values():
        for path, text in _CHECKS.get(each.kind, _nothing)(each, context):
            problems.note(path, text)
    for wish in goal.wishes.values():
        if not wish.present:
            for path, text in bdev_checks.removal(wish, context):
                problems.note(path, text)
    for found in (_overlapping_portals(context), bdev_checks.shared(context)):
        for path, text in found:
            problems.note(path, text)


def _nothing(_each: Any, _scene: Context) -> Found:
    return iter(())


def _auth_group(group: AuthGroup, context: Context) -> Found:
    """Whoever is to be given to the engine needs a secret; one that only the engine knows cannot be given again."""
    wish = context.goal.wishes.get(group.ref)
    if wish is None or "secrets" not in wish.given:
        return
    place = {each.user: index for index, each in enumerate(wish.given["secrets"])}
    for each in group.new_since(context.current.get(group.ref)):
        if not each.is_whole:
            lacking = "secret" if each.secret is None else "msecret"
            path = f"{wish.at('secrets')}[{place[each.user]}].{lacking}"
            yield path, f"user {each.user} of {label(group.ref)} needs a {lacking}."


def _initiator_group(group: InitiatorGroup, context: Context) -> Found:
    wish = context.goal.wishes.get(group.ref)
    if wish is None or context.can.matches_every_address:
        return
    for index, netmask in enumerate(wish.given.get("netmasks", ())):
        if is_every_address(netmask):
            why = f"{context.can.engine} matches no address with {netmask}"
            yield f"{wish.at('netmasks')}[{index}]", f"{why}. Write ANY for every address."


def _portal_group(group: PortalGroup, context: Context) -> Found:
    wish, live = context.goal.wishes.get(group.ref), context.current.get(group.ref)
    policy = live.chap if isinstance(live, PortalGroup) else INHERIT
    if wish is not None and group.chap != policy and not context.can.tells_portal_auth:
        why = f"{context.can.engine} has one policy for discovery, on whatever portal"
        yield wish.at("chap"), f"{why}. Set it with discovery_auth, and leave this out."
        return
    yield from _policy(group, context)
    yield from _lost_auth_group(group, context)


def _policy(each: TargetNode | PortalGroup | DiscoveryAuth, context: Context) -> Found:
    """Whom CHAP shall let in must be able to prove it."""
    wish, live = context.goal.wishes.get(each.ref), context.current.get(each.ref)
    if wish is None or not ("chap" in wish.given or "auth_group" in wish.given):
        return
    if "auth_group" in wish.given:
        ref = (AUTH_GROUP, wish.given["auth_group"])
        if ref not in context.known:
            yield dangling(context, ref, wish.at("auth_group"))
        if each.chap in ASKS_NOBODY:
            why = f"with chap {each.chap} nobody asks for its secrets"
            yield wish.at("auth_group"), f"{why}. Leave one of the two out."
    if isinstance(live, type(each)) and (live.chap, live.auth_group) == (each.chap, each.auth_group):
        return
    if each.chap in (REQUIRED, MUTUAL) and each.auth_group is None:
        yield wish.at("auth_group"), f"chap {each.chap} needs the auth group that has the secrets."
    group = context.goal.objects.get((AUTH_GROUP, each.auth_group or 0))
    if each.chap == MUTUAL and isinstance(group, AuthGroup) and not any(secret.muser for secret in group.secrets):
        remedy = "Give one a muser and an msecret."
        yield wish.at("chap"), f"no secret of {label(group.ref)} has a muser, so nobody could log in. {remedy}"


def _discovery_auth(discovery: DiscoveryAuth, context: Context) -> Found:
    yield from _policy(discovery, context)
    yield from _lost_auth_group(discovery, context)


def _lost_auth_group(each: TargetNode | PortalGroup | DiscoveryAuth, context: Context) -> Found:
    """What goes on asking for CHAP keeps the group it asks."""
    if each.auth_group is None:
        return
    ref, wish = (AUTH_GROUP, each.auth_group), context.goal.wishes.get(each.ref)
    if ref in context.goal.doomed and (wish is None or "auth_group" not in wish.given):
        why = f"{label(ref)} cannot be removed: {label(each.ref)} authenticates with it"
        yield context.goal.path(ref, "tag"), f"{why}. Give that another auth_group or chap none in the same run."


def _target_options(options: TargetOptions, context: Context) -> Found:
    live, wish = context.current.get(options.ref), context.goal.wishes.get(options.ref)
    if not isinstance(live, TargetOptions) or wish is None:
        return
    for change in changes(live, options):
        if change.property in live.values:
            why = f"the engine has {change.before} and takes {change.after} only before it serves"
            remedy = (
                "Start it with --wait-for-rpc and run this again, or with a configuration that has iscsi_set_options"
            )
            yield wish.at(change.property), f"{why}. {remedy}."


def _target_node(node: TargetNode, context: Context) -> Found:
    yield from _policy(node, context)
    yield from _lost_auth_group(node, context)
    yield from _redirects(node, context)
    wish = context.goal.wishes.get(node.ref)
    if wish is None:
        yield from _lost_bdevs(node, context)
        yield from _lost_masks(node, context)
        return
    if "luns" in wish.given:
        for index, lun in enumerate(node.luns):
            ref: Ref = (BDEV, lun.bdev)
            if not context.has_bdev(lun.bdev):
                yield dangling(context, ref, f"{wish.at('luns')}[{index}].bdev")
        if all(lun.id != 0 for lun in node.luns):
            yield wish.at("luns"), "LUN 0 is missing, and initiators look for the other LUNs there."
    else:
        yield from _lost_bdevs(node, context)
    if "maps" in wish.given:
        for index, each in enumerate(node.maps):
            for ref in each.refs:
                if ref not in context.known:
                    yield dangling(context, ref, f"{wish.at('maps')}[{index}].{ref[0]}")
    yield from _masks(node, context)
    yield from _beyond(node, context)
    most = context.can.max_queue_depth
    if node.queue_depth > most and "queue_depth" in wish.given:
        yield wish.at("queue_depth"), f"{node.queue_depth} is more than this engine's maximum of {most}."


def _beyond(node: TargetNode, context: Context) -> Found:
    """What not every engine has: a node that is disabled, and LUNs that are other than their bdevs."""
    wish, engine = context.goal.wishes[node.ref], context.can.engine
    if not node.enabled and "enabled" in wish.given and not context.can.has(DISABLE):
        yield (
            wish.at("enabled"),
            f"{engine} cannot disable a target node. Leave this out, and take its initiators away.",
        )
    if "luns" not in wish.given or context.can.flags_luns:
        return
    for index, lun in enumerate(node.luns):
        for flag in lun.flags:
            remedy = "Make its bdev read-only" if flag == "readonly" else "Leave this out"
            yield f"{wish.at('luns')}[{index}].{flag}", f"{engine} has no LUNs that are {_SAID[flag]}. {remedy}."


_SAID: Final = {"readonly": "read-only by themselves", "removable": "removable"}


def _masks(node: TargetNode, context: Context) -> Found:
    """Who is to see a LUN has to be there, and has to come in."""
    wish, live = context.goal.wishes[node.ref], context.current.get(node.ref)
    if "luns" not in wish.given:
        yield from _lost_masks(node, context)
        return
    earlier = {lun.disk: lun.initiator_groups for lun in live.luns} if isinstance(live, TargetNode) else {}
    mapped = {each.initiator_group for each in node.maps}
    for index, lun in enumerate(node.luns):
        path = f"{wish.at('luns')}[{index}].initiator_groups"
        if lun.initiator_groups != earlier.get(lun.disk, ()) and not context.can.masks_luns:
            why = f"{context.can.engine} shows every LUN to whoever may log in"
            yield path, f"{why}. Give these initiators a target node of their own."
            continue
        for tag in lun.initiator_groups or ():
            ref = (INITIATOR_GROUP, tag)
            if ref not in context.known:
                yield dangling(context, ref, path)
            elif tag not in mapped and "initiator_groups" in (wish.entry.options["luns"][index] or ()):
                tags = listed([str(each) for each in sorted(mapped)])
                yield path, f"{label(ref)} is not mapped to the node, so nobody of it comes in. Mapped: {tags}."


def _lost_masks(node: TargetNode, context: Context) -> Found:
    """A LUN that nobody declares is still shown to the same initiators: a group of them cannot be removed."""
    for lun in node.luns:
        for tag in lun.initiator_groups or ():
            ref = (INITIATOR_GROUP, tag)
            if ref in context.goal.doomed:
                why = f"{label(ref)} cannot be removed: {label(node.ref)} shows LUN {lun.id} to it"
                yield context.goal.path(ref, "tag"), f"{why}. Declare its luns with other initiator_groups."


def _redirects(node: TargetNode, context: Context) -> Found:
    """Initiators are sent away from public portals that lead to the node, and to other ones."""
    if not node.redirects:
        return
    wish = context.goal.wishes.get(node.ref)
    asked = wish is not None and "redirects" in wish.given
    if wish is not None and asked and not context.can.tells_redirects:
        why = f"{context.can.engine} does not tell which redirects there are, so they cannot be compared"
        yield wish.at("redirects"), f"{why}. Set them with openlun.iscsi.rpc and iscsi_target_node_set_redirect."
        return
    mapped = node.groups_by_portal_group()
    for index, (tag, address, _permanent) in enumerate(node.redirects):
        ref = (PORTAL_GROUP, tag)
        group = context.goal.objects.get(ref)
        if wish is not None and asked and tag not in mapped:
            tags = listed([str(each) for each in mapped])
            why = f"the node is not mapped to {label(ref)}, so nobody comes by it"
            yield f"{wish.at('redirects')}[{index}].portal_group", f"{why}. Its portal groups: {tags}."
        elif isinstance(group, PortalGroup) and (group.private or address in group.portals):
            what = "is private" if group.private else f"has the portal {address} itself"
            why = f"{label(node.ref)} sends initiators from {label(ref)} to {address}, but that group {what}"
            option = "private" if group.private else "portals"
            path = f"{wish.at('redirects')}[{index}]" if wish is not None and asked else context.goal.path(ref, option)
            yield path, f"{why}. Choose another portal group, or leave the redirect out."


def _lost_bdevs(node: TargetNode, context: Context) -> Found:
    """A node that nobody declares, or whose LUNs nobody declares, keeps its bdevs: they cannot be removed."""
    for lun in node.luns:
        ref = (BDEV, lun.bdev)
        if ref in context.goal.doomed:
            why = f"{label(ref)} cannot be removed: {label(node.ref)} serves it as LUN {lun.id}"
            remedy = "Remove the target node in the same run, or declare its luns without this bdev."
            yield context.goal.path(ref, "name"), f"{why}. {remedy}"


def _overlapping_portals(context: Context) -> Found:
    owners: dict[tuple[int, bool], dict[str, tuple[PortalGroup, Portal]]] = {}
    groups = (each for each in context.goal.objects.values() if isinstance(each, PortalGroup))
    for group, portal in ((each, portal) for each in groups for portal in each.portals):
        on_port = owners.setdefault((portal.port, portal.is_ipv6), {})
        rivals = on_port if portal.is_wildcard else {portal.host, *WILDCARD_HOSTS} & on_port.keys()
        for host in rivals:
            yield from _overlap(context, (group, portal), on_port[host])
        on_port[portal.host] = (group, portal)


def _overlap(context: Context, first: tuple[PortalGroup, Portal], second: tuple[PortalGroup, Portal]) -> Found:
    (group, portal), (other_group, other) = (first, second) if first[0].ref in context.goal.wishes else (second, first)
    wish = context.goal.wishes.get(group.ref)
    if wish is None or "portals" not in wish.given:
        return
    path = f"{wish.at('portals')}[{group.portals.index(portal)}]"
    relation = "belongs to" if portal == other else f"overlaps {other} of"
    yield path, f"{portal} {relation} {label(other_group.ref)} already. A portal belongs to one portal group."


_CHECKS: Final[dict[str, Callable[[Any, Context], Found]]] = {
    BDEV: bdev_checks.check,
    AUTH_GROUP: _auth_group,
    PORTAL_GROUP: _portal_group,
    INITIATOR_GROUP: _initiator_group,
    TARGET_NODE: _target_node,
    DISCOVERY_AUTH: _discovery_auth,
    TARGET_OPTIONS: _target_options,
}
