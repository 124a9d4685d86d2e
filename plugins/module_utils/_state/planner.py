# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure planner: live state, declaration and capabilities in, operations out.

Check mode is the plan, diff mode its before and after, a run its application, idempotence its emptiness, prune its
deletions and safety its refusals. One function per kind of object says what has to happen to one of them; what that
means for the objects that use it is in ``ripple``, the order is in ``schedule``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any, Final

from . import mirror_bases, portal_moves, references, ripple, schedule
from .auth import INHERIT
from .base import (
    AUTH_GROUP,
    BDEV,
    DISCOVERY_AUTH,
    INITIATOR_GROUP,
    PORTAL_GROUP,
    TARGET_NODE,
    TARGET_OPTIONS,
    Change,
    Ref,
    changes,
)
from .bdevs import MIB, Bdev, Qos
from .declaration import Declaration
from .drivers import DRIVERS, NVME, RAID, SPLIT, giver_of
from .goal import aim
from .masking import losing
from .mirrors import Exchange
from .model import KINDS, REMOVE_LUN, SET_OPTIONS, Capabilities, Object, PortalGroup, State, TargetNode
from .operations import CREATE, DELETE, EDIT, REPLACE, Operation
from .scene import Scene
from .text import Problems


class Refused(Exception):
    """The declaration cannot be planned; ``problems`` says everything that is wrong with it."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def plan(
    current: State,
    desired: Declaration,
    can: Capabilities,
    *,
    prune: bool = False,
    ignore: Sequence[str] = (),
    force: bool = False,
) -> list[Operation]:
    """The operations that lead from ``current`` to what ``desired`` asks for, in an order that works.

    Raises Refused with all problems at once: of the declaration, or of steps that need ``force``.
    """
    problems = Problems(desired.problems)
    goal = aim(current, desired, problems, prune=prune, ignore=ignore)
    references.check(current, goal, can, problems)
    if problems:
        raise Refused(problems)
    scene = Scene(current, goal, can)
    operations = ripple.spread({each.ref: each for each in _operations(scene)}, scene)
    obstacles = list(mirror_bases.obstacles(operations.values()))
    if obstacles:
        raise Refused(obstacles)
    refusals = [] if force else [each.refusal() for each in operations.values() if each.needs_force]
    if refusals:
        raise Refused(refusals)
    return schedule.in_order(operations.values())


def _operations(scene: Scene) -> Iterator[Operation]:
    """What every single object asks for, dependencies first."""
    for kind in KINDS:
        for ref, want in scene.goal.objects.items():
            # Of what nobody declares only limits become others.
            if ref[0] == kind and (ref in scene.goal.wishes or want is not scene.current.get(ref)):
                yield from _PLANNERS[kind](scene.current.get(ref), want, scene)
    for ref, why in scene.goal.doomed.items():
        live = scene.current.objects[ref]
        if not (isinstance(live, Bdev) and live.is_given):
            yield _deletion(ref, why, scene)


def _plan_bdev(live: Bdev | None, want: Bdev, scene: Scene) -> Iterator[Operation]:
    """Limits, latencies and disks of mirrors change and some types grow while served; all else is fixed at creation."""
    if want.is_given:
        yield from _plan_given(live, want, scene)
        return
    expects = _bdevs_used(want, scene) if want.name in scene.goal.coming else ()
    if live is None:
        yield Operation(CREATE, None, want, "does not exist", expects=expects)
        return
    as_told = live.latency is not None and live.latency.is_made_of(want.latency)
    differences = [each for each in changes(live, want) if not (each.property == "latency" and as_told)]
    if not differences:
        return
    properties = {each.property for each in differences}
    live_properties = _LIVE_OF_BDEVS | ({"size"} if _grows(live, want, scene.can) else set())
    mirror = live.exchange(want.base_bdevs or ()) if scene.can.exchanges_bases and "base_bdevs" in properties else None
    if mirror is not None and properties <= live_properties | {"base_bdevs"}:
        yield _exchange(live, want, _said(differences), mirror)
    elif properties <= live_properties:
        yield Operation(EDIT, live, want, _said(differences))
    else:
        risks = (*_risks(live, properties), *_claims(live, scene))
        yield Operation(REPLACE, live, want.made_again(), _said(differences), risks=risks, expects=expects)


def _exchange(live: Bdev, want: Bdev, said: str, mirror: Exchange) -> Operation:
    """What is put in an empty place is what was declared; to give up a disk that has the data is another matter."""
    come, go = ", ".join(mirror.come), ", ".join(mirror.go)
    risks = (f"gives {go} up before {come} has the data",) if go else ()
    return Operation(EDIT, live, want, f"{said}, overwrites {come}", risks, released=frozenset(mirror.go))


_LIVE_OF_BDEVS: Final = frozenset(("qos", "latency"))


def _risks(live: Bdev, properties: Set[str]) -> Iterator[str]:
    """What a replacement does to the data, by what differs. A file that another one takes the place of stays."""
    if live.type == NVME or properties & {"base_bdevs", "pool", "image", "cluster"}:
        yield "puts another device in its place"
    elif live.type == RAID and properties & {"level", "strip_size"}:
        yield "lays its data out anew"
    elif live.type == SPLIT:
        yield "cuts its bdev into other parts"
    yield from _lost_data(live)


def _claims(live: Bdev, scene: Scene) -> tuple[str, ...]:
    """An engine has more that is made of bdevs than is known here, such as stores of logical volumes."""
    if not live.claimed or scene.built_on(live.ref) or scene.users_of(live.ref):
        return ()
    return ("takes it from something in the engine that openlun.iscsi does not know",)


def _plan_given(live: Bdev | None, want: Bdev, scene: Scene) -> Iterator[Operation]:
    """It comes with what gives it, without limits, and has none in the end that nobody declares."""
    if live is None or giver_of(want.name) in scene.goal.coming:
        live, want = Bdev(want.name, want.type, qos=Qos()), Bdev(want.name, want.type, qos=want.qos)
    differences = [each for each in changes(live, want) if each.property == "qos"]
    if differences:
        why = _said(differences)
        yield Operation(EDIT, live, want, why if want.ref in scene.goal.wishes else f"not declared, {why}")


def _bdevs_used(giver: Bdev, scene: Scene) -> tuple[str, ...]:
    """The bdevs that a controller or a split shall give once it is there: those of a split, and any that is needed."""
    goal = scene.goal
    needed = (str(key) for each in goal.objects.values() for kind, key in each.needs() if kind == BDEV)
    declared = (str(key) for (kind, key), wish in goal.wishes.items() if kind == BDEV and wish.present)
    names = dict.fromkeys((*giver.parts, *needed, *declared))
    return tuple(name for name in names if giver_of(name) == giver.name)


def _grows(live: Bdev, want: Bdev, can: Capabilities) -> bool:
    """A file does it with the engine or with whoever keeps it, the others by a method that may count in MiB."""
    if (want.size or 0) <= (live.size or 0):
        return False
    method = DRIVERS[want.type].resize
    return (
        can.grows_files if want.type == "aio" else method is not None and can.has(method) and not (want.size or 0) % MIB
    )


def _plan_portal_group(live: PortalGroup | None, want: PortalGroup, scene: Scene) -> Iterator[Operation]:
    """Whom it asks for CHAP changes while it listens, and its portals where the engine can do that."""
    if live is None:
        yield Operation(CREATE, None, want, "does not exist")
        return
    differences = changes(live, want)
    if not differences:
        return
    properties = {each.property for each in differences}
    closed = frozenset(live.portals) - frozenset(want.portals)
    sessions = scene.sessions_by(closed, live)
    resets = "chap" in properties and want.chap == INHERIT and not scene.can.drops_portal_auth
    moves = "portals" not in properties or (
        all(map(scene.can.has, _MOVES_PORTALS)) and portal_moves.are_possible(live, want, scene)
    )
    if properties <= {"chap", "auth_group", "portals"} and moves and not resets:
        released = closed if portal_moves.keeps_some(live, want) else frozenset()
        yield Operation(EDIT, live, want, _said(differences), sessions=sessions, released=released)
    else:
        yield Operation(REPLACE, live, want, _said(differences), sessions=sessions)


_MOVES_PORTALS: Final = ("iscsi_portal_group_add_portals", "iscsi_portal_group_remove_portals")


def _plan_editable(live: Object | None, want: Object, _scene: Scene) -> Iterator[Operation]:
    """Initiators, netmasks and secrets come and go while their group is used; who is logged in stays."""
    if live is None:
        yield Operation(CREATE, None, want, "does not exist")
        return
    differences = changes(live, want)
    if differences:
        yield Operation(EDIT, live, want, _said(differences))


def _plan_nothing(_live: Object | None, _want: Object, _scene: Scene) -> Iterator[Operation]:
    """Options are as they shall be: references has refused what an engine that runs does not take."""
    return iter(())


_LIVE_PROPERTIES: Final = frozenset(("maps", "luns", "chap", "auth_group", "redirects", "enabled"))
"""What a target node changes while it serves; of its LUNs on every engine that they become more, and who sees them."""
_LIVE_OPTIONS: Final = frozenset(("alias", "queue_depth", "header_digest", "data_digest"))
"""What else it changes by SET_OPTIONS, where there is that method. Sessions keep what they negotiated."""


def _plan_target_node(live: TargetNode | None, want: TargetNode, scene: Scene) -> Iterator[Operation]:
    """What an engine cannot change is fixed when the node is created."""
    if live is None:
        yield Operation(CREATE, None, want, "does not exist")
        return
    differences = changes(live, want)
    if not differences:
        return
    sessions = scene.sessions_of(live)
    properties = {each.property for each in differences}
    live_properties = _LIVE_PROPERTIES | (_LIVE_OPTIONS if scene.can.has(SET_OPTIONS) else frozenset())
    earlier, later = ({lun.fixed for lun in node.luns} for node in (live, want))
    adds_luns = later <= earlier or scene.can.adds_luns_with_sessions or not sessions
    removes_luns = earlier <= later or scene.can.has(REMOVE_LUN)
    if properties <= live_properties and adds_luns and removes_luns:
        released = frozenset(lun for lun in live.luns if lun.fixed not in later)
        hit = losing(live, want, released, scene)
        yield Operation(EDIT, live, want, _said(differences), sessions=hit, released=released)
    else:
        yield Operation(REPLACE, live, want, _said(differences), sessions=sessions)


_PLANNERS: Final[dict[str, Callable[[Any, Any, Scene], Iterator[Operation]]]] = {
    BDEV: _plan_bdev,
    AUTH_GROUP: _plan_editable,
    PORTAL_GROUP: _plan_portal_group,
    INITIATOR_GROUP: _plan_editable,
    TARGET_NODE: _plan_target_node,
    DISCOVERY_AUTH: _plan_editable,
    TARGET_OPTIONS: _plan_nothing,
}


def _deletion(ref: Ref, why: str, scene: Scene) -> Operation:
    live = scene.current.objects[ref]
    wish = scene.goal.wishes.get(ref)
    return Operation(
        DELETE,
        live,
        None,
        why,
        risks=(*_lost_data(live), *_claims(live, scene)) if isinstance(live, Bdev) else (),
        sessions=scene.sessions_hit_by_removing(live),
        remove_file=wish is not None and wish.remove_file,
    )


def _lost_data(bdev: Bdev) -> tuple[str, ...]:
    """What a bdev takes with it. The file of an aio bdev stays, unless its removal was asked for."""
    return ("loses its data, which is in memory",) if DRIVERS[bdev.type].loses_data else ()


def _said(differences: Sequence[Change]) -> str:
    return ", ".join(str(each) for each in differences)
