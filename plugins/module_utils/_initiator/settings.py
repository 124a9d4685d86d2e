# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a session as values of open-iscsi's records, and what of them may be shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from .errors import InitiatorError
from .records import ADDRESS, DISCOVERED_AT, DISCOVERED_PORT, INTERFACE, NAME, PORT, TAG

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_AUTH: Final = "node.session.auth."
METHOD: Final = f"{_AUTH}authmethod"
_PROOFS: Final = {
    "user": f"{_AUTH}username",
    "secret": f"{_AUTH}password",
    "muser": f"{_AUTH}username_in",
    "msecret": f"{_AUTH}password_in",
}
SECRETS: Final = frozenset((_PROOFS["secret"], _PROOFS["msecret"]))

_STARTUP: Final = ("node.startup", "node.conn[0].startup")
_NUMBERS: Final = {
    "login_timeout": "node.conn[0].timeo.login_timeout",
    "login_retries": "node.session.initial_login_retry_max",
    "replacement_timeout": "node.session.timeo.replacement_timeout",
    "noop_interval": "node.conn[0].timeo.noop_out_interval",
    "noop_timeout": "node.conn[0].timeo.noop_out_timeout",
    "queue_depth": "node.session.queue_depth",
    "cmds_max": "node.session.cmds_max",
}
_DIGESTS: Final = {
    "header_digest": "node.conn[0].iscsi.HeaderDigest",
    "data_digest": "node.conn[0].iscsi.DataDigest",
}
DIGESTS: Final = {"none": "None", "crc32c": "CRC32C", "none,crc32c": "None,CRC32C", "crc32c,none": "CRC32C,None"}
_KEYS_OF_THE_NODE: Final = frozenset((NAME, TAG, ADDRESS, PORT, INTERFACE))
_OPTION_OF: Final = {
    **dict.fromkeys(_STARTUP, "startup"),
    **{name: option for option, name in (*_NUMBERS.items(), *_DIGESTS.items())},
    **dict.fromkeys((METHOD, *_PROOFS.values()), "chap"),
    **dict.fromkeys(_KEYS_OF_THE_NODE, "target, portals and interface"),
}
_NAME: Final = re.compile(r"[^\s#=]+")
_WITHOUT_LOGIN: Final = frozenset((*_STARTUP, "node.leading_login", DISCOVERED_AT, DISCOVERED_PORT))
"""What counts without a new login."""

HIDDEN: Final = "********"


def settings(options: Mapping[str, Any]) -> dict[str, str]:
    """What is declared, by the names of the records. What is omitted keeps its value. Raises InitiatorError."""
    wanted: dict[str, str] = {}
    if options.get("startup") is not None:
        wanted.update(dict.fromkeys(_STARTUP, str(options["startup"])))
    for option, name in _NUMBERS.items():
        if options.get(option) is not None:
            wanted[name] = str(options[option])
    for option, name in _DIGESTS.items():
        if options.get(option) is not None:
            wanted[name] = DIGESTS[options[option]]
    if options.get("chap") is not None:
        wanted.update(_chap(options["chap"]))
    for name, value in (options.get("params") or {}).items():
        wanted[str(name)] = _param(str(name), value)
    return wanted


def _chap(given: Mapping[str, Any]) -> dict[str, str]:
    proofs = {option: str(given.get(option) or "") for option in _PROOFS}
    for one, other in (("user", "secret"), ("muser", "msecret")):
        if bool(proofs[one]) != bool(proofs[other]):
            raise InitiatorError(f"chap: {one} and {other} belong together. Give both or none.")
    if proofs["muser"] and not proofs["user"]:
        raise InitiatorError("chap: mutual CHAP needs user and secret, too.")
    for option, value in proofs.items():
        problem = _unwritable(value)
        if problem:  # the value is not repeated
            raise InitiatorError(f"chap: {option} {problem}. open-iscsi cannot keep it in its records.")
    method = "CHAP" if proofs["user"] else "None"
    return {METHOD: method, **{name: proofs[option] for option, name in _PROOFS.items()}}


def _unwritable(value: str) -> str | None:
    """What a line of a record cannot hold."""
    if not {"\n", "\r", "\0"}.isdisjoint(value):
        return "has more than one line"
    if value != value.strip():
        return "begins or ends with a blank"
    if len(value.encode()) > 255:
        return "has more than 255 bytes"
    return None


def _param(name: str, value: Any) -> str:
    if name in _OPTION_OF:
        raise InitiatorError(f"params: {name} is set by the option {_OPTION_OF[name]}.")
    if not name.startswith(("node.", "iface.")) or not _NAME.fullmatch(name):
        raise InitiatorError(f"params: {name!r} is no name of a node record. They begin with node.")
    text = {True: "Yes", False: "No"}[value] if isinstance(value, bool) else str(value)
    problem = _unwritable(text)
    if problem:
        raise InitiatorError(f"params: {name} {problem}.")
    return text


def needs_login(names: Iterable[str]) -> bool:
    """Whether a session has to be made again before these values count."""
    return any(name not in _WITHOUT_LOGIN for name in names)


def shown(values: Mapping[str, str]) -> dict[str, str]:
    """The same without secrets."""
    return {name: HIDDEN if name in SECRETS and value else value for name, value in values.items()}


def shown_change(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """``after`` without secrets; one that changes can be told from one that does not."""
    changed = f"{HIDDEN} (another one)"
    return {
        name: changed if name in SECRETS and value and before.get(name) and before.get(name) != value else text
        for (name, value), text in zip(after.items(), shown(after).values())
    }
