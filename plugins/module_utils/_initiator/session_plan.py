# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way from the records and sessions there are to those that are wanted, as data. Nothing here looks or acts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Final, NamedTuple

from . import settings
from .nodes import Node

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from .records import Record
    from .session_text import Session

PRESENT: Final = "present"
RECORDED: Final = "recorded"
ABSENT: Final = "absent"

CREATE: Final = "create"
EDIT: Final = "edit"
DELETE: Final = "delete"
LOGIN: Final = "login"
LOGOUT: Final = "logout"
RESCAN: Final = "rescan"
RESIZE: Final = "resize"
REMOVE: Final = "remove"


class Want(NamedTuple):
    """What is declared for a target. Without ``nodes`` it is all there are, which only goes for removals."""

    state: str
    target: str
    nodes: Sequence[Node]
    values: Mapping[str, str]
    interface: str | None = None
    force: bool = False
    relogin: bool = False
    rescan: bool = True
    expects_disks: bool = True
    exclusive: bool = False


class Offer(NamedTuple):
    """What a target says of its LUNs now: their numbers, and the bytes of each of the kernel's disks."""

    luns: frozenset[int]
    sizes: Mapping[str, int]


class Scene(NamedTuple):
    """What there is. ``offer`` asks the target of a session, ``size`` the kernel, ``users`` says who uses a disk."""

    records: Sequence[Record]
    sessions: Sequence[Session]
    offer: Callable[[Session], Offer | None]
    size: Callable[[str], int]
    users: Callable[[str, Collection[str]], list[str]]


@dataclass(frozen=True)
class Operation:
    """One thing to do to a node's record or session, or to a disk."""

    action: str
    node: Node
    why: str
    changes: Mapping[str, str] = field(default_factory=dict)
    record: Record | None = None
    session: Session | None = None
    disk: str = ""

    @property
    def object(self) -> str:
        if self.disk:
            return f"/dev/{self.disk}"
        return f"{'record' if self.action in (CREATE, EDIT, DELETE) else 'session'} of {self.node}"

    def told(self) -> dict[str, str]:
        """For the module's result. No secret is in it."""
        return {"action": self.action, "object": self.object, "why": self.why}


@dataclass
class Plan:
    """Operations in their order, or ``refusals``: then nothing is done."""

    operations: list[Operation] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def plan(want: Want, scene: Scene) -> Plan:
    result = Plan()
    if want.state == ABSENT:
        _end(want, scene, _named(want, scene.sessions), result)
        for record in scene.records:
            if _is_named(want, record.node):
                result.operations.append(Operation(DELETE, record.node, "it is not wanted", record=record))
        return result
    for node in want.nodes:
        _bring(want, node, scene, result)
    if want.exclusive:
        _leave_others(want, scene, result)
    return result


def _leave_others(want: Want, scene: Scene, result: Plan) -> None:
    """Portals and interfaces of the target that are not declared, after those that are have been logged in to."""
    wanted = {node.key for node in want.nodes}
    others = [each for each in scene.sessions if each.target == want.target and each.node.key not in wanted]
    _end(want, scene, others, result, "its portal is not declared")
    for record in scene.records:
        if record.node.target == want.target and record.node.key not in wanted:
            result.operations.append(Operation(DELETE, record.node, "its portal is not declared", record=record))


def _bring(want: Want, node: Node, scene: Scene, result: Plan) -> None:
    record = next((each for each in scene.records if each.node.key == node.key), None)
    sessions = [each for each in scene.sessions if each.node.key == node.key]
    changes = _changes(record, want.values)
    if record is None:
        result.operations.append(Operation(CREATE, node, "it was missing", dict(want.values)))
    elif changes:
        result.operations.append(Operation(EDIT, node, f"{_listed(changes)} differ", changes, record))
    if want.state == RECORDED:
        _end(want, scene, sessions, result)
    elif not sessions:
        result.operations.append(Operation(LOGIN, node, "it was not logged in"))
    elif changes and settings.needs_login(changes):
        _make_again(want, node, sessions, scene, changes, result)
    elif want.rescan:
        for session in sessions:
            _refresh(want, session, scene, result)


def _changes(record: Record | None, wanted: Mapping[str, str]) -> dict[str, str]:
    has = {} if record is None else record.values
    return {name: value for name, value in wanted.items() if has.get(name, "") != value}


def _make_again(
    want: Want, node: Node, sessions: Sequence[Session], scene: Scene, changes: Iterable[str], result: Plan
) -> None:
    if not want.relogin:
        told = f"{node}: {_listed(changes)} count from the next login. Set relogin: true to log in again now."
        result.warnings.append(told)
        return
    _end(want, scene, sessions, result, "it has to be made again")
    result.operations.append(Operation(LOGIN, node, f"{_listed(changes)} changed"))


def _end(want: Want, scene: Scene, sessions: Sequence[Session], result: Plan, why: str = "it is not wanted") -> None:
    """Log out, unless somebody uses a disk that would go."""
    leaving = {unit.disk for session in sessions for unit in session.disks}
    for session in sessions:
        used = [text for unit in session.disks for text in scene.users(unit.disk, leaving)]
        if used and not want.force:
            result.refusals.append(
                f"{session.node}: not logged out because {' and '.join(dict.fromkeys(used))}. Nothing was changed. "
                "Unmount it and stop whoever uses it, or set force: true, which may lose what is not written yet."
            )
        lost = f", although {' and '.join(dict.fromkeys(used))}" if used else ""
        result.operations.append(Operation(LOGOUT, session.node, f"{why}{lost}", session=session))


def _refresh(want: Want, session: Session, scene: Scene, result: Plan) -> None:
    """LUNs that are new, grown or gone; a target that cannot be asked right now is left alone."""
    if not session.logged_in:
        return
    if not session.disks and want.expects_disks:
        why = "it has no disk yet"
        result.operations.append(Operation(RESCAN, session.node, why, session=session))
    offer = scene.offer(session) if session.disks else None
    if offer is None:
        return
    has = {unit.lun: unit for unit in session.units}
    new = sorted(offer.luns - set(has))
    if new:
        result.operations.append(Operation(RESCAN, session.node, f"LUN {_listed(new)} is new", session=session))
    for unit in session.disks:
        if unit.lun not in offer.luns:
            _drop(want, session, unit.disk, unit.lun, scene, result)
            continue
        offered, known = offer.sizes.get(unit.disk), scene.size(unit.disk)
        if offered is not None and offered != known:
            why = f"{known} → {offered} bytes"
            result.operations.append(Operation(RESIZE, session.node, why, session=session, disk=unit.disk))


def _drop(want: Want, session: Session, disk: str, lun: int, scene: Scene, result: Plan) -> None:
    """The kernel keeps a disk that the target does not offer any more; nobody can use it, but somebody may try."""
    used = scene.users(disk, {disk})
    if used and not want.force:
        result.warnings.append(
            f"{session.node}: LUN {lun} is gone, but {' and '.join(used)}. Bring it back, or unmount it and run again."
        )
        return
    result.operations.append(
        Operation(REMOVE, session.node, f"the target has no LUN {lun} any more", session=session, disk=disk)
    )


def _named(want: Want, sessions: Sequence[Session]) -> list[Session]:
    return [session for session in sessions if _is_named(want, session.node)]


def _is_named(want: Want, node: Node) -> bool:
    if node.target != want.target or (want.interface is not None and node.interface != want.interface):
        return False
    return not want.nodes or node.portal in {each.portal for each in want.nodes}


def _listed(things: Iterable[Any]) -> str:
    return ", ".join(map(str, things))


def difference(want: Want, scene: Scene, operations: Sequence[Operation]) -> dict[str, dict[str, Any]]:
    """Records and sessions before and after, of the nodes that change; secrets are only told apart."""
    nodes = list(dict.fromkeys(each.node.key for each in operations))
    named = {each.node.key: each.node for each in reversed(operations)}
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for key in nodes:
        record = next((each for each in scene.records if each.node.key == key), None)
        logged_in = any(session.node.key == key for session in scene.sessions)
        has = {name: record.values.get(name, "") for name in want.values} if record else {}
        own = [each for each in operations if each.node.key == key]
        before[str(named[key])] = _told(settings.shown(has) if record else None, logged_in)
        after[str(named[key])] = _outcome(own, has, logged_in, record is not None, want)
    for each in operations:
        if each.disk:
            old, _arrow, new = each.why.partition(" → ")
            before[each.object], after[each.object] = (old, new) if each.action == RESIZE else ("present", None)
    return {"before": before, "after": after}


def _outcome(
    own: Sequence[Operation], has: Mapping[str, str], logged_in: bool, recorded: bool, want: Want
) -> dict[str, Any]:
    values: dict[str, str] | None = settings.shown_change(has, has) if recorded else None
    for each in own:
        if each.action in (CREATE, EDIT):
            values = settings.shown_change(has, {**has, **want.values})
        elif each.action == DELETE:
            values = None
        elif each.action in (LOGIN, LOGOUT):
            logged_in = each.action == LOGIN
    return _told(values, logged_in)


def _told(record: Mapping[str, str] | None, logged_in: bool) -> dict[str, Any]:
    return {"record": None if record is None else dict(record), "logged_in": logged_in}
