# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out a plan: level by level, the calls of a level in as few round trips as the engine takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from .._rpc import CallError, RpcError, Unreachable
from .auth import hide
from .base import PORTAL_GROUP, Ref, label
from .calls import calls
from .operations import CREATE, Operation
from .reader import Client
from .schedule import Step, levels
from .text import listed, sentence

_SHOWN: Final = 5


class Failed(Exception):
    """Says which operations failed, why, and what was done. ``begun`` is true if anything may have changed."""

    def __init__(
        self,
        reasons: Sequence[tuple[Operation, str]],
        done: Sequence[Operation],
        put_back: Sequence[Operation],
        begun: bool,
    ) -> None:
        failures = " ".join(f"{_named(operation)}: {sentence(reason)}" for operation, reason in reasons[:_SHOWN])
        more = f" {len(reasons) - _SHOWN} more failed." if len(reasons) > _SHOWN else ""
        before = listed([_named(each) for each in done])
        restored = f" Put back as before: {listed([label(each.ref) for each in put_back])}." if put_back else ""
        super().__init__(
            f"Failed to {failures}{more} Done so far: {before}.{restored} The next run continues from there."
        )
        self.operations = [operation for operation, _reason in reasons]
        self.done = list(done)
        self.begun = begun


def execute(operations: Sequence[Operation], client: Client) -> None:
    """Send ``operations`` to the engine.

    Raises Failed at the end of the first level in which something failed. No later level is begun; objects whose
    replacement was begun by then are put back as they were, as far as the engine lets them.
    """
    done: dict[Ref, Operation] = {}
    down: dict[Ref, Operation] = {}
    for level in levels(operations):
        try:
            sent = _send(level, client)
        except RpcError as error:
            begun = bool(done or down) or not isinstance(error, Unreachable)
            raise Failed([(level[0].operation, str(error))], list(done.values()), [], begun) from error
        for step in level:
            if step.operation.ref not in sent.undone:
                (done if step.completes else down)[step.operation.ref] = step.operation
        if sent.failures:
            lost = [each for ref, each in down.items() if ref not in done]
            put_back = _put_back(lost, [each for each in operations if each.ref not in done], client)
            begun = bool(done or down) or sent.any_succeeded
            raise Failed(list(sent.failures.values()), list(done.values()), put_back, begun)


def _put_back(lost: Sequence[Operation], undone: Sequence[Operation], client: Client) -> list[Operation]:
    """Create what is down again as it was, with the maps that went with a portal group, and give back what edits took.

    Returns what succeeded.
    """
    groups = {each.ref for each in lost}
    restored = [replace(each, action=CREATE, before=None, after=each.before) for each in lost if each.removes]
    for each in undone:
        maps = frozenset(every for every in each.detached if (PORTAL_GROUP, every.portal_group) in groups)
        is_parted = bool(each.released) and each.ref in groups
        if maps or is_parted:
            left = each.of_before(released=False) if is_parted else each.before
            restored.append(replace(each, before=left, after=each.before, detached=maps, released=frozenset()))
    succeeded: list[Operation] = []
    for level in levels(restored):
        try:
            failures = _send(level, client).failures
        except RpcError:
            break
        succeeded += [step.operation for step in level if step.operation.ref not in failures]
    return succeeded


class _Sent(NamedTuple):
    """How the calls of a level ended: the operations that failed, each with the engine's first reason.

    Those of them that are ``undone`` can be tried again; the others are done, but what came of it does not suffice.
    """

    failures: dict[Ref, tuple[Operation, str]]
    undone: frozenset[Ref]
    any_succeeded: bool


def _send(level: Iterable[Step], client: Client) -> _Sent:
    """Raises RpcError if the engine does not answer."""
    sent = [(call, step.operation) for step in level for call in calls(step)]
    results: list[Any] = client.call_batch([call for call, _operation in sent]) if sent else []
    failures: dict[Ref, tuple[Operation, str]] = {}
    for (_call, operation), result in zip(sent, results):
        if isinstance(result, CallError):
            failures.setdefault(operation.ref, (operation, hide(str(result), [operation.before, operation.after])))
    undone = frozenset(failures)
    for (_call, operation), result in zip(sent, results):
        lacking = _lacking(operation, result) if operation.expects and isinstance(result, list) else ""
        if lacking:
            failures.setdefault(operation.ref, (operation, lacking))
    return _Sent(failures, undone, any(not isinstance(result, CallError) for result in results))


def _lacking(operation: Operation, bdevs: Sequence[Any]) -> str:
    """What an NVMe controller or a split, which is made, does not give; nothing if it gives all that it shall."""
    missing = [name for name in operation.expects if name not in bdevs]
    given = listed([str(each) for each in bdevs])
    return f"it is there, but does not give {listed(missing)}. It gives: {given}" if missing else ""


def _named(operation: Operation) -> str:
    return f"{operation.action} {label(operation.ref)}"
