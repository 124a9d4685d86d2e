# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What open-iscsi calls a node: a target behind one portal, reached by one interface."""

from __future__ import annotations

from typing import Final, NamedTuple

from .._state.portals import Portal, live_portal, parse_portal

DEFAULT_INTERFACE: Final = "default"
BY_PATH: Final = "/dev/disk/by-path"


class Node(NamedTuple):
    """A target, a portal, an interface. ``tag`` is that of the portal group; None when nobody knows it.

    Two nodes that differ in the tag only are the same one: ask ``key``.
    """

    target: str
    portal: Portal
    interface: str = DEFAULT_INTERFACE
    tag: int | None = None

    @property
    def key(self) -> tuple[str, Portal, str]:
        return self.target, self.portal, self.interface

    @property
    def place(self) -> str:
        """The portal as iscsiadm takes it: ``10.0.0.1:3260,1``."""
        return str(self.portal) if self.tag is None else f"{self.portal},{self.tag}"

    def __str__(self) -> str:
        by = "" if self.interface == DEFAULT_INTERFACE else f" by interface {self.interface}"
        return f"target {self.target} at {self.portal}{by}"


def parse_place(text: str) -> tuple[Portal, int | None]:
    """A portal that people write, with or without the tag that a discovery tells. Raises ValueError."""
    place, comma, tag = text.strip().rpartition(",")
    if not comma:
        return parse_portal(text), None
    if not tag.strip().isdigit():
        raise ValueError(f"{text!r}: {tag!r} is not the tag of a portal group. Write {place},1 or {place}.")
    return parse_portal(place), int(tag)


def live_place(text: str) -> tuple[Portal, int | None]:
    """A portal as open-iscsi or a target tells it, in the spelling that is compared."""
    place, comma, tag = text.strip().rpartition(",")
    place = place if comma else text.strip()
    host, colon, port = place.rpartition(":")
    if not colon or "]" in port:
        host, port = place, "3260"
    return live_portal(host, port), int(tag) if comma and tag.isdigit() else None


def by_path(node: Node, lun: int) -> str:
    """The link that udev makes for a disk: one for each portal, whatever the interface (udev's path_id)."""
    host = node.portal.host.strip("[]")
    return f"{BY_PATH}/ip-{host}:{node.portal.port}-iscsi-{node.target}-lun-{lun_name(lun)}"


def lun_name(lun: int) -> str:
    """A LUN as it is written in such a link."""
    return str(lun) if lun < 256 else f"0x{lun & 0xFFFF:04x}{lun >> 16 & 0xFFFF:04x}00000000"
