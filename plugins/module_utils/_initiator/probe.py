# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an initiator finds at a portal: targets, their LUNs, and whether written data comes back."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .errors import InitiatorError
from .login import Who
from .scsi import Capacity, LogicalUnit, report_luns
from .session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .chap import Credentials

_TEST_BYTES: Final = 65536
_WILDCARDS: Final = ("0.0.0.0", "::")
_HARMLESS: Final = re.compile(r"[^\s/\x00-\x1f\x7f.-][^\s/\x00-\x1f\x7f]{0,254}")
"""What others call targets and portals. open-iscsi makes directories of it, and takes more than RFC 7143 allows."""


class Address(NamedTuple):
    """An IP address without brackets, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Request(NamedTuple):
    """What to look at: one ``target`` by its name, or None for all."""

    portal: Address
    initiator: str
    target: str | None = None
    write_test: bool = False
    timeout: float = 10.0
    credentials: Credentials | None = None

    def who(self, target: str | None) -> Who:
        return Who(self.initiator, target, self.credentials)


class Found(NamedTuple):
    """A target as discovery tells it: its portals as ``address:port,tag``."""

    name: str
    portals: list[str]


def probe(request: Request) -> list[dict[str, Any]]:
    """Discover, log in to every target and look at its LUNs. Raises InitiatorError."""
    found = discover(request)
    if request.target is not None:
        found = [target for target in found if target.name == request.target] or _unknown(request, found)
    return [{"name": target.name, "portals": target.portals, "luns": list(_luns(request, target))} for target in found]


def discover(request: Request) -> list[Found]:
    """SendTargets=All in a discovery session (RFC 7143 appendix C)."""
    with Session(*request.portal, request.who(None), request.timeout) as session:
        answer = session.text({"SendTargets": "All"})
    try:
        return targets_in(answer)
    except ValueError as error:
        raise InitiatorError(f"portal {request.portal}: {error}") from error


def targets_in(answer: Iterable[tuple[str, str]]) -> list[Found]:
    """The targets of an answer to SendTargets. Raises ValueError for what must not become a path or an argument."""
    targets: list[Found] = []
    for key, value in answer:
        if key in ("TargetName", "TargetAddress") and not _HARMLESS.fullmatch(value):
            raise ValueError(f"it offers a {key} that is none: {value[:255]!r}. Nothing of its answer is used.")
        if key == "TargetName":
            targets.append(Found(value, []))
        elif key == "TargetAddress" and targets:
            targets[-1].portals.append(value)
    return targets


def _unknown(request: Request, found: list[Found]) -> list[Found]:
    names = ", ".join(target.name for target in found) or "none"
    raise InitiatorError(f"target {request.target}: portal {request.portal} does not offer it. It offers: {names}.")


def _luns(request: Request, target: Found) -> Iterator[dict[str, Any]]:
    with Session(*_nearest(request.portal, target), request.who(target.name), request.timeout) as session:
        for unit in report_luns(session):
            unit.settle()
            identity = unit.identity()
            capacity = unit.capacity() if identity.is_disk else Capacity(0, 0)
            tested = request.write_test and identity.is_disk and not unit.write_protected()
            if tested:
                comes_back(unit, capacity)
            yield {
                "lun": unit.number,
                "size": capacity.size,
                "block_size": capacity.block_size,
                "blocks": capacity.blocks,
                **{name: value for name, value in identity._asdict().items() if name != "is_disk"},
                "verified": tested,
            }


def comes_back(unit: LogicalUnit, capacity: Capacity) -> None:
    """Write random data to the last blocks, read it back, and restore what was there. Raises InitiatorError."""
    count = max(1, min(capacity.blocks, _TEST_BYTES // capacity.block_size))
    first = capacity.blocks - count
    kept = unit.read(first, count, capacity.block_size)
    data = os.urandom(len(kept))
    try:
        unit.write(first, data, capacity.block_size)
        same = unit.read(first, count, capacity.block_size) == data
    finally:
        unit.write(first, kept, capacity.block_size)
    if not same or unit.read(first, count, capacity.block_size) != kept:
        raise InitiatorError(
            f"LUN {unit.number}: what was written to its blocks {first} to {capacity.blocks - 1} "
            "is not what was read from them. Do not use this disk; see the target's log and the kernel's."
        )


def _nearest(portal: Address, target: Found) -> Address:
    """The portal that was asked if the target has it, otherwise the first of its own."""
    addresses = [_parsed(text) for text in target.portals]
    if not addresses or portal in addresses or any(address.host in _WILDCARDS for address in addresses):
        return portal
    return addresses[0]


def _parsed(text: str) -> Address:
    """``10.0.0.1:3260,1``, ``[fe80::1]:3260,1``, ``10.0.0.1`` (RFC 7143 §13.8)."""
    place = text.partition(",")[0]
    host, colon, port = place.rpartition(":")
    if not colon or "]" in port:
        host, port = place, "3260"
    return Address(host.strip("[]"), int(port))
