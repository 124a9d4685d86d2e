# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Target nodes: a SCSI device with a name, and who may use it through which portal group."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

from ..errors import Exists, NotFound
from ..scsi.device import Device
from .access import InitiatorGroup
from .options import Auth
from .portal import PortalGroup


class Map(NamedTuple):
    """Initiators of ``initiator_group`` may log in through ``portal_group``."""

    portal_group: PortalGroup
    initiator_group: InitiatorGroup

    def to_rpc(self) -> dict[str, int]:
        return {"pg_tag": self.portal_group.tag, "ig_tag": self.initiator_group.tag}


class TargetNode:
    """What an initiator logs in to. ``queue_depth`` is the size of a session's command window."""

    def __init__(self, name: str, alias: str, maps: list[Map], queue_depth: int, auth: Auth) -> None:
        self.name = name
        self.alias = alias
        self.maps: list[Map] = []
        self.queue_depth = queue_depth
        self.auth = auth
        self.header_digest = False
        self.data_digest = False
        self.device = Device(name)
        self.leaving = False
        """Being deleted: nobody may log in any more."""
        self.add_maps(maps)

    def add_maps(self, maps: list[Map]) -> None:
        """All or nothing. Raises Exists."""
        merged = list(self.maps)
        for each in maps:
            if each in merged:
                raise Exists(f"target node {self.name}: {_words(each)} are mapped already")
            merged.append(each)
        self.maps = merged

    def remove_maps(self, maps: list[Map]) -> None:
        """All or nothing. Raises NotFound."""
        left = list(self.maps)
        for each in maps:
            if each not in left:
                raise NotFound(f"target node {self.name}: {_words(each)} are not mapped")
            left.remove(each)
        self.maps = left

    def drop_maps(self, unwanted: Callable[[Map], bool]) -> None:
        self.maps = [each for each in self.maps if not unwanted(each)]

    def portal_groups(self) -> list[PortalGroup]:
        """Without repetition, in the order of the maps."""
        return list(dict.fromkeys(each.portal_group for each in self.maps))

    def admits(self, tag: int, initiator: str, address: str) -> bool:
        """May ``initiator`` at ``address`` log in through the portal group of that tag? The first verdict counts."""
        for each in self.maps:
            if each.portal_group.tag == tag:
                verdict: bool | None = each.initiator_group.verdict(initiator, address)
                if verdict is not None:
                    return verdict
        return False

    def to_rpc(self) -> dict[str, Any]:
        """As iscsi_get_target_nodes gives it; SPDK leaves an empty alias out."""
        luns = [{"bdev_name": lun.bdev.name, "lun_id": lun.id} for lun in self.device.luns.values()]
        return {
            "name": self.name,
            **({"alias_name": self.alias} if self.alias else {}),
            "pg_ig_maps": [each.to_rpc() for each in self.maps],
            "luns": luns,
            "queue_depth": self.queue_depth,
            **self.auth._asdict(),
            "header_digest": self.header_digest,
            "data_digest": self.data_digest,
        }

    def config(self) -> tuple[str, dict[str, Any]]:
        params = self.to_rpc()
        params.setdefault("alias_name", self.alias)  # required when it is loaded again
        return "iscsi_create_target_node", params


def _words(each: Map) -> str:
    return f"portal group {each.portal_group.tag} and initiator group {each.initiator_group.tag}"
