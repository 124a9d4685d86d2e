# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module session calls: look, plan, act, wait, tell."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable, Final

from .._host.errors import HostError
from .._host.sysfs import explained
from . import disks, session_plan, settings
from .disk_use import DiskUse
from .errors import InitiatorError
from .interfaces import BINDINGS, Binding, bind, plan_binding
from .iscsiadm import Iscsiadm, Run
from .names import initiator_name
from .nodes import DEFAULT_INTERFACE, Node, live_place, parse_place
from .passthrough import Passthrough
from .probe import Address, Request, discover
from .records import Record, Records, edit
from .scsi import LogicalUnit, report_luns
from .session_plan import ABSENT, PRESENT, Offer, Operation, Plan, Scene, Want
from .waiting import Patience

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._host.sysfs import Host
    from .session_text import Session

_BLKFLSBUF: Final = 0x1261
_CONNECT_SECONDS: Final = 10.0


class Incomplete(InitiatorError):
    """Some of it failed; ``result`` tells what was done nevertheless."""

    def __init__(self, problems: Sequence[str], result: dict[str, Any]) -> None:
        super().__init__(" ".join(problems))
        self.problems = list(problems)
        self.result = result


class Sessions:
    """The sessions of one host with one target. ``ask`` asks a target for its LUNs, ``tag_of`` a portal for its tag."""

    def __init__(
        self,
        host: Host,
        run: Run,
        ask: Callable[[Session], Offer | None] | None = None,
        tag_of: Callable[[Node], int | None] | None = None,
        reaches: Callable[[Node], str | None] | None = None,
        iscsiadm: Iscsiadm | None = None,
    ) -> None:
        self._host = host
        self._run = run
        self._iscsiadm = iscsiadm or Iscsiadm(run)
        self._records = Records(host)
        self._ask = ask or _asked
        self._tag_of = tag_of or self._discovered_tag
        self._reaches = reaches or _reach
        self.patience = Patience(host, self._iscsiadm, run)

    def bring(self, options: Mapping[str, Any], apply: bool) -> dict[str, Any]:
        """The module's result. Raises InitiatorError or HostError; Incomplete when some of it was done."""
        records = self._records.all()
        # Where nothing is to be done, nothing is needed to do it.
        needless = options["state"] == ABSENT and not records
        self._iscsiadm = Iscsiadm(self._run, lenient=needless or not apply)
        values = settings.settings(options)
        binding_values = _binding(options)
        scene = Scene(
            records,
            self._iscsiadm.sessions(),
            self._ask,
            lambda disk: disks.size(self._host, disk),
            DiskUse(self._host).users,
        )
        want = self._want(options, {**binding_values, **values}, scene)
        binding = plan_binding(self._iscsiadm, want.interface or DEFAULT_INTERFACE, binding_values)
        plan = session_plan.plan(want, scene)
        if plan.refusals:
            raise InitiatorError(" ".join(plan.refusals))
        self._check_names(want, scene)
        problems: list[str] = []
        if apply:
            if binding.action:
                bind(self._iscsiadm, binding)
            plan.operations, problems = self._act(plan.operations)
            failed = {problem.partition(": ")[0] for problem in problems}
            nodes = [node for node in want.nodes if str(node) not in failed]
            if want.state == PRESENT and options.get("luns") != []:
                problems += self.patience.wait(nodes, options.get("luns"), options["wait"])
            elif plan.operations:
                self.patience.settle(options["wait"])
        result = self._result(want, scene, binding, plan)
        if problems:
            raise Incomplete(problems, result)
        return result

    def _result(self, want: Want, scene: Scene, binding: Binding, plan: Plan) -> dict[str, Any]:
        actions = [*filter(None, [binding.action]), *(each.told() for each in plan.operations)]
        diff = session_plan.difference(want, scene, plan.operations)
        if binding.action:
            name = f"interface {binding.name}"
            diff["before"][name] = None if binding.new else dict(binding.before)
            diff["after"][name] = dict(binding.changes)
        told = {"sessions": self.told(want.target), "warnings": plan.warnings}
        return {"changed": bool(actions), "actions": actions, "diff": diff, **told}

    def told(self, target: str | None = None) -> list[dict[str, Any]]:
        """Sessions with their disks, of one target or of all. Raises InitiatorError."""
        return [
            {**session.told(), "luns": [self._unit(session, index) for index in range(len(session.units))]}
            for session in self._iscsiadm.sessions()
            if target in (None, session.target)
        ]

    def _unit(self, session: Session, index: int) -> dict[str, Any]:
        unit = session.units[index]
        return {"lun": unit.lun, "state": unit.state, **(disks.told(self._host, unit.disk) if unit.disk else {})}

    # What is wanted

    def _want(self, options: Mapping[str, Any], values: dict[str, str], scene: Scene) -> Want:
        state, target = options["state"], options["target"]
        interface = options.get("interface")
        nodes = []
        for text in options.get("portals") or []:
            try:
                portal, tag = parse_place(text)
            except ValueError as error:
                raise InitiatorError(f"portals: {error}") from error
            nodes.append(Node(target, portal, interface or DEFAULT_INTERFACE, tag))
        if state != ABSENT:
            nodes = nodes or self._recorded(target, interface, scene)
            nodes = [self._with_tag(node, scene) for node in nodes]
        flags = {name: bool(options.get(name)) for name in ("force", "relogin", "rescan", "exclusive")}
        return Want(state, target, nodes, values, interface, expects_disks=options.get("luns") != [], **flags)

    def _recorded(self, target: str, interface: str | None, scene: Scene) -> list[Node]:
        found = [record.node for record in scene.records if record.node.target == target]
        found = [node for node in found if interface in (None, node.interface)]
        if not found:
            raise InitiatorError(
                f"target {target}: this host has no record of it. Give portals, or discover it first with the module "
                "openlun.iscsi.discovery."
            )
        return found

    def _with_tag(self, node: Node, scene: Scene) -> Node:
        """The tag of the portal group decides where open-iscsi keeps the record."""
        known = next((each.node for each in scene.records if each.node.key == node.key), None)
        if known is not None:
            return known
        place = node.target, node.portal
        told = next((each.node.tag for each in scene.records if (each.node.target, each.node.portal) == place), None)
        tag = node.tag if node.tag is not None else told
        tag = self._tag_of(node) if tag is None else tag
        if tag is None and node.interface != DEFAULT_INTERFACE:
            raise InitiatorError(
                f"{node}: the tag of its portal group is not known, because the portal does not tell it. "
                f"Write it behind the portal: {node.portal},1."
            )
        return node._replace(tag=tag)

    def _discovered_tag(self, node: Node) -> int | None:
        """What the portal tells everybody who asks; None if it does not."""
        address = Address(node.portal.host.strip("[]"), node.portal.port)
        with suppress(InitiatorError):
            for found in discover(Request(address, initiator_name(self._host) or "", timeout=_CONNECT_SECONDS)):
                for portal, tag in map(live_place, found.portals):
                    if found.name == node.target and portal == node.portal:
                        return tag
        return None

    def _check_names(self, want: Want, scene: Scene) -> None:
        """open-iscsi takes no record with a name that it does not know: not even this one's other values count then."""
        example = next(iter(scene.records), None)
        if want.values and example is not None and want.state != ABSENT:
            _refuse_unknown(want.values, self._iscsiadm.show(example.node))

    # What is done

    def _act(self, operations: Sequence[Operation]) -> tuple[list[Operation], list[str]]:
        """What was done, and what went wrong: a node that fails does not stop the others."""
        done: list[Operation] = []
        problems: list[str] = []
        failed: set[tuple[Any, ...]] = set()
        for each in operations:
            if each.node.key in failed:
                continue
            try:
                self._do(each)
                done.append(each)
            except (InitiatorError, HostError, OSError) as error:
                text = str(error)
                problems.append(text if text.startswith(str(each.node)) else f"{each.node}: {text}")
                failed.add(each.node.key)
        return done, problems

    def _do(self, operation: Operation) -> None:
        doers: dict[str, Callable[[Operation], None]] = {
            session_plan.CREATE: self._create,
            session_plan.EDIT: self._edit,
            session_plan.DELETE: lambda each: self._iscsiadm.delete(each.node),
            session_plan.LOGIN: self._login,
            session_plan.LOGOUT: self._logout,
            session_plan.RESCAN: lambda each: self._iscsiadm.rescan(_session(each)),
            session_plan.RESIZE: self._resize,
            session_plan.REMOVE: self._remove,
        }
        doers[operation.action](operation)

    def _create(self, operation: Operation) -> None:
        self._iscsiadm.create(operation.node)
        record = self._records.find(operation.node)
        if record is None:
            raise InitiatorError(f"{operation.node}: iscsiadm made a record, but it is not where records are kept.")
        try:
            self._write(record, operation.changes)
        except InitiatorError:
            self._iscsiadm.delete(operation.node)
            raise

    def _edit(self, operation: Operation) -> None:
        if operation.record is not None:
            self._write(operation.record, operation.changes)

    def _write(self, record: Record, changes: Mapping[str, str]) -> None:
        """Write, and read back what open-iscsi makes of it: it drops what it does not understand without a word."""
        if not changes:
            return
        _refuse_unknown(changes, self._iscsiadm.show(record.node))
        text = self._records.text(record)
        self._records.write(record, edit(text, changes))
        try:
            took = self._iscsiadm.show(record.node)
            for name, value in changes.items():
                if took.get(name, "") != value:
                    instead = "" if name in settings.SECRETS else f" {value!r}, and reads {took.get(name, '')!r}"
                    raise InitiatorError(f"{record.node}: open-iscsi does not take the value of {name}{instead}.")
        except InitiatorError:
            self._records.write(record, text)
            raise

    def _login(self, operation: Operation) -> None:
        unreachable = self._reaches(operation.node)
        if unreachable is not None:
            raise InitiatorError(unreachable)
        self._iscsiadm.login(operation.node)

    def _logout(self, operation: Operation) -> None:
        session = _session(operation)
        for unit in session.disks:
            mapped = disks.multipath_map(self._host, unit.disk)
            if mapped is not None and disks.slaves(self._host, mapped) == [unit.disk]:
                self._command("multipath", "-f", disks.map_name(self._host, mapped))
            _flush(self._host.path(f"/dev/{unit.disk}"))
        self._iscsiadm.logout(session)

    def _resize(self, operation: Operation) -> None:
        directory = f"/sys/block/{operation.disk}/device"
        with explained(directory):
            self._host.tell(f"{directory}/rescan", "1")
        mapped = disks.multipath_map(self._host, operation.disk)
        if mapped is not None:
            self._command("multipathd", "resize", "map", disks.map_name(self._host, mapped))

    def _remove(self, operation: Operation) -> None:
        path = f"/sys/block/{operation.disk}/device/delete"
        with explained(path):
            self._host.tell(path, "1")

    def _command(self, *words: str) -> None:
        code, output, errors = self._run(list(words))
        if code:
            raise InitiatorError(f"{' '.join(words)}: {(errors or output).strip() or f'status {code}'}.")


def _binding(options: Mapping[str, Any]) -> dict[str, str]:
    given = options.get("binding") or {}
    return {f"iface.{name}": str(given[name]) for name in BINDINGS if given.get(name) is not None}


def _refuse_unknown(wanted: Mapping[str, str], known: Mapping[str, str]) -> None:
    for name in wanted:
        if name not in known:
            raise InitiatorError(f"params: open-iscsi has no setting {name}. Look at: iscsiadm -m node -o show.")


def _session(operation: Operation) -> Session:
    if operation.session is None:
        raise InitiatorError(f"{operation.object}: there is no session.")
    return operation.session


def _flush(path: str) -> None:
    """What is cached of a disk goes to the target; one that is gone has nothing."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
            fcntl.ioctl(descriptor, _BLKFLSBUF, 0)
        finally:
            os.close(descriptor)


def _reach(node: Node) -> str | None:
    """Why a portal cannot be reached. open-iscsi would try for two minutes to find out."""
    if node.interface != DEFAULT_INTERFACE:
        return None  # another way than the one that this process would take
    try:
        socket.create_connection((node.portal.host.strip("[]"), node.portal.port), _CONNECT_SECONDS).close()
    except OSError as error:
        told = error.strerror or "no answer"
        return f"{node}: the portal cannot be reached ({told}). Is the target up, and is no firewall between?"
    return None


def _asked(session: Session) -> Offer | None:
    """What the target says of its LUNs, through a disk that the kernel has; None when there is none to ask through."""
    sizes: dict[str, int] = {}
    luns: frozenset[int] = frozenset()
    for unit in session.disks:
        with suppress(InitiatorError), Passthrough(f"/dev/{unit.disk}") as disk:
            luns = luns or frozenset(each.number for each in report_luns(disk))
            if unit.lun in luns:
                sizes[unit.disk] = LogicalUnit(disk, b"").patient_capacity().size
    return Offer(luns, sizes) if luns else None
