# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the target modules call: read, plan, apply, tell."""

from __future__ import annotations

import errno
import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from ansible.module_utils.basic import AnsibleModule

from .._engine.facts import DEFAULT_NODE_BASE
from .._rpc import DEFAULT_SOCKET, Rpc, RpcError, Unreachable, connect, connect_url
from .._rpc_http import password_in
from . import info, persist
from .arguments import CONNECTION, RPC, config_arguments, object_arguments
from .auth import DiscoveryAuth, secrets_in, without_secrets, words_beside_users
from .base import TARGET_OPTIONS
from .declaration import Entry, declare, entries_of
from .executor import Failed, execute
from .host_files import HostFiles
from .model import Capabilities, Object, State
from .operations import Operation
from .planner import Refused, plan
from .reader import Client, Snapshot, Waiting, read
from .report import actions, difference, objects_by_option, outcome
from .startup import first_operation, let_start
from .target_options import TargetOptions

_NOT_STARTED: Final = frozenset((errno.ENOENT, errno.ECONNREFUSED))


class _Unlogged(AnsibleModule):  # type: ignore[misc]
    """A module whose options may hold secrets under names that nobody has declared as such."""

    def log(self, msg: str, log_args: Any = None) -> None:
        """Nothing goes to the system's log."""


class _Discreet(AnsibleModule):  # type: ignore[misc]
    """A module that hides secrets before anybody has seen whether their options are spelled right."""

    def _load_params(self) -> None:
        super()._load_params()
        self.no_log_values.update(words_beside_users(self.params))


def run_object(kind: str) -> None:
    """The module of one object: its result is the object, or nothing when it is absent."""
    module = _Discreet(object_arguments(kind), supports_check_mode=True)
    with _failures_of(module):
        entry = Entry(kind, module.params)
        run = _converge(module, [entry])
        wished = declare([entry], run.node_base).wishes
        shown = [run.state.objects[ref].show() for ref in wished if ref in run.state.objects]
        module.exit_json(**run.result(), **{kind: shown[0] if shown else None})


def run_config() -> None:
    """The module of the whole state: its result is all there is."""
    # Looking for garbage among thousands of objects that are all needed takes a quarter of the time.
    gc.disable()
    module = _Discreet(config_arguments(), supports_check_mode=True)
    with _failures_of(module):
        limits = {"prune": module.params["prune"], "ignore": module.params["ignore"]}
        run = _converge(module, list(entries_of(module.params)), **limits)
        result = run.result()
        if module.params["persist"]:
            _persist(module, module.params["persist"], result)
        module.exit_json(**result, **objects_by_option(run.state))


def run_info() -> None:
    """The module that only informs."""
    module = AnsibleModule(dict(CONNECTION), supports_check_mode=True)
    with _failures_of(module):
        module.exit_json(changed=False, **info.gather(read(_client(module))))


def run_rpc() -> None:
    """The module for any method; check mode calls only those that read."""
    module = _Unlogged({**RPC, **CONNECTION}, supports_check_mode=True)
    method, params = module.params["method"], module.params["params"]
    module.no_log_values.update(secrets_in(params))
    changes = not info.only_reads(method)
    with _failures_of(module):
        if module.check_mode and changes:
            module.exit_json(changed=True, result=None)
        module.exit_json(changed=changes, result=without_secrets(_client(module).call(method, params)))


class _Run(NamedTuple):
    """What a module has done, or would do: the operations, and the state they lead to."""

    operations: Sequence[Operation]
    state: State
    node_base: str

    def result(self) -> dict[str, Any]:
        return {
            "changed": bool(self.operations),
            "actions": actions(self.operations),
            "diff": difference(self.operations),
        }


def _converge(module: AnsibleModule, entries: Sequence[Entry], **limits: Any) -> _Run:
    """Bring the engine to what ``entries`` ask for. Raises Refused, Failed or RpcError."""
    begun: list[Operation] = []
    client = _client(module) if module.params["url"] else HostFiles(_client(module))
    try:
        snapshot = _look(module, client, entries)
    except Waiting as waiting:
        begun.append(first_operation(declare(entries, DEFAULT_NODE_BASE)))
        if module.check_mode:
            module.warn(f"{waiting} Check mode goes on as if it had no configuration.")
            snapshot = _nothing(begun[0].after)
        else:
            let_start(begun[0], client)
            snapshot = read(client)
    declaration = declare(entries, snapshot.can.node_base)
    force = module.params.get("force", False)
    operations = plan(snapshot.state, declaration, snapshot.can, force=force, **limits)
    if operations and not module.check_mode:
        execute(operations, client)
        state = read(client).state
    else:
        state = outcome(snapshot.state, operations)
    return _Run([*begun, *operations], state, snapshot.can.node_base)


def _persist(module: AnsibleModule, path: str, result: dict[str, Any]) -> None:
    """Bring the file to the live configuration and note it in ``result``. Raises NotSaved or RpcError."""
    foretold = module.check_mode and result["changed"]  # what is to be saved is not there yet
    text = "" if foretold else persist.configuration(_client(module))
    if not (foretold or persist.differs(path, text)):
        return
    if not module.check_mode:
        persist.save(path, text)
    result["changed"] = True
    result["actions"] = [*result["actions"], persist.action(path)]


def _look(module: AnsibleModule, client: Client, entries: Sequence[Entry]) -> Snapshot:
    """The live state; in check mode an engine that is not started yet has an empty one."""
    try:
        return read(client)
    except Unreachable as error:
        if not (module.check_mode and _is_not_started(error)):
            raise
        module.warn(f"{error} Check mode goes on as if a new engine without any configuration answered there.")
        wishes = declare([entry for entry in entries if entry.kind == TARGET_OPTIONS], DEFAULT_NODE_BASE).wishes
        return _nothing(*(TargetOptions.create(wish.given) for wish in wishes.values()))


def _nothing(options: Object | None = None) -> Snapshot:
    """A host without an engine, or one that has not begun: nothing is there yet, and the engine to come is ours."""
    singletons: list[Object] = [DiscoveryAuth(), options or TargetOptions()]
    values = options.show() if options is not None else {}
    can = Capabilities(**{name: values[name] for name in ("node_base", "max_queue_depth") if name in values})
    return Snapshot(State({each.ref: each for each in singletons}), can, {})


def _is_not_started(error: Unreachable) -> bool:
    """Whether nothing serves the socket, which is not the same as not being allowed to use it."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _NOT_STARTED


def _client(module: AnsibleModule) -> Rpc:
    """Raises Refused if the options of the connection contradict each other, Unreachable if one cannot be used."""
    given = module.params
    url, timeout = given["url"], given["timeout"]
    module.no_log_values.update(filter(None, [password_in(url)]))
    problems = [text for wrong, text in _contradictions(given) if wrong]
    if problems:
        raise Refused(problems)
    if url is None:
        return connect(given["socket"], timeout)
    credentials = None if given["url_username"] is None else (given["url_username"], given["url_password"])
    return connect_url(url, timeout, credentials, given["validate_certs"], given["ca_path"])


def _contradictions(given: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    """Whether something is wrong with the options of the connection, and what."""
    url, names = given["url"], ("url_username", "url_password", "ca_path")
    # The socket has a default, so AnsibleModule's mutually_exclusive would refuse every url.
    yield url is not None and given["socket"] != DEFAULT_SOCKET, "url: it excludes socket. Give one of the two."
    for name in names:
        yield url is None and given[name] is not None, f"{name}: it needs url, and a socket does not use it."
    pair = ("url_username", "url_password")
    for name, other in (pair, pair[::-1]):
        yield given[name] is not None and given[other] is None, f"{name}: it needs {other} too."


@contextmanager
def _failures_of(module: AnsibleModule) -> Iterator[None]:
    """Errors that people can act on become the module's failure."""
    try:
        yield
    except Refused as refused:
        module.fail_json(msg=str(refused), problems=refused.problems)
    except Failed as failed:
        module.fail_json(msg=str(failed), changed=failed.begun, actions=actions(failed.done))
    except Unreachable as error:
        advice = " The module openlun.iscsi.engine starts one." if _is_not_started(error) else ""
        module.fail_json(msg=f"{error}{advice}")
    except (RpcError, persist.NotSaved) as error:
        module.fail_json(msg=str(error))
