# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operational keys and how each is negotiated, as one table (RFC 7143 §6.2, §13; RFC 7144 §7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Final, NamedTuple, Optional, Union

from .options import Options
from .text import parse_number

if TYPE_CHECKING:
    from .node import TargetNode

Value = Union[int, bool, str]

RECEIVE_LIMIT: Final = 262144
"""The MaxRecvDataSegmentLength we declare, in bytes."""
DEFAULT_RECEIVE_LIMIT: Final = 8192
"""MaxRecvDataSegmentLength of who declares none, and what nobody exceeds before full feature phase (§13.12)."""
MAX_BURST: Final = 1048576
_MAX_LENGTH: Final = 2**24 - 1
NOT_UNDERSTOOD: Final = "NotUnderstood"
REJECT: Final = "Reject"
IRRELEVANT: Final = "Irrelevant"

NO_DIGEST: Final = "None"
CRC32C: Final = "CRC32C"


class Parameters:
    """What a session and one of its connections have agreed on, from the RFC's defaults on."""

    __slots__ = ("peer_receive_limit", "values")

    def __init__(self) -> None:
        self.values: dict[str, Value] = {name: key.default for name, key in KEYS.items()}
        self.peer_receive_limit = DEFAULT_RECEIVE_LIMIT
        """The initiator's MaxRecvDataSegmentLength, in bytes."""

    def number(self, name: str) -> int:
        return int(self.values[name])

    def flag(self, name: str) -> bool:
        return bool(self.values[name])

    @property
    def header_digest(self) -> bool:
        """Every header of this connection is followed by its CRC32C."""
        return self.values["HeaderDigest"] == CRC32C

    @property
    def data_digest(self) -> bool:
        """Every data segment of this connection is followed by its CRC32C."""
        return self.values["DataDigest"] == CRC32C

    def of_further_connection(self) -> Parameters:
        """Where the login of one more connection begins: what the session agreed on, and the connection's defaults."""
        fresh = Parameters()
        fresh.values.update((name, value) for name, value in self.values.items() if KEYS[name].leading)
        return fresh


Negotiate = Callable[["Key", str, Value], Optional[Value]]


class Key(NamedTuple):
    """A row of the table of negotiated keys."""

    negotiate: Negotiate
    """(row, offered text, our value) -> the result; None rejects the offer."""
    default: Value
    low: int = 0
    high: int = 0
    leading: bool = True
    """Only the first connection of a session negotiates it, for all of them."""
    discovery: bool = False
    """It means something in a discovery session."""


def _checked(key: Key, text: str) -> int | None:
    number = parse_number(text)
    return number if number is not None and key.low <= number <= key.high else None


def _minimum(key: Key, offered: str, ours: Value) -> Value | None:
    number = _checked(key, offered)
    return None if number is None else min(number, int(ours))


def _maximum(key: Key, offered: str, ours: Value) -> Value | None:
    number = _checked(key, offered)
    return None if number is None else max(number, int(ours))


def _either(_key: Key, offered: str, ours: Value) -> Value | None:
    return None if offered not in _BOOLEANS else _BOOLEANS[offered] or bool(ours)


def _both(_key: Key, offered: str, ours: Value) -> Value | None:
    return None if offered not in _BOOLEANS else _BOOLEANS[offered] and bool(ours)


def _first_of_ours(_key: Key, offered: str, ours: Value) -> Value | None:
    """A list in the initiator's order of preference; ours is a comma-separated list too."""
    possible = str(ours).split(",")
    return next((each for each in offered.split(",") if each in possible), None)


_BOOLEANS: Final = {"Yes": True, "No": False}

KEYS: Final[dict[str, Key]] = {
    "HeaderDigest": Key(_first_of_ours, NO_DIGEST, leading=False, discovery=True),
    "DataDigest": Key(_first_of_ours, NO_DIGEST, leading=False, discovery=True),
    "MaxConnections": Key(_minimum, 1, 1, 65535),
    "InitialR2T": Key(_either, True),
    "ImmediateData": Key(_both, True),
    "MaxBurstLength": Key(_minimum, 262144, 512, _MAX_LENGTH),
    "FirstBurstLength": Key(_minimum, 65536, 512, _MAX_LENGTH),
    "DefaultTime2Wait": Key(_maximum, 2, 0, 3600, discovery=True),
    "DefaultTime2Retain": Key(_minimum, 20, 0, 3600, discovery=True),
    "MaxOutstandingR2T": Key(_minimum, 1, 1, 65535),
    "DataPDUInOrder": Key(_either, True),
    "DataSequenceInOrder": Key(_either, True),
    "ErrorRecoveryLevel": Key(_minimum, 0, 0, 2, discovery=True),
    "TaskReporting": Key(_first_of_ours, "RFC3720"),
    "iSCSIProtocolLevel": Key(_minimum, 1, 0, 31),
}

_DECLARATIONS: Final = frozenset(
    {
        *("InitiatorName", "InitiatorAlias", "TargetName", "SessionType"),
        *("TargetAlias", "TargetAddress", "TargetPortalGroupTag"),  # an initiator's mean nothing
    }
)
_AFTER_LOGIN: Final = frozenset({"SendTargets"})
_OBSOLETE: Final = {"IFMarker": "No", "OFMarker": "No", "IFMarkInt": REJECT, "OFMarkInt": REJECT}  # §13.25
_PROTOCOL_LEVEL: Final = 2  # RFC 7144


def our_values(options: Options, node: TargetNode | None = None) -> dict[str, Value]:
    """What we bring to the negotiation of a session with ``node``, or of a discovery session."""
    return {
        "HeaderDigest": _digests(node is not None and node.header_digest),
        "DataDigest": _digests(node is not None and node.data_digest),
        "MaxConnections": options.max_connections_per_session,
        "InitialR2T": False,
        "ImmediateData": options.immediate_data,
        "MaxBurstLength": MAX_BURST,
        "FirstBurstLength": options.first_burst_length,
        "DefaultTime2Wait": options.default_time2wait,
        "DefaultTime2Retain": options.default_time2retain,
        "MaxOutstandingR2T": options.max_r2t_per_connection,
        "DataPDUInOrder": True,
        "DataSequenceInOrder": True,
        "ErrorRecoveryLevel": 0,
        "TaskReporting": "RFC3720",
        "iSCSIProtocolLevel": _PROTOCOL_LEVEL,
    }


def _digests(required: bool) -> str:
    """A node that asks for digests lets nobody in without, as SPDK does; otherwise the initiator chooses."""
    return CRC32C if required else f"{CRC32C},{NO_DIGEST}"


class Negotiation:
    """Answers the operational keys of a login, or of a text request later on, and notes what is agreed.

    ``ours`` is from :func:`our_values`. ``leading`` is the first connection of a session, ``discovery`` a session of
    that type; ``login`` ends with full feature phase.
    """

    def __init__(
        self,
        ours: dict[str, Value],
        agreed: Parameters,
        *,
        discovery: bool = False,
        leading: bool = True,
        login: bool = True,
    ) -> None:
        self.ours = ours
        self.agreed = agreed
        self.discovery = discovery
        self.leading = leading
        self.login = login

    def answer(self, name: str, offered: str) -> str | None:
        """What to answer to ``name=offered``; None where a declaration needs no answer."""
        if name == "MaxRecvDataSegmentLength":
            return self._declare_receive_limit(offered)
        if name in _DECLARATIONS:
            return None
        if name in _AFTER_LOGIN:
            return REJECT
        if name in _OBSOLETE:
            return _OBSOLETE[name]
        key = KEYS.get(name)
        if key is None:
            return NOT_UNDERSTOOD
        if self.discovery and not key.discovery:
            return IRRELEVANT
        if not self.login or (key.leading and not self.leading):
            return REJECT
        result = key.negotiate(key, offered, self.ours[name])
        if result is None:
            return REJECT
        self.agreed.values[name] = result
        return _text(result)

    def _declare_receive_limit(self, offered: str) -> str | None:
        number = parse_number(offered)
        if number is None or not 512 <= number <= _MAX_LENGTH:
            return REJECT
        self.agreed.peer_receive_limit = number
        return None


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "Yes" if value else "No"
    return str(value)
