# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module discovery calls: ask portals for their targets, and keep a record of each.

The portals are asked by the initiator in Python and not by iscsiadm: that works in check mode, keeps secrets in memory,
and leaves the settings of records that are there as they are.
"""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any, Callable, Final, NamedTuple

from .chap import Credentials
from .errors import InitiatorError
from .iscsiadm import Iscsiadm, Run
from .names import initiator_name
from .nodes import Node, live_place, parse_place
from .probe import Address, Found, Request, discover
from .proofs import parse_chap
from .records import DISCOVERED_AT, DISCOVERED_PORT, Record, Records, edit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .._host.sysfs import Host
    from .._state.portals import Portal
    from .session_text import Session

_WILDCARDS: Final = ("0.0.0.0", "[::]")


class Step(NamedTuple):
    """A record to be made or deleted."""

    action: str
    node: Node
    why: str

    def told(self) -> dict[str, str]:
        return {"action": self.action, "object": f"record of {self.node}", "why": self.why}


class Plan(NamedTuple):
    """What to do, and records that stay although no portal offers them."""

    steps: list[Step]
    stale: list[Node]


def plan(
    offered: Mapping[Portal, Sequence[Node]],
    records: Sequence[Record],
    sessions: Sequence[Session],
    prune: bool,
    ignore: Sequence[str] = (),
) -> Plan:
    """``offered`` are the nodes that each portal told of. Records are made for those that have none.

    A record is stale when it came of one of these portals, or leads to one, and none of them offers it. It is deleted
    with ``prune``, unless somebody is logged in by it or its target matches ``ignore``.
    """
    told = {node.key: node for nodes in offered.values() for node in nodes}
    has = {record.node.key for record in records}
    steps = [Step("create", node, "it was missing") for key, node in told.items() if key not in has]
    used = {session.node.key for session in sessions}
    stale = []
    for record in records:
        node = record.node
        if node.key in told or not ({node.portal, _came_from(record)} & set(offered)):
            continue
        ignored = any(fnmatch.fnmatchcase(node.target, pattern) for pattern in ignore)
        if prune and node.key not in used and not ignored:
            steps.append(Step("delete", node, "no portal offers it"))
        elif not ignored:
            stale.append(node)
    return Plan(steps, stale)


def _came_from(record: Record) -> Portal | None:
    address = record.values.get(DISCOVERED_AT)
    if not address:
        return None
    port = record.values.get(DISCOVERED_PORT) or "3260"
    return live_place(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")[0]


class Discovery:
    """Discovery on one host. ``ask`` asks a portal for its targets."""

    def __init__(self, host: Host, run: Run, ask: Callable[[Request], list[Found]] = discover) -> None:
        self._host = host
        self._run = run
        self._iscsiadm = Iscsiadm(run)
        self._records = Records(host)
        self._ask = ask

    def bring(self, options: Mapping[str, Any], apply: bool) -> dict[str, Any]:
        """The module's result. Raises InitiatorError or HostError."""
        self._iscsiadm = Iscsiadm(self._run, lenient=not apply)
        portals = [_portal(text) for text in options["portals"]]
        initiator = options.get("initiator_name") or initiator_name(self._host)
        if not initiator:
            raise InitiatorError(
                "this host has no initiator name yet. Give it one with the module openlun.iscsi.initiator_name."
            )
        found, failures = self._look(portals, initiator, parse_chap(options.get("chap")), options["timeout"])
        if not found:
            raise InitiatorError(" ".join(failures))
        wanted = options.get("targets")
        missing = [name for name in wanted or [] if not any(name == each.name for each in _all(found))]
        if missing:
            offers = ", ".join(dict.fromkeys(each.name for each in _all(found))) or "none"
            raise InitiatorError(f"target {missing[0]}: no portal offers it to {initiator}. They offer: {offers}.")
        nodes = {portal: list(_nodes(portal, targets, wanted, options)) for portal, targets in found.items()}
        if not options["record"]:
            return _result(found, Plan([], []), failures)
        # A portal that does not answer may still have what the others do not offer.
        prune = options["prune"] and not failures
        every = {portal: list(_nodes(portal, targets, None, options)) for portal, targets in found.items()}
        records, sessions = self._records.all(), self._iscsiadm.sessions()
        made = plan(nodes, records, sessions, prune=False)
        gone = plan(every, records, sessions, prune, options["ignore"])
        steps = [*made.steps, *(step for step in gone.steps if step.action == "delete")]
        for step in steps if apply else ():
            self._do(step, nodes)
        return _result(found, Plan(steps, gone.stale), failures)

    def _look(
        self, portals: Sequence[Portal], initiator: str, credentials: Credentials | None, timeout: float
    ) -> tuple[dict[Portal, list[Found]], list[str]]:
        found: dict[Portal, list[Found]] = {}
        failures = []
        for portal in portals:
            address = Address(portal.host.strip("[]"), portal.port)
            try:
                found[portal] = self._ask(Request(address, initiator, timeout=timeout, credentials=credentials))
            except InitiatorError as error:
                failures.append(str(error))
        return found, failures

    def _do(self, step: Step, nodes: Mapping[Portal, Sequence[Node]]) -> None:
        if step.action == "delete":
            self._iscsiadm.delete(step.node)
            return
        self._iscsiadm.create(step.node)
        record = self._records.find(step.node)
        source = next((portal for portal, told in nodes.items() if step.node in told), None)
        if record is not None and source is not None:
            came_from = {DISCOVERED_AT: source.host.strip("[]"), DISCOVERED_PORT: str(source.port)}
            self._records.write(record, edit(self._records.text(record), came_from))


def _portal(text: str) -> Portal:
    try:
        return parse_place(text)[0]
    except ValueError as error:
        raise InitiatorError(f"portals: {error}") from error


def _all(found: Mapping[Portal, Sequence[Found]]) -> Iterator[Found]:
    for targets in found.values():
        yield from targets


def _nodes(
    asked: Portal, targets: Sequence[Found], wanted: Sequence[str] | None, options: Mapping[str, Any]
) -> Iterator[Node]:
    """Those that a portal told of. A target without an address of its own is where it was asked for."""
    for target in targets:
        if wanted is not None and target.name not in wanted:
            continue
        for portal, tag in map(live_place, target.portals or [f"{asked},1"]):
            place = asked if portal.host in _WILDCARDS else portal
            yield Node(target.name, place, options["interface"], tag)


def _result(found: Mapping[Portal, Sequence[Found]], made: Plan, failures: list[str]) -> dict[str, Any]:
    targets: dict[str, list[str]] = {}
    for each in _all(found):
        known = targets.setdefault(each.name, [])
        known += [place for place in each.portals if place not in known]
    stale = [
        f"{node}: no portal offers it. Is it gone? Remove it with prune, or with the module session."
        for node in made.stale
    ]
    return {
        "changed": bool(made.steps),
        "targets": [{"name": name, "portals": portals} for name, portals in targets.items()],
        "stale": [
            {"target": node.target, "portal": str(node.portal), "interface": node.interface} for node in made.stale
        ],
        "actions": [step.told() for step in made.steps],
        "diff": {
            "before": {"records": [str(step.node) for step in made.steps if step.action == "delete"]},
            "after": {"records": [str(step.node) for step in made.steps if step.action == "create"]},
        },
        "warnings": [*failures, *stale],
    }
