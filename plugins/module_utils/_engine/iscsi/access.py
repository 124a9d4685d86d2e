# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Initiator groups: who may log in, by name and by address (SPDK's iscsi_create_initiator_group)."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final, Union

from ..errors import Exists, Invalid, NotFound
from .names import comparable

Network = Union[IPv4Network, IPv6Network]

_ANY: Final = "ANY"


class InitiatorGroup:
    """Initiator names (``ANY``, a name, ``!`` in front denies) and netmasks, both in order."""

    def __init__(self, tag: int, initiators: Iterable[str], netmasks: Iterable[str]) -> None:
        self.tag = tag
        self.initiators: list[str] = []
        self.netmasks: list[str] = []
        self.add(initiators, netmasks)

    def add(self, initiators: Iterable[str], netmasks: Iterable[str]) -> None:
        """All or nothing. Raises Exists for one that is there."""
        names = self._merged("initiator", self.initiators, [_all_is_any(each) for each in initiators])
        masks = self._merged("netmask", self.netmasks, [_all_is_any(each) for each in netmasks])
        self._set(names, masks)

    def remove(self, initiators: Iterable[str], netmasks: Iterable[str]) -> None:
        """All or nothing. Raises NotFound for one that is not there."""
        names = self._without("initiator", self.initiators, [_all_is_any(each) for each in initiators])
        masks = self._without("netmask", self.netmasks, [_all_is_any(each) for each in netmasks])
        self._set(names, masks)

    def verdict(self, name: str, address: str) -> bool | None:
        """True admits, False denies at once, None leaves it to the next group."""
        wanted = comparable(name)
        for pattern in self.initiators:
            denies = pattern.startswith("!")
            listed = pattern[1:] if denies else pattern
            if listed == _ANY or comparable(listed) == wanted:
                if denies:
                    return False
                return True if self._admits_address(address) else None
        return None

    def _admits_address(self, address: str) -> bool:
        host = ip_address(address)
        return any(net is None or (host.version == net.version and host in net) for net in self._networks)

    def _set(self, initiators: list[str], netmasks: list[str]) -> None:
        self.initiators = initiators
        self.netmasks = netmasks
        self._networks = [network for known, network in map(_parse_netmask, netmasks) if known]

    def _merged(self, what: str, present: list[str], more: list[str]) -> list[str]:
        merged = list(present)
        for each in more:
            if each in merged:
                raise Exists(f"initiator group {self.tag}: {what} {each} is in it already")
            merged.append(each)
        return merged

    def _without(self, what: str, present: list[str], fewer: list[str]) -> list[str]:
        left = list(present)
        for each in fewer:
            if each not in left:
                raise NotFound(f"initiator group {self.tag}: no {what} {each} in it")
            left.remove(each)
        return left

    def to_rpc(self) -> dict[str, Any]:
        return {"tag": self.tag, "initiators": self.initiators, "netmasks": self.netmasks}

    def config(self) -> tuple[str, dict[str, Any]]:
        return "iscsi_create_initiator_group", self.to_rpc()


def _all_is_any(word: str) -> str:
    if not word:
        raise Invalid("an empty initiator name or netmask")
    return {"ALL": _ANY, "!ALL": f"!{_ANY}"}.get(word, word)


def _parse_netmask(text: str) -> tuple[bool, Network | None]:
    """(usable, network): ``ANY`` is usable with no network. What is no prefix notation never matches, as in SPDK.

    SPDK also never matches ``0.0.0.0/0``; here it is what everybody means by it.
    """
    if text == _ANY:
        return True, None
    address, slash, bits = text.partition("/")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if slash and not bits.isdigit():
        return False, None
    try:
        return True, ip_network(f"{address}/{bits}" if slash else address, strict=False)
    except ValueError:
        return False, None
