# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records of open-iscsi: small files of ``name = value``, one for every node, which hold its secrets, too.

They are written here and not by ``iscsiadm -o update``, because what is on a command line can be seen by every user.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from .._host.errors import HostError
from .._state.portals import live_portal
from .nodes import DEFAULT_INTERFACE, Node

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .._host.sysfs import Host

PLACES: Final = ("/etc/iscsi", "/var/lib/iscsi")
"""Where distributions keep them: Debian and SUSE, EL and Fedora."""
MODE: Final = 0o600
EMPTY: Final = "<empty>"

NAME: Final = "node.name"
ADDRESS: Final = "node.conn[0].address"
PORT: Final = "node.conn[0].port"
TAG: Final = "node.tpgt"
INTERFACE: Final = "iface.iscsi_ifacename"
DISCOVERED_AT: Final = "node.discovery_address"
DISCOVERED_PORT: Final = "node.discovery_port"

_LINE: Final = re.compile(r"\s*([^\s#=]+)\s*=\s*(.*?)\s*$")
_END: Final = "# END RECORD"


class Record(NamedTuple):
    """A node's record: where it is, and what it says."""

    node: Node
    path: str
    values: Mapping[str, str]


def parse(text: str) -> dict[str, str]:
    """Names and values of a record, or of what ``iscsiadm -o show`` prints; what has no value is empty."""
    matched = filter(None, map(_LINE.match, _lines(text)))
    return {line[1]: "" if line[2] == EMPTY else line[2] for line in matched}


def edit(text: str, changes: Mapping[str, str]) -> str:
    """The record with other values, everything else as it was. An empty value removes the line."""
    left = dict(changes)
    lines: list[str] = []
    for line in _lines(text):
        matched = _LINE.match(line)
        if matched is not None and matched[1] in changes:
            value = left.pop(matched[1], "")
            lines += [f"{matched[1]} = {value}"] if value else []
        elif line.startswith(_END):
            lines += [*_added(left), line]
            left = {}
        else:
            lines.append(line)
    return "\n".join([*lines, *_added(left)]) + "\n"


def _lines(text: str) -> list[str]:
    """As open-iscsi reads them: a secret may hold other characters that end a line in Python's eyes."""
    return text[:-1].split("\n") if text.endswith("\n") else text.split("\n")


def _added(values: Mapping[str, str]) -> list[str]:
    return [f"{name} = {value}" for name, value in values.items() if value]


class Records:
    """The records of a host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def all(self) -> list[Record]:
        """Every node that has a record. Raises HostError."""
        return list(self._found())

    def find(self, node: Node) -> Record | None:
        return next((record for record in self._found(node.target) if record.node.key == node.key), None)

    def text(self, record: Record) -> str:
        return self._host.read(record.path)

    def write(self, record: Record, text: str) -> None:
        """Replace it at once; only root can read it. Raises HostError."""
        self._host.save(record.path, text, MODE)

    def _found(self, target: str | None = None) -> Iterator[Record]:
        for place in PLACES:
            nodes = f"{place}/nodes"
            for name in self._host.names(nodes) if target is None else [target]:
                for path in self._files(f"{nodes}/{name}"):
                    record = self._read(path)
                    if record is not None:
                        yield record

    def _files(self, directory: str) -> Iterator[str]:
        """A file for each portal where the portal group is unknown, otherwise one for each interface below it."""
        for name in self._host.names(directory):
            path = f"{directory}/{name}"
            if os.path.isdir(self._host.path(path)):
                yield from (f"{path}/{each}" for each in self._host.names(path))
            elif not name.endswith(".new"):
                yield path

    def _read(self, path: str) -> Record | None:
        values = parse(self._host.read(path))
        if NAME not in values or ADDRESS not in values:
            if path.endswith(".new"):
                return None
            raise HostError(f"{path}: is not a record of open-iscsi. Move it away.")
        tag = int(values[TAG]) if values.get(TAG, "").isdigit() else None
        portal = live_portal(values[ADDRESS], values.get(PORT) or "3260")
        return Record(Node(values[NAME], portal, values.get(INTERFACE) or DEFAULT_INTERFACE, tag), path, values)
