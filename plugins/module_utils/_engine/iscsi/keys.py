# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text keys: their syntax and how each is negotiated (RFC 7143 §6, §13)."""

from __future__ import annotations

from typing import Callable, Final, NamedTuple, Optional, Union

from ..bdev.base import Buffer
from .options import Options

Value = Union[int, bool, str]

RECEIVE_LIMIT: Final = 262144
"""The MaxRecvDataSegmentLength we declare, in bytes."""
MAX_BURST: Final = 1048576
_MAX_KEY_BYTES: Final = 63
_MAX_LENGTH: Final = 2**24 - 1
NOT_UNDERSTOOD: Final = "NotUnderstood"
REJECT: Final = "Reject"
IRRELEVANT: Final = "Irrelevant"


class TextError(Exception):
    """A text that is not made of unique key=value pairs."""


def parse_text(data: Buffer) -> list[tuple[str, str]]:
    """The pairs of a complete text, in order. Raises TextError."""
    pairs: dict[str, str] = {}
    for item in bytes(data).split(b"\0"):
        if not item:
            continue
        key, equals, value = item.partition(b"=")
        if not equals or not key or len(key) > _MAX_KEY_BYTES:
            raise TextError(f"not key=value: {item[:80]!r}")
        try:
            name = key.decode("ascii")
            if name in pairs:
                raise TextError(f"key {name} given twice")
            pairs[name] = value.decode("utf-8")
        except UnicodeDecodeError:
            raise TextError(f"not UTF-8: {item[:80]!r}") from None
    return list(pairs.items())


def build_text(pairs: list[tuple[str, str]]) -> bytes:
    return b"".join(f"{key}={value}".encode() + b"\0" for key, value in pairs)


class Parameters:
    """What a session and its connection have agreed on, from the RFC's defaults on."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {name: key.default for name, key in KEYS.items()}
        self.peer_receive_limit = 8192
        """The initiator's MaxRecvDataSegmentLength, in bytes."""

    def number(self, name: str) -> int:
        return int(self.values[name])

    def flag(self, name: str) -> bool:
        return bool(self.values[name])


Negotiate = Callable[["Key", str, Value], Optional[Value]]


class Key(NamedTuple):
    """A row of the table of negotiated keys."""

    negotiate: Negotiate
    """(row, offered text, our value) -> the result; None rejects the offer."""
    default: Value
    low: int = 0
    high: int = 0


def _number(text: str) -> int | None:
    try:
        return int(text, 16) if text[:2].lower() == "0x" else int(text) if text.isdigit() else None
    except ValueError:
        return None


def _checked(key: Key, text: str) -> int | None:
    number = _number(text)
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
    "HeaderDigest": Key(_first_of_ours, "None"),
    "DataDigest": Key(_first_of_ours, "None"),
    "MaxConnections": Key(_minimum, 1, 1, 65535),
    "InitialR2T": Key(_either, True),
    "ImmediateData": Key(_both, True),
    "MaxBurstLength": Key(_minimum, 262144, 512, _MAX_LENGTH),
    "FirstBurstLength": Key(_minimum, 65536, 512, _MAX_LENGTH),
    "DefaultTime2Wait": Key(_maximum, 2, 0, 3600),
    "DefaultTime2Retain": Key(_minimum, 20, 0, 3600),
    "MaxOutstandingR2T": Key(_minimum, 1, 1, 65535),
    "DataPDUInOrder": Key(_either, True),
    "DataSequenceInOrder": Key(_either, True),
    "ErrorRecoveryLevel": Key(_minimum, 0, 0, 2),
}

_OBSOLETE: Final = {"IFMarker": "No", "OFMarker": "No"}  # RFC 7143 §13.25
_DISCOVERY_IRRELEVANT: Final = frozenset(
    {
        *("MaxConnections", "InitialR2T", "ImmediateData", "MaxBurstLength", "FirstBurstLength"),
        *("MaxOutstandingR2T", "DataPDUInOrder", "DataSequenceInOrder"),
    }
)


def our_values(options: Options) -> dict[str, Value]:
    """What we bring to the negotiation."""
    return {
        "HeaderDigest": "None",
        "DataDigest": "None",
        "MaxConnections": 1,
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
    }


def answer(
    name: str, offered: str, ours: dict[str, Value], agreed: Parameters, discovery: bool
) -> tuple[str, str] | None:
    """Negotiate one key and note the result in ``agreed``; gives our answer, None for a declaration.

    ``offered`` in ``KEYS`` that the session type makes meaningless are Irrelevant, unknown ones NotUnderstood.
    """
    if name == "MaxRecvDataSegmentLength":
        number = _number(offered)
        if number is None or not 512 <= number <= _MAX_LENGTH:
            return name, REJECT
        agreed.peer_receive_limit = number
        return None
    if name in _DECLARATIONS:
        return None
    if name in _OBSOLETE:
        return name, _OBSOLETE[name]
    key = KEYS.get(name)
    if key is None:
        return name, NOT_UNDERSTOOD
    if discovery and name in _DISCOVERY_IRRELEVANT:
        return name, IRRELEVANT
    result = key.negotiate(key, offered, ours[name])
    if result is None:
        return name, REJECT
    agreed.values[name] = result
    return name, _text(result)


_DECLARATIONS: Final = frozenset(
    {"InitiatorName", "InitiatorAlias", "TargetName", "SessionType", "TargetAlias", "TargetAddress"}
)


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "Yes" if value else "No"
    return str(value)
