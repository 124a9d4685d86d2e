# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Portals and netmasks: addresses as people write them, and as the engine holds them."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

from .._engine.facts import DEFAULT_ISCSI_PORT, MAX_PORT

_WILDCARDS: Final = {"*": "0.0.0.0", "[*]": "[::]"}
WILDCARD_HOSTS: Final = frozenset(_WILDCARDS.values())
_PORTAL: Final = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]+)(?::(?P<port>\d+))?")
ANY: Final = "ANY"


class Portal(NamedTuple):
    """An address to listen on; IPv6 hosts carry their brackets, as SPDK reports them."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        return self.host in WILDCARD_HOSTS

    @property
    def is_ipv6(self) -> bool:
        return self.host.startswith("[")

    def overlaps(self, other: Portal) -> bool:
        """Whether the operating system lets only one of the two be bound."""
        if self.port != other.port or self.is_ipv6 != other.is_ipv6:
            return False
        return self.host == other.host or self.is_wildcard or other.is_wildcard


def canonical_host(host: str) -> str:
    """``host`` in the one spelling that is compared: brackets around IPv6, which is compressed.

    Raises ValueError if it is neither an address nor a wildcard.
    """
    if host in _WILDCARDS:
        return _WILDCARDS[host]
    bracketed = host.startswith("[") and host.endswith("]")
    address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    if bracketed and address.version == 4:
        raise ValueError(f"{host}: brackets are for IPv6 addresses")
    return f"[{address}]" if address.version == 6 else str(address)


def parse_portal(text: str) -> Portal:
    """``10.0.0.1:3260``, ``[::1]:3260``, ``*:3260`` or an address alone, which means port 3260.

    Raises ValueError with a sentence that names the text and how to write it.
    """
    text = text.strip()
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        pass
    else:
        raise ValueError(f"{text!r}: an IPv6 address needs brackets. Write [{text}]:{DEFAULT_ISCSI_PORT}.")
    match = _PORTAL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a portal. Write ADDRESS:PORT, such as 10.0.0.1:3260 or [fd00::1]:3260.")
    port = int(match["port"]) if match["port"] else DEFAULT_ISCSI_PORT
    if not 1 <= port <= MAX_PORT:
        raise ValueError(f"{text!r}: port {port} is not between 1 and {MAX_PORT}.")
    try:
        return Portal(canonical_host(match["host"]), port)
    except ValueError:
        raise ValueError(
            f"{text!r}: {match['host']} is not an IP address. Write one of the target host, or * for all of them."
        ) from None


def live_portal(host: str, port: str) -> Portal:
    """A portal as the engine reports it; another tool may have used a host name, which is kept as it is."""
    try:
        return Portal(canonical_host(host), int(port))
    except ValueError:
        return Portal(host, int(port))


def parse_netmask(text: str) -> str:
    """``ANY``, ``10.0.0.0/24``, ``10.0.0.7``, ``[fd00::]/8``, in the spelling that is compared.

    Raises ValueError with a sentence; an engine stores what it cannot match and then lets nobody in.
    """
    text = text.strip()
    if text.upper() in (ANY, "ALL"):
        return ANY
    address_text, slash, bits_text = text.partition("/")
    try:
        address = ipaddress.ip_address(address_text.strip("[]"))
    except ValueError:
        raise ValueError(f"{text!r} is not a netmask. Write ANY, 10.0.0.0/24, 10.0.0.7 or [fd00::]/64.") from None
    host = f"[{address}]" if address.version == 6 else str(address)
    if not slash:
        return host
    if not bits_text.isdecimal():
        raise ValueError(f"{text!r}: write the mask as a number of bits, such as {host}/24.")
    bits = int(bits_text)
    if bits > address.max_prefixlen:
        raise ValueError(
            f"{text!r}: the mask of an IPv{address.version} address has 0 to {address.max_prefixlen} bits."
        )
    return f"{host}/{bits}"


def is_every_address(netmask: str) -> bool:
    """Whether a netmask has no bits, which means all addresses of its family, but not to every engine."""
    return netmask.endswith("/0")


def known_netmask(text: str) -> str:
    """A netmask as the engine reports it; one that is no netmask stays what it is."""
    try:
        return parse_netmask(text)
    except ValueError:
        return text
