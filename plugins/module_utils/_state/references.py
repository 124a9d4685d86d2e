# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does it all fit together? What the wishes mean among each other, with the live objects and for this engine.

Nothing here is sent anywhere: an engine refuses late, one object at a time and (SPDK) without saying why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

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
from .bdevs import DRIVERS, Bdev, controller_of
from .declaration import COLLECTIONS, Wish
from .goal import Goal
from .model import Capabilities, InitiatorGroup, PortalGroup, State, TargetNode
from .portals import WILDCARD_HOSTS, Portal, is_every_address
from .sizes import show_size
from .target_options import TargetOptions
from .text import Problems, listed


class _Context(NamedTuple):
    """What the checks look at."""

    current: State
    goal: Goal
    can: Capabilities
    known: frozenset[Ref]


def check(current: State, goal: Goal, can: Capabilities, problems: Problems) -> None:
    """Note in ``problems`` all that keeps the goal from being reached, whatever the order of the steps."""
    wanted = {ref for ref, wish in goal.wishes.items() if wish.present}
    context = _Context(current, goal, can, frozenset(wanted | set(goal.objects)))
    for each in goal.objects.values():
        for path, text in _CHECKS.get(each.kind, _nothing)(each, context):
            problems.note(path, text)
    for wish in goal.wishes.values():
        if not wish.present:
            for path, text in _removal(wish, context):
                problems.note(path, text)
    for path, text in _shared(context):
        problems.note(path, text)


_Found = Iterator[tuple[str, str]]


def _nothing(_each: Any, _scene: _Context) -> _Found:
    return iter(())


def _bdev(bdev: Bdev, context: _Context) -> _Found:
    wish = context.goal.wishes.get(bdev.ref)
    if wish is None:
        return
    live = context.current.get(bdev.ref)
    live = live if isinstance(live, Bdev) else None
    yield from _limits(bdev, live, wish, context)
    if not (bdev if live is None else live).managed:
        if not set(wish.given) <= {"name", "qos"}:
            what = f"is a {(live or bdev).type}, which openlun.iscsi can serve and limit but not change"
            yield wish.at("name"), f"bdev {bdev.name} {what}."
        return
    driver = DRIVERS[bdev.type]
    if (live is None or live.type != bdev.type) and not context.can.has(driver.create):
        why = f"{context.can.engine} has no {driver.create}, so it makes no bdevs of type {bdev.type}"
        yield wish.at("type"), f"{why}. Choose another type."
    for option in _BDEV_OPTIONS - driver.options:
        if wish.given.get(option):
            yield wish.at(option), f"bdev {bdev.name} is of type {bdev.type}, which has no {option}."
    option, needed = driver.needs
    if live is not None and getattr(bdev, option) is None:
        yield wish.at(option), f"as another device, bdev {bdev.name} needs {needed}."
    controller = controller_of(bdev.name)
    if live is None and controller is not None and _is_controller(context, controller):
        yield wish.at("name"), f"{bdev.name} is what controller {controller} calls a namespace. Choose another name."
    if bdev.size is not None and bdev.block_size is not None and bdev.size % bdev.block_size:
        yield wish.at("size"), f"{bdev.size} bytes are not a multiple of the block size {bdev.block_size}."
    if bdev.type == "aio" and "size" in wish.given:
        yield from _size_of_file(
            bdev, live if isinstance(live, Bdev) and live.path == bdev.path else None, wish, context
        )


_BDEV_OPTIONS: Final = frozenset(option for driver in DRIVERS.values() for option in driver.options)


def _limits(bdev: Bdev, live: Bdev | None, wish: Wish, context: _Context) -> _Found:
    if "qos" not in wish.given:
        return
    if bdev.is_controller:
        yield wish.at("qos"), f"{bdev.name} is a controller. Limit the bdevs it gives, such as {bdev.name}n1."
    elif bdev.qos is not None and bdev.qos.changed(live.qos if live else None) and not context.can.has(_SET_QOS):
        why = f"{context.can.engine} has no {_SET_QOS}, so it cannot limit bdevs"
        yield wish.at("qos"), f"{why}. Leave it out, or upgrade the engine."


_SET_QOS: Final = "bdev_set_qos_limit"


def _is_controller(context: _Context, name: str) -> bool:
    each = context.goal.objects.get((BDEV, name))
    return isinstance(each, Bdev) and each.is_controller


def _size_of_file(bdev: Bdev, live: Bdev | None, wish: Wish, context: _Context) -> _Found:
    """``live`` is the bdev as it is now on the same file."""
    size, can = bdev.size or 0, context.can
    if live is not None and live.size == size:
        return
    if str(bdev.path).startswith("/dev/"):
        yield wish.at("size"), f"{bdev.path} is a device and has its own size. Leave size out."
    elif live is None:
        if not can.makes_files:
            yield wish.at("size"), f"{can.engine} cannot make files. Make {bdev.path} first and leave size out."
    elif size < (live.size or 0):
        has = show_size(live.size or 0)
        why = f"bdev {bdev.name} has {has} and is not made smaller, because that cuts off data"
        yield wish.at("size"), f"{why}. Delete it and its file and create it again, or choose at least {has}."
    elif not can.grows_files:
        yield wish.at("size"), f"{can.engine} cannot grow files. Grow {bdev.path} first and leave size out."


def _auth_group(group: AuthGroup, context: _Context) -> _Found:
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


def _initiator_group(group: InitiatorGroup, context: _Context) -> _Found:
    wish = context.goal.wishes.get(group.ref)
    if wish is None or context.can.matches_every_address:
        return
    for index, netmask in enumerate(wish.given.get("netmasks", ())):
        if is_every_address(netmask):
            why = f"{context.can.engine} matches no address with {netmask}"
            yield f"{wish.at('netmasks')}[{index}]", f"{why}. Write ANY for every address."


def _portal_group(group: PortalGroup, context: _Context) -> _Found:
    wish, live = context.goal.wishes.get(group.ref), context.current.get(group.ref)
    policy = live.chap if isinstance(live, PortalGroup) else INHERIT
    if wish is not None and group.chap != policy and not context.can.tells_portal_auth:
        why = f"{context.can.engine} has one policy for discovery, on whatever portal"
        yield wish.at("chap"), f"{why}. Set it with discovery_auth, and leave this out."
        return
    yield from _policy(group, context)
    yield from _lost_auth_group(group, context)


def _policy(each: TargetNode | PortalGroup | DiscoveryAuth, context: _Context) -> _Found:
    """Whom CHAP shall let in must be able to prove it."""
    wish, live = context.goal.wishes.get(each.ref), context.current.get(each.ref)
    if wish is None or not ("chap" in wish.given or "auth_group" in wish.given):
        return
    if "auth_group" in wish.given:
        ref = (AUTH_GROUP, wish.given["auth_group"])
        if ref not in context.known:
            yield _dangling(context, ref, wish.at("auth_group"))
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


def _discovery_auth(discovery: DiscoveryAuth, context: _Context) -> _Found:
    yield from _policy(discovery, context)
    yield from _lost_auth_group(discovery, context)


def _lost_auth_group(each: TargetNode | PortalGroup | DiscoveryAuth, context: _Context) -> _Found:
    """What goes on asking for CHAP keeps the group it asks."""
    if each.auth_group is None:
        return
    ref, wish = (AUTH_GROUP, each.auth_group), context.goal.wishes.get(each.ref)
    if ref in context.goal.doomed and (wish is None or "auth_group" not in wish.given):
        why = f"{label(ref)} cannot be removed: {label(each.ref)} authenticates with it"
        yield context.goal.path(ref, "tag"), f"{why}. Give that another auth_group or chap none in the same run."


def _target_options(options: TargetOptions, context: _Context) -> _Found:
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


def _target_node(node: TargetNode, context: _Context) -> _Found:
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
            if _is_controller(context, lun.bdev):
                why = f"{lun.bdev} is a controller. Serve one of the bdevs it gives, such as {lun.bdev}n1"
                yield f"{wish.at('luns')}[{index}].bdev", f"{why}. Known bdevs: {_known(context, BDEV)}."
            elif ref not in context.known and controller_of(lun.bdev) not in context.goal.coming:
                yield _dangling(context, ref, f"{wish.at('luns')}[{index}].bdev")
        if all(lun.id != 0 for lun in node.luns):
            yield wish.at("luns"), "LUN 0 is missing, and initiators look for the other LUNs there."
    else:
        yield from _lost_bdevs(node, context)
    if "maps" in wish.given:
        for index, each in enumerate(node.maps):
            for ref in each.refs:
                if ref not in context.known:
                    yield _dangling(context, ref, f"{wish.at('maps')}[{index}].{ref[0]}")
    yield from _masks(node, context)
    most = context.can.max_queue_depth
    if node.queue_depth > most and "queue_depth" in wish.given:
        yield wish.at("queue_depth"), f"{node.queue_depth} is more than this engine's maximum of {most}."


def _masks(node: TargetNode, context: _Context) -> _Found:
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
                yield _dangling(context, ref, path)
            elif tag not in mapped and "initiator_groups" in (wish.entry.options["luns"][index] or ()):
                tags = listed([str(each) for each in sorted(mapped)])
                yield path, f"{label(ref)} is not mapped to the node, so nobody of it comes in. Mapped: {tags}."


def _lost_masks(node: TargetNode, context: _Context) -> _Found:
    """A LUN that nobody declares is still shown to the same initiators: a group of them cannot be removed."""
    for lun in node.luns:
        for tag in lun.initiator_groups or ():
            ref = (INITIATOR_GROUP, tag)
            if ref in context.goal.doomed:
                why = f"{label(ref)} cannot be removed: {label(node.ref)} shows LUN {lun.id} to it"
                yield context.goal.path(ref, "tag"), f"{why}. Declare its luns with other initiator_groups."


def _redirects(node: TargetNode, context: _Context) -> _Found:
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


def _dangling(context: _Context, ref: Ref, path: str) -> tuple[str, str]:
    """A declared reference must lead to an object that is there in the end; this one does not."""
    kind, key = ref
    noun = kind.replace("_", " ")
    if ref in context.goal.doomed:
        return path, f"{label(ref)} is to be removed ({context.goal.doomed[ref]}), so nothing can use it."
    missing = f"no {noun} {'named' if kind == BDEV else 'with tag'} {key}"
    remedy = f"Declare it in {COLLECTIONS[kind]} or create it first"
    controller = controller_of(str(key)) if kind == BDEV else None
    if controller is not None and _is_controller(context, controller):
        remedy = f"Controller {controller} does not give it"
    return path, f"{missing}. {remedy}. Known {noun}s: {_known(context, kind)}."


def _known(context: _Context, kind: str) -> str:
    known = sorted(context.known, key=str)
    return listed(
        [str(key) for known_kind, key in known if known_kind == kind and not _is_controller(context, str(key))]
    )


def _lost_bdevs(node: TargetNode, context: _Context) -> _Found:
    """A node that nobody declares, or whose LUNs nobody declares, keeps its bdevs: they cannot be removed."""
    for lun in node.luns:
        ref = (BDEV, lun.bdev)
        if ref in context.goal.doomed:
            why = f"{label(ref)} cannot be removed: {label(node.ref)} serves it as LUN {lun.id}"
            remedy = "Remove the target node in the same run, or declare its luns without this bdev."
            yield context.goal.path(ref, "name"), f"{why}. {remedy}"


def _removal(wish: Wish, context: _Context) -> _Found:
    live = context.current.get(wish.ref)
    if not isinstance(live, Bdev):
        return
    if not live.managed:
        yield wish.at("name"), f"bdev {live.name} is a {live.type}, which openlun.iscsi can serve but not remove."
    elif wish.remove_file and live.type != "aio":
        yield wish.at("remove_file"), f"bdev {live.name} is of type {live.type} and has no file that can go with it."
    elif wish.remove_file and not context.can.removes_files:
        remedy = f"Leave it out and remove {live.path} yourself."
        yield wish.at("remove_file"), f"{context.can.engine} cannot remove files. {remedy}"


def _shared(context: _Context) -> _Found:
    """What only one object can have: a portal, a UUID, a file."""
    yield from _overlapping_portals(context)
    bdevs = [each for each in context.goal.objects.values() if isinstance(each, Bdev)]
    yield from _taken_twice(context, "uuid", ((bdev, bdev.uuid) for bdev in bdevs))
    yield from _taken_twice(context, "path", ((bdev, bdev.path) for bdev in bdevs))
    yield from _taken_twice(context, "address", ((bdev, bdev.address) for bdev in bdevs))


def _taken_twice(context: _Context, option: str, values: Iterable[tuple[Bdev, str | None]]) -> _Found:
    owners: dict[str, Bdev] = {}
    for bdev, value in values:
        owner = owners.setdefault(value, bdev) if value is not None else bdev
        if owner is bdev:
            continue
        # The problem belongs to whichever of the two is declared.
        blamed, other = (bdev, owner) if bdev.ref in context.goal.wishes else (owner, bdev)
        if blamed.ref in context.goal.wishes:
            yield context.goal.path(blamed.ref, option), f"{value} belongs to {label(other.ref)} already."


def _overlapping_portals(context: _Context) -> _Found:
    owners: dict[tuple[int, bool], dict[str, tuple[PortalGroup, Portal]]] = {}
    groups = (each for each in context.goal.objects.values() if isinstance(each, PortalGroup))
    for group, portal in ((each, portal) for each in groups for portal in each.portals):
        on_port = owners.setdefault((portal.port, portal.is_ipv6), {})
        rivals = on_port if portal.is_wildcard else {portal.host, *WILDCARD_HOSTS} & on_port.keys()
        for host in rivals:
            yield from _overlap(context, (group, portal), on_port[host])
        on_port[portal.host] = (group, portal)


def _overlap(context: _Context, first: tuple[PortalGroup, Portal], second: tuple[PortalGroup, Portal]) -> _Found:
    (group, portal), (other_group, other) = (first, second) if first[0].ref in context.goal.wishes else (second, first)
    wish = context.goal.wishes.get(group.ref)
    if wish is None or "portals" not in wish.given:
        return
    path = f"{wish.at('portals')}[{group.portals.index(portal)}]"
    relation = "belongs to" if portal == other else f"overlaps {other} of"
    yield path, f"{portal} {relation} {label(other_group.ref)} already. A portal belongs to one portal group."


_CHECKS: Final[dict[str, Callable[[Any, _Context], _Found]]] = {
    BDEV: _bdev,
    AUTH_GROUP: _auth_group,
    PORTAL_GROUP: _portal_group,
    INITIATOR_GROUP: _initiator_group,
    TARGET_NODE: _target_node,
    DISCOVERY_AUTH: _discovery_auth,
    TARGET_OPTIONS: _target_options,
}
