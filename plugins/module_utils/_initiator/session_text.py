# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``iscsiadm -m session -P 1`` to ``-P 3`` print, as data: interface, state and disks of every session."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from .._state.portals import Portal
from .nodes import DEFAULT_INTERFACE, Node, live_place

_HEAD: Final = {"Target", "Current Portal", "Persistent Portal"}
_FIELD: Final = re.compile(r"\s*([A-Za-z_][\w ]*?):\s*(.*?)\s*$")
_UNIT: Final = re.compile(r"\s*scsi\d+ Channel \d+ Id \d+ Lun: (\d+)")
_DISK: Final = re.compile(r"\s*Attached scsi disk (\S+)\s+State: (\S+)")
_HOST: Final = re.compile(r"\s*Host Number: (\d+)\s+State: (\S+)")
_NOTHING: Final = ("<empty>", "default", "unknown")
NEGOTIATED: Final = (
    *("HeaderDigest", "DataDigest", "MaxRecvDataSegmentLength", "MaxXmitDataSegmentLength", "FirstBurstLength"),
    *("MaxBurstLength", "ImmediateData", "InitialR2T", "MaxOutstandingR2T"),
)


@dataclass(frozen=True)
class Unit:
    """A LUN that the kernel has taken up; ``disk`` is empty for what is no disk."""

    lun: int
    disk: str = ""
    state: str = ""


@dataclass
class Session:
    """A session. ``portal`` is that of its record, ``current`` where it went: after a redirect it is another one."""

    sid: int
    target: str
    portal: Portal
    current: Portal
    tag: int | None
    interface: str = DEFAULT_INTERFACE
    transport: str = ""
    netdev: str = ""
    hwaddress: str = ""
    initiator: str = ""
    connection_state: str = ""
    session_state: str = ""
    host: int | None = None
    user: str = ""
    negotiated: dict[str, str] = field(default_factory=dict)
    units: list[Unit] = field(default_factory=list)

    @property
    def node(self) -> Node:
        return Node(self.target, self.portal, self.interface, self.tag)

    @property
    def logged_in(self) -> bool:
        """Whether it can be used now, and is not being recovered."""
        return self.session_state == "LOGGED_IN"

    @property
    def disks(self) -> list[Unit]:
        return [unit for unit in self.units if unit.disk]

    def told(self) -> dict[str, Any]:
        return {
            "sid": self.sid,
            "target": self.target,
            "portal": str(self.portal),
            "current_portal": str(self.current),
            "tag": self.tag,
            "interface": self.interface,
            "transport": self.transport,
            "netdev": self.netdev,
            "initiator": self.initiator,
            "state": self.session_state,
            "connection_state": self.connection_state,
            "user": self.user,
            "negotiated": dict(self.negotiated),
        }


_SIMPLE: Final = {
    "Iface Name": "interface",
    "Iface Transport": "transport",
    "Iface Netdev": "netdev",
    "Iface HWaddress": "hwaddress",
    "Iface Initiatorname": "initiator",
    "iSCSI Connection State": "connection_state",
    "iSCSI Session State": "session_state",
    "username": "user",
}


def parse_sessions(text: str) -> list[Session]:
    """All sessions, in the order in which they are printed."""
    sessions: list[Session] = []
    head: dict[str, str] = {}
    session: Session | None = None
    for line in text.splitlines():
        if line.strip() == "Interface:":  # one portal has a session for each interface
            session = _begin(head)
            sessions.append(session)
            continue
        matched = _FIELD.match(line)
        if matched is not None and matched[1] in _HEAD:
            head[matched[1]] = matched[2]
            session = None
        elif session is not None:
            _note(session, line, matched)
    return sessions


def _begin(head: dict[str, str]) -> Session:
    target = head.get("Target", "").split(" (")[0]  # (non-flash), since 2.0.873
    current, tag = live_place(head.get("Current Portal", ""))
    portal, _tag = live_place(head.get("Persistent Portal") or head.get("Current Portal", ""))
    return Session(-1, target, portal, current, tag)


def _note(session: Session, line: str, matched: re.Match[str] | None) -> None:
    unit, disk, host = _UNIT.match(line), _DISK.match(line), _HOST.match(line)
    if unit is not None:
        session.units.append(Unit(int(unit[1])))
    elif disk is not None and session.units:
        session.units[-1] = Unit(session.units[-1].lun, disk[1], disk[2])
    elif host is not None:
        session.host = int(host[1])
    elif matched is not None:
        name, value = matched.groups()
        if name == "SID":
            session.sid = int(value)
        elif name in NEGOTIATED:
            session.negotiated[name] = value
        elif name in _SIMPLE:
            empty = value in _NOTHING and name != "Iface Name"
            setattr(session, _SIMPLE[name], "" if empty else value)
