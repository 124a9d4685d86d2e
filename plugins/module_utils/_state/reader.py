# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the engine's answers to the model: one look at everything that the planner compares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from .._rpc import Call, CallError, RpcError
from .auth import INHERIT, AuthGroup, DiscoveryAuth, Secret, known_secret, policy_of
from .bdev_reader import read_bdev, read_controller, read_splits
from .model import (
    Capabilities,
    InitiatorGroup,
    Lun,
    Map,
    Object,
    PortalGroup,
    Redirect,
    Session,
    State,
    TargetNode,
)
from .portals import live_portal
from .target_options import NAMES, TargetOptions

_QUESTIONS: Final = (
    "spdk_get_version",
    "iscsi_get_options",
    "bdev_get_bdevs",
    "iscsi_get_portal_groups",
    "iscsi_get_initiator_groups",
    "iscsi_get_target_nodes",
    "iscsi_get_connections",
)


_SINCE: Final = {
    # question: the answer of an engine that is too old for it
    "engine_get_info": None,
    "iscsi_get_auth_groups": (),
    "bdev_nvme_get_controllers": (),
}

_WRONG_STATE: Final = -1


class Waiting(RpcError):
    """The engine was started with --wait-for-rpc and has neither options nor objects yet."""

    def __init__(self) -> None:
        super().__init__(
            "The engine waits for its options (it was started with --wait-for-rpc). "
            "The module openlun.iscsi.target_options sets them and lets it start."
        )


class TooOld(RpcError):
    """The engine lacks methods without which nothing can be compared."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            f"The engine has no {' and no '.join(missing)}: it is too old for this collection, or serves no iSCSI. "
            "Upgrade it, or name the socket of the right one."
        )


class Client(Protocol):
    """What the state needs of an RPC client."""

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """The result. Raises RpcError."""

    def call_batch(self, calls: Sequence[Call]) -> list[Any]:
        """The results, with a CallError for every call the engine refused. Raises RpcError if it does not answer."""


class Snapshot(NamedTuple):
    """The engine at one moment, parsed, and as it answered for who wants more than the model has."""

    state: State
    can: Capabilities
    answers: Mapping[str, Any]


def read(client: Client) -> Snapshot:
    """Everything the engine has, in two round trips. Raises RpcError, Waiting if there is nothing yet, TooOld."""
    methods = frozenset(client.call("rpc_get_methods"))
    missing = [question for question in _QUESTIONS if question not in methods]
    if missing:
        raise TooOld(missing)
    questions = [*_QUESTIONS, *(question for question in _SINCE if question in methods)]
    asked = dict(zip(questions, client.call_batch([Call(method) for method in questions])))
    for answer in asked.values():
        if isinstance(answer, CallError):
            raise Waiting() if answer.code == _WRONG_STATE else answer
    answers = {**_SINCE, **asked}
    bdevs = list(map(read_bdev, answers["bdev_get_bdevs"]))
    objects: list[Object] = [
        *map(read_controller, answers["bdev_nvme_get_controllers"]),
        *read_splits(bdevs),
        *bdevs,
        *map(read_auth_group, answers["iscsi_get_auth_groups"]),
        *map(read_portal_group, answers["iscsi_get_portal_groups"]),
        *map(read_initiator_group, answers["iscsi_get_initiator_groups"]),
        *map(read_target_node, answers["iscsi_get_target_nodes"]),
        DiscoveryAuth(**policy_of(answers["iscsi_get_options"])),
        read_options(answers["iscsi_get_options"]),
    ]
    sessions = read_sessions(answers["iscsi_get_connections"])
    can = _capabilities(answers, methods, bool(getattr(client, "keeps_files", False)))
    return Snapshot(State({each.ref: each for each in objects}, sessions), can, answers)


def _capabilities(answers: Mapping[str, Any], methods: frozenset[str], keeps_files: bool) -> Capabilities:
    """``keeps_files`` is a client that does with files what the engine does not."""
    info = answers.get("engine_get_info")
    extensions = frozenset(() if info is None else info["extensions"])
    options = answers["iscsi_get_options"]
    return Capabilities(
        engine="spdk" if info is None else "builtin",
        version=str(answers["spdk_get_version"]["version"] if info is None else info["version"]),
        methods=methods,
        node_base=options["node_base"],
        max_queue_depth=options["max_queue_depth"],
        # SPDK refuses iscsi_target_node_add_lun while somebody is logged in.
        adds_luns_with_sessions=info is not None,
        makes_files=keeps_files or "bdev_aio_create.size" in extensions,
        grows_files=keeps_files or "bdev_aio_resize" in extensions,
        removes_files=keeps_files or "bdev_aio_delete.remove_file" in extensions,
        matches_every_address=info is not None,
        tells_redirects="iscsi_get_target_nodes.redirects" in extensions,
        tells_portal_auth="iscsi_get_portal_groups.chap_group" in extensions,
        drops_portal_auth="iscsi_portal_group_set_auth.inherit" in extensions,
        masks_luns="iscsi_create_target_node.luns.initiator_groups" in extensions,
        flags_luns="iscsi_create_target_node.luns.readonly" in extensions,
    )


def read_auth_group(answer: Mapping[str, Any]) -> AuthGroup:
    return AuthGroup(answer["tag"], tuple(map(read_secret, answer["secrets"])))


def read_secret(answer: Mapping[str, Any]) -> Secret:
    """An engine may keep secrets to itself."""
    secret, msecret = known_secret(answer.get("secret")), known_secret(answer.get("msecret"))
    return Secret(answer["user"], secret, answer.get("muser") or None, msecret)


def read_options(answer: Mapping[str, Any]) -> TargetOptions:
    return TargetOptions({name: answer[name] for name in NAMES if name in answer})


def read_portal_group(answer: Mapping[str, Any]) -> PortalGroup:
    portals = tuple(live_portal(portal["host"], portal["port"]) for portal in answer["portals"])
    policy = policy_of(answer) if "chap_group" in answer else {"chap": INHERIT}
    return PortalGroup(answer["tag"], portals, bool(answer.get("private")), **policy)


def read_initiator_group(answer: Mapping[str, Any]) -> InitiatorGroup:
    return InitiatorGroup(answer["tag"], tuple(answer["initiators"]), tuple(answer["netmasks"]))


def read_target_node(answer: Mapping[str, Any]) -> TargetNode:
    return TargetNode(
        name=answer["name"],
        luns=tuple(map(read_lun, answer["luns"])),
        maps=tuple(Map(each["pg_tag"], each["ig_tag"]) for each in answer["pg_ig_maps"]),
        alias=answer.get("alias_name") or "",
        queue_depth=answer["queue_depth"],
        header_digest=answer["header_digest"],
        data_digest=answer["data_digest"],
        redirects=tuple(map(read_redirect, answer.get("redirects", ()))),
        enabled=not answer.get("disabled", False),
        **policy_of(answer),
    )


def read_lun(answer: Mapping[str, Any]) -> Lun:
    mask = tuple(sorted(answer.get("initiator_groups", ())))
    flags = bool(answer.get("readonly")), bool(answer.get("removable"))
    return Lun(answer["lun_id"], answer["bdev_name"], mask, *flags)


def read_redirect(answer: Mapping[str, Any]) -> Redirect:
    address = live_portal(answer["redirect_host"], answer["redirect_port"])
    return Redirect(answer["pg_tag"], address, answer.get("permanent", False))


def read_sessions(answers: Iterable[Mapping[str, Any]]) -> tuple[Session, ...]:
    """The sessions behind the connections. Discovery sessions, which have no target node, are nobody's loss."""
    sessions: dict[tuple[str, Any], Session] = {}
    for answer in answers:
        node = answer.get("target_node_name") or ""
        if node:
            # The connections of a session share the target's handle for it, RFC 7143 §3.2.
            session = Session(
                answer.get("initiator_name") or "",
                answer.get("initiator_addr") or "unknown address",
                node,
                answer.get("target_addr") or "",
                answer.get("portal_group_tag"),
            )
            sessions.setdefault((node, answer.get("tsih", answer.get("id"))), session)
    return tuple(sessions.values())
