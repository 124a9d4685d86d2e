# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The iSCSI target as a whole: options, groups, nodes, sessions, and the operations that change them."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Sequence
from typing import Any, Final

from ..bdev.base import Bdev, BdevRegistry
from ..errors import Busy, EngineError, Exists, Invalid, NotFound
from ..facts import DEFAULT_DRAIN_SECONDS, MAX_ALIAS_BYTES
from ..scsi.sense import CapacityChanged, LunsChanged
from ..scsi.unit import Options as LunOptions
from ..scsi.unit import ReservationStore, Units
from .access import InitiatorGroup
from .accounts import Accounts, connection_to_rpc
from .auth import Auth, AuthGroup
from .buffers import SharedBuffer
from .clock import Clock
from .connection import Connection
from .crc32c import IN_PYTHON
from .names import comparable, full_name
from .node import Map, Redirect, TargetNode
from .options import Options
from .portal import Portal, PortalGroup
from .reception import Arrival, Elsewhere, Reception
from .session import Session
from .sessions import Sessions
from .settling import Settling

_log = logging.getLogger(__name__)

_LOGOUT_SECONDS: Final = 30

Tags = tuple[int, int]
"""Portal group tag, initiator group tag."""


class IscsiTarget:
    """Owns everything iSCSI. Every operation is all or nothing and raises EngineError that names its object."""

    def __init__(
        self, bdevs: BdevRegistry, reservations: ReservationStore | None = None, has_portals: bool = True
    ) -> None:
        """Without portals, connections come by :meth:`admit` only."""
        self._bdevs = bdevs
        self._has_portals = has_portals
        self.units = Units(reservations)
        self.options = Options()
        self.portal_groups: dict[int, PortalGroup] = {}
        self.initiator_groups: dict[int, InitiatorGroup] = {}
        self.nodes: dict[str, TargetNode] = {}
        self.auth_groups: dict[int, AuthGroup] = {}
        self.clock = Clock()
        self.accounts = Accounts()
        self.sessions = Sessions(self.options, self.clock, self.accounts)
        self.settling = Settling()
        self.serving = False
        """Portals listen. Before that they are only bound, so that nobody finds half a configuration."""
        self.elsewhere: Elsewhere | None = None
        """The other processes that serve target nodes, if there are any."""
        self.receptions: set[Reception] = set()
        self._nodes_by_comparable: dict[str, TargetNode] = {}
        self._connection_number = 0
        self._connection_step = 1
        self._number = 0
        self._shared = SharedBuffer()
        self._farewells: set[asyncio.Task[None]] = set()
        self._knows_slow_digests = not IN_PYTHON
        """There is nothing to say, or it was said, of how long digests take."""

    # -- portal groups -----------------------------------------------------------------------------------------------

    def create_portal_group(
        self, tag: int, portals: list[tuple[str, str]], private: bool = False, wait: bool = False
    ) -> PortalGroup:
        """Bind the portals (host, port). Raises Exists for a tag or address that is taken."""
        if tag in self.portal_groups:
            raise Exists(f"portal group {tag} exists already")
        if not portals:
            raise Invalid(f"portal group {tag}: it needs at least one portal")
        group = PortalGroup(tag, [Portal(host, port, tag) for host, port in portals], private, wait)
        taken = {portal.key: other.tag for other in self.portal_groups.values() for portal in other.portals}
        for portal in group.portals:
            if portal.key in taken:
                raise Exists(f"portal group {tag}: portal {portal} belongs to portal group {taken[portal.key]}")
            taken[portal.key] = tag
        self.open_portals(group)
        self.portal_groups[tag] = group
        return group

    def open_portals(self, group: PortalGroup) -> None:
        """Bind the portals and, when it is time, listen; all of them or none. Raises EngineError."""
        if not self._has_portals:
            return
        group.bind()
        if self.serving and not group.waiting:
            try:
                group.listen(asyncio.get_running_loop(), self._accept)
            except EngineError:
                group.close(asyncio.get_running_loop())
                raise

    def start_portal_group(self, tag: int) -> None:
        group = self.portal_group(tag)
        if self.serving and self._has_portals:
            group.listen(asyncio.get_running_loop(), self._accept)
        group.waiting = False

    def delete_portal_group(self, tag: int) -> None:
        """Also drops the group's maps. Sessions that came through it go on."""
        group = self.portal_group(tag)
        group.close(asyncio.get_running_loop())
        for node in self.nodes.values():
            node.drop_maps(lambda each: each.portal_group is group)
        del self.portal_groups[tag]

    def portal_group(self, tag: int) -> PortalGroup:
        group = self.portal_groups.get(tag)
        if group is None:
            raise NotFound(f"portal group {tag} does not exist. {_known(self.portal_groups)}")
        return group

    # -- initiator groups --------------------------------------------------------------------------------------------

    def create_initiator_group(self, tag: int, initiators: list[str], netmasks: list[str]) -> InitiatorGroup:
        if tag in self.initiator_groups:
            raise Exists(f"initiator group {tag} exists already")
        group = InitiatorGroup(tag, initiators, netmasks)
        self.initiator_groups[tag] = group
        return group

    def add_initiators(self, tag: int, initiators: list[str], netmasks: list[str]) -> None:
        self.initiator_group(tag).add(initiators, netmasks)

    def remove_initiators(self, tag: int, initiators: list[str], netmasks: list[str]) -> None:
        self.initiator_group(tag).remove(initiators, netmasks)

    def delete_initiator_group(self, tag: int) -> None:
        """Also drops the group's maps. Sessions of its initiators go on."""
        group = self.initiator_group(tag)
        for node in self.nodes.values():
            node.drop_maps(lambda each: each.initiator_group is group)
        del self.initiator_groups[tag]

    def initiator_group(self, tag: int) -> InitiatorGroup:
        group = self.initiator_groups.get(tag)
        if group is None:
            raise NotFound(f"initiator group {tag} does not exist. {_known(self.initiator_groups)}")
        return group

    # -- authentication ----------------------------------------------------------------------------------------------

    def add_auth_group(self, group: AuthGroup) -> None:
        if group.tag in self.auth_groups:
            raise Exists(f"auth group {group.tag} exists already")
        self.auth_groups[group.tag] = group

    def delete_auth_group(self, tag: int) -> None:
        """Whoever refers to it has no secrets from now on."""
        self.auth_group(tag)
        del self.auth_groups[tag]

    def auth_group(self, tag: int) -> AuthGroup:
        group = self.auth_groups.get(tag)
        if group is None:
            raise NotFound(f"auth group {tag} does not exist. {_known(self.auth_groups)}")
        return group

    def set_discovery_auth(self, auth: Auth) -> None:
        auth.check("discovery")
        self.options.discovery_auth = auth

    def set_portal_group_auth(self, tag: int, auth: Auth | None) -> None:
        """A policy for discovery through one portal group; None leaves it to that of the target again."""
        group = self.portal_group(tag)
        if auth is not None:
            auth.check(f"portal group {tag}")
        group.auth = auth

    def discovery_auth(self, tag: int) -> Auth:
        """The policy for discovery sessions that come through the portal group of that tag."""
        group = self.portal_groups.get(tag)  # the connection outlives its portal group
        return group.auth if group is not None and group.auth is not None else self.options.discovery_auth

    # -- target nodes ------------------------------------------------------------------------------------------------

    def find_node(self, name: str) -> TargetNode | None:
        """By full name, in any case (RFC 7143 §4.2.7.1)."""
        return self._nodes_by_comparable.get(comparable(name))

    def node(self, name: str) -> TargetNode:
        """By full or short name. Raises NotFound."""
        node = self.find_node(name) or self.find_node(f"{self.options.node_base}:{name}")
        if node is None:
            known = ", ".join(list(self.nodes)[:20])
            raise NotFound(f"target node {name} does not exist. Known target nodes: {known or 'none'}.")
        return node

    def create_node(
        self,
        name: str,
        alias: str,
        maps: list[Tags],
        luns: Sequence[tuple[Any, ...]],
        queue_depth: int,
        auth: Auth,
        header_digest: bool = False,
        data_digest: bool = False,
        without_lun_0: bool = False,
    ) -> TargetNode:
        """``luns`` are (LUN id, bdev name), perhaps with the fields of LunOptions and the tags of its mask.

        LUN 0 is one of them, unless told.

        A queue depth outside 1..max_queue_depth becomes max_queue_depth.
        """
        name = full_name(name, self.options.node_base)
        auth.check(f"target node {name}")
        if self.find_node(name) is not None:
            raise Exists(f"target node {name} exists already")
        if len(alias.encode()) > MAX_ALIAS_BYTES:
            raise Invalid(f"target node {name}: the alias is longer than {MAX_ALIAS_BYTES} bytes")
        if not without_lun_0 and not any(lun_id == 0 for lun_id, *_rest in luns):
            raise Invalid(f"target node {name}: LUN 0 is missing")
        most = self.options.max_queue_depth
        depth = queue_depth if 1 <= queue_depth <= most else most
        node = TargetNode(name, alias, self._maps(name, maps), depth, auth, self.units)
        node.header_digest = header_digest
        node.data_digest = data_digest
        try:
            for lun_id, bdev_name, *options in luns:
                bdev, mask = self._bdev_for_lun(name, lun_id, bdev_name), options[2:]
                node.device.add(lun_id, bdev, LunOptions(*options[:2])).mask = tuple(*mask)
        except EngineError:
            node.device.close()
            raise
        self.nodes[name] = node
        self._nodes_by_comparable[comparable(name)] = node
        return node

    def index_nodes(self) -> None:
        """To be called when ``nodes`` was changed as a whole."""
        self._nodes_by_comparable = {comparable(name): node for name, node in self.nodes.items()}

    async def delete_node(self, name: str) -> None:
        """Ask its initiators to log out, drop those that stay, and remove the node. Raises NotFound or Busy."""
        node = self.node(name)
        if node.leaving:
            raise Busy(f"target node {node.name} is being deleted already")
        node.leaving = True
        if self.elsewhere is not None:
            try:
                await self.elsewhere.see_off(node, _LOGOUT_SECONDS)
            except EngineError:
                node.leaving = False
                self.elsewhere.stay(node)
                raise
        await self.sessions.see_off(self.sessions.of_node(node), _LOGOUT_SECONDS)
        self.nodes.pop(node.name, None)
        self._nodes_by_comparable.pop(comparable(node.name), None)
        node.device.close()

    def add_lun(
        self, name: str, bdev_name: str, lun_id: int = -1, removable: bool = False, readonly: bool = False
    ) -> int:
        """``lun_id`` -1 takes the lowest free one; gives the id. Initiators learn of it by a unit attention."""
        node = self.node(name)
        chosen = node.device.free_lun_id() if lun_id == -1 else lun_id
        node.device.add(chosen, self._bdev_for_lun(node.name, chosen, bdev_name), LunOptions(removable, readonly))
        self.sessions.tell_event(node, 0, LunsChanged)
        return chosen

    def mask_lun(self, name: str, lun_id: int, groups: list[int]) -> None:
        """Show a LUN to these initiator groups only, or with none to all; a unit attention tells initiators."""
        node = self.node(name)
        node.device.mask(lun_id, tuple(groups))
        self.sessions.tell_event(node, 0, LunsChanged)

    def add_maps(self, name: str, maps: list[Tags]) -> None:
        node = self.node(name)
        node.add_maps(self._maps(node.name, maps))

    def remove_maps(self, name: str, maps: list[Tags]) -> None:
        node = self.node(name)
        node.remove_maps(self._maps(node.name, maps))

    def set_node_auth(self, name: str, auth: Auth) -> None:
        node = self.node(name)
        auth.check(f"target node {node.name}")
        node.auth = auth

    def set_redirect(self, name: str, tag: int, redirect: Redirect | None) -> None:
        """Where initiators that come through that portal group are to go instead; None: nowhere else."""
        self.node(name).set_redirect(self.portal_group(tag), redirect)

    def request_logout(self, name: str, tag: int | None = None) -> None:
        """Ask the node's initiators, those that came through one portal group or all, to log out.

        Who is still there after 30 seconds is dropped; nobody waits for that here.
        """
        node = self.node(name)
        sessions = [each for each in self.sessions.of_node(node) if tag is None or each.tag == tag]
        farewell = asyncio.get_running_loop().create_task(self.sessions.see_off(sessions, _LOGOUT_SECONDS))
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    def hot_remove(self, bdev: Bdev) -> None:
        """The bdev is about to go: its LUNs go too, and the initiators learn of it by a unit attention."""
        for node in self.nodes.values():
            for lun in list(node.device.luns.values()):
                if lun.bdev is bdev:
                    _log.warning("target node %s loses LUN %d: bdev %s is deleted", node.name, lun.id, bdev.name)
                    self.drop_lun(node, lun.id)

    def drop_lun(self, node: TargetNode, lun_id: int) -> None:
        """Initiators learn of it by a unit attention."""
        node.device.remove(lun_id)
        self.sessions.tell_event(node, 0, LunsChanged)
        if self.elsewhere is not None:
            self.elsewhere.touched(node)

    def capacity_changed(self, bdev: Bdev) -> None:
        for node in self.nodes.values():
            node.device.capacity_changed(bdev)
            for lun in node.device.luns.values():
                if lun.bdev is bdev:
                    self.sessions.tell_event(node, lun.id, CapacityChanged)

    def users_of(self, bdev: Bdev) -> list[str]:
        """Names of the target nodes that export the bdev."""
        return [node.name for node in self.nodes.values() if any(lun.bdev is bdev for lun in node.device.luns.values())]

    def _bdev_for_lun(self, name: str, lun_id: int, bdev_name: str) -> Bdev:
        try:
            return self._bdevs.get(bdev_name)
        except EngineError:
            missing = NotFound(
                f"target node {name}: LUN {lun_id} wants bdev {bdev_name}, which does not exist. {self._bdevs.known()}"
            )
            raise missing from None

    def _maps(self, name: str, tags: list[Tags]) -> list[Map]:
        try:
            return [Map(self.portal_group(pg_tag), self.initiator_group(ig_tag)) for pg_tag, ig_tag in tags]
        except NotFound as error:
            raise NotFound(f"target node {name}: {error}") from None

    # -- connections and sessions ------------------------------------------------------------------------------------

    def start_serving(self) -> None:
        """Let initiators in: the configuration is complete. Raises EngineError when a portal cannot listen."""
        self.serving = True
        failures = []
        for group in self.portal_groups.values() if self._has_portals else ():
            if not group.waiting:
                try:
                    group.listen(asyncio.get_running_loop(), self._accept)
                except EngineError as error:
                    failures.append(str(error))
        if failures:
            raise EngineError("; ".join(failures))

    def number_apart(self, step: int, first: int) -> None:
        """Be process number ``first`` of ``step``: sessions and connections get numbers that the others do not use."""
        self._number = self._connection_number = first
        self._connection_step = step
        self.sessions.use_every(step, first)

    def next_connection_number(self) -> int:
        self._connection_number += self._connection_step
        return self._connection_number

    def note_digests(self) -> None:
        """A login agreed on digests. What that costs is said once."""
        if not self._knows_slow_digests:
            self._knows_slow_digests = True
            _log.warning(
                "an initiator logged in with digests (CRC32C), which are computed in Python and slow the engine down."
                " Install the package crc32c, or google-crc32c with its C extension, for %s and restart the engine",
                sys.executable,
            )

    def reinstate(self, session: Session) -> None:
        """A new session of a nexus that has one ends the old one."""
        self.sessions.reinstate(session)

    def join(self, session: Session, cid: int) -> None:
        """Let one more connection, numbered ``cid``, into a session. Raises Busy when it has as many as agreed on."""
        self.sessions.join(session, cid)

    def connections(self) -> list[dict[str, Any]]:
        """As iscsi_get_connections gives them; initiator, portal group and counters are ours.

        ``commands`` are those of the session, which connections share.
        """
        everybody = sorted(self.sessions.connections, key=lambda each: each.number)
        return [connection_to_rpc(each, self._number) for each in everybody]

    async def shutdown(self, seconds: int = DEFAULT_DRAIN_SECONDS) -> None:
        """Stop accepting, ask everybody to log out, wait up to ``seconds``, drop those that are left."""
        loop = asyncio.get_running_loop()
        self.serving = False
        for group in self.portal_groups.values():
            group.close(loop)
        self.sessions.are_ending = True
        for reception in list(self.receptions):
            reception.close()
        await self.sessions.see_off(list(self.sessions), seconds)
        for connection in list(self.sessions.connections):
            connection.close()
        await asyncio.gather(*self._farewells, return_exceptions=True)

    def _accept(self, sock: socket.socket, portal: Portal) -> None:
        arrival = Arrival(sock, portal)
        if self.elsewhere is None:
            self.admit(arrival)
            return
        try:
            Reception(arrival, self, self.elsewhere)
        except OSError as error:
            _lost_at_once(arrival, error)

    def admit(self, arrival: Arrival) -> None:
        """Serve a connection from here on."""
        sock, portal, received, answered = arrival
        try:
            connection = Connection(sock, portal, self, self._shared, answered)
        except OSError as error:
            _lost_at_once(arrival, error)
            return
        self.sessions.connections.add(connection)
        if received:
            connection.feed(received)


def _lost_at_once(arrival: Arrival, error: OSError) -> None:
    """The peer was gone before its connection was set up."""
    _log.info("portal %s: connection lost at once: %s", arrival.portal, error.strerror)
    arrival.sock.close()


def _known(groups: dict[int, Any]) -> str:
    return f"Known tags: {', '.join(map(str, groups))}." if groups else "There are none."
