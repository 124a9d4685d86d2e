# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Target nodes: a SCSI device with a name, and who may use it through which portal group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable, NamedTuple

from ..errors import Exists, Invalid, NotFound
from ..scsi.alua import State
from ..scsi.device import Device
from ..scsi.unit import Units
from .access import InitiatorGroup
from .addresses import bracketed, numeric_address, port_number
from .auth import Auth
from .portal import PortalGroup


class Map(NamedTuple):
    """Initiators of ``initiator_group`` may log in through ``portal_group``."""

    portal_group: PortalGroup
    initiator_group: InitiatorGroup

    def to_rpc(self) -> dict[str, int]:
        return {"pg_tag": self.portal_group.tag, "ig_tag": self.initiator_group.tag}


class Redirect(NamedTuple):
    """Where initiators are sent for now (SPDK's iscsi_target_node_set_redirect)."""

    host: str
    """A numeric address without brackets."""
    port: int
    permanent: bool = False
    """Initiators may remember the new address (status 0102); otherwise they come back here first (0101)."""

    @classmethod
    def parse(cls, host: str, port: str, permanent: bool = False) -> Redirect:
        """Raises Invalid."""
        what = f"redirect to {host}:{port}"
        return cls(numeric_address(host, what), port_number(port, what), permanent)

    def __str__(self) -> str:
        """As TargetAddress has it (RFC 7143 §13.8), without a portal group tag."""
        return f"{bracketed(self.host)}:{self.port}"

    def to_rpc(self) -> dict[str, Any]:
        """``permanent`` only when it is, because SPDK does not know it."""
        lasting = {"permanent": True} if self.permanent else {}
        return {"redirect_host": self.host, "redirect_port": str(self.port), **lasting}


class TargetNode:
    """What an initiator logs in to. ``queue_depth`` is the size of a session's command window."""

    def __init__(
        self, name: str, alias: str, maps: list[Map], queue_depth: int, auth: Auth, units: Units | None = None
    ) -> None:
        self.name = name
        self.alias = alias
        self.maps: list[Map] = []
        self.redirects: dict[int, Redirect] = {}
        """By the tag of the mapped portal group where the initiator comes."""
        self.access_states: dict[int, State] = {}
        """By the tag of a mapped portal group, where it is not active and optimized; initiators may have changed it."""
        self.queue_depth = queue_depth
        self.auth = auth
        self.header_digest = False
        """Nobody logs in without CRC32C after every header."""
        self.data_digest = False
        """Nobody logs in without CRC32C after every data segment."""
        self.device = Device(name, units)
        self.enabled = True
        """Otherwise nobody may log in, and nobody finds it by discovery."""
        self.leaving = False
        """Being deleted: nobody may log in any more."""
        self.moved = False
        """Another process serves it."""
        self.add_maps(maps)

    def add_maps(self, maps: list[Map]) -> None:
        """All or nothing. Raises Exists."""
        merged = list(self.maps)
        for each in maps:
            if each in merged:
                raise Exists(f"target node {self.name}: {_words(each)} are mapped already")
            merged.append(each)
        self._set_maps(merged)

    def remove_maps(self, maps: list[Map]) -> None:
        """All or nothing. Raises NotFound."""
        left = list(self.maps)
        for each in maps:
            if each not in left:
                raise NotFound(f"target node {self.name}: {_words(each)} are not mapped")
            left.remove(each)
        self._set_maps(left)

    def drop_maps(self, unwanted: Callable[[Map], bool]) -> None:
        self._set_maps([each for each in self.maps if not unwanted(each)])

    def _set_maps(self, maps: list[Map]) -> None:
        """A redirect and an access state go with the last map of their portal group."""
        self.maps = maps
        tags = [group.tag for group in self.portal_groups()]
        self.device.set_ports(tags)
        self.access_states = {tag: state for tag, state in self.access_states.items() if tag in tags}
        if self.redirects:
            mapped = {each.portal_group.tag for each in maps}
            self.redirects = {tag: redirect for tag, redirect in self.redirects.items() if tag in mapped}

    def set_redirect(self, group: PortalGroup, redirect: Redirect | None) -> None:
        """Send initiators that come through ``group`` elsewhere; None sends them no longer. Raises Invalid."""
        what = f"target node {self.name}: portal group {group.tag}"
        if group.private:
            raise Invalid(f"{what} is private: initiators come there only because they are sent")
        self._check_mapped(group)
        if redirect is None:
            self.redirects.pop(group.tag, None)
        elif (redirect.host, redirect.port) in (portal.key for portal in group.portals):
            raise Invalid(f"{what} has the portal {redirect} itself: initiators would go in circles")
        else:
            self.redirects[group.tag] = redirect

    def _check_mapped(self, group: PortalGroup) -> None:
        if group not in self.portal_groups():
            mapped = ", ".join(str(each.tag) for each in self.portal_groups())
            what = f"target node {self.name}: portal group {group.tag} is not mapped to it"
            raise Invalid(f"{what}. Its portal groups: {mapped or 'none'}.")

    def set_access_state(self, group: PortalGroup, state: State) -> bool:
        """What may be done through ``group`` (ALUA). False when that is so already. Raises Invalid."""
        self._check_mapped(group)
        self.access_states.pop(group.tag, None)
        if state is not State.OPTIMIZED:
            self.access_states[group.tag] = state
        return self.device.set_access({group.tag: state})

    @property
    def is_closed(self) -> bool:
        """Nobody may log in, now or any more."""
        return self.leaving or not self.enabled

    def portal_groups(self) -> list[PortalGroup]:
        """Without repetition, in the order of the maps."""
        return list(dict.fromkeys(each.portal_group for each in self.maps))

    def admits(self, tag: int, initiator: str, address: str) -> bool:
        """May ``initiator`` at ``address`` log in through the portal group of that tag?"""
        return self.admitting(tag, initiator, address) is not None

    def admitting(self, tag: int, initiator: str, address: str) -> InitiatorGroup | None:
        """The initiator group that lets it in; the first verdict counts."""
        for each in self.maps:
            if each.portal_group.tag == tag:
                verdict: bool | None = each.initiator_group.verdict(initiator, address)
                if verdict is not None:
                    return each.initiator_group if verdict else None
        return None

    def to_rpc(self) -> dict[str, Any]:
        """As iscsi_get_target_nodes gives it, and what SPDK does not tell: redirects, access states, is it disabled?"""
        redirects = [{"pg_tag": tag, **redirect.to_rpc()} for tag, redirect in self.redirects.items()]
        states = [_access(tag, state) for tag, state in self.device.ports.items() if state is not State.OPTIMIZED]
        further = {"redirects": redirects, "access_states": states, "disabled": not self.enabled}
        return {**self._made_of(), **{name: value for name, value in further.items() if value}}

    def _made_of(self) -> dict[str, Any]:
        """SPDK leaves an empty alias out."""
        luns = [lun.to_rpc() for lun in self.device.luns.values()]
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
        params = self._made_of()
        params.setdefault("alias_name", self.alias)  # required when it is loaded again
        if 0 not in self.device.luns:
            params["without_lun_0"] = True
        return "iscsi_create_target_node", params

    def further_config(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The calls that complete what ``config`` makes."""
        if not self.enabled:
            yield "iscsi_target_node_disable", {"name": self.name}
        if self.device.histogram is not None:
            yield "iscsi_enable_histogram", {"name": self.name, "enable": True}
        for tag, redirect in self.redirects.items():
            yield "iscsi_target_node_set_redirect", {"name": self.name, "pg_tag": tag, **redirect.to_rpc()}
        for tag, state in self.access_states.items():
            yield "iscsi_target_node_set_access_state", {"name": self.name, **_access(tag, state)}


def _access(tag: int, state: State) -> dict[str, Any]:
    return {"pg_tag": tag, "access_state": state.name.lower()}


def _words(each: Map) -> str:
    return f"portal group {each.portal_group.tag} and initiator group {each.initiator_group.tag}"
