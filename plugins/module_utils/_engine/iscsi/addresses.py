# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network addresses of this host, for portals."""

from __future__ import annotations

import fcntl
import socket
import struct
from ipaddress import IPv6Address, ip_address
from typing import Final

from ..errors import Invalid
from ..facts import MAX_PORT

_SIOCGIFADDR: Final = 0x8915
_WILDCARDS: Final = {"*": "0.0.0.0", "[*]": "::"}


def listening_address(host: str) -> str:
    """A portal's host as a plain address: ``*`` and ``[*]`` are wildcards, IPv6 may be in brackets. Raises Invalid."""
    return _WILDCARDS.get(host) or numeric_address(host, f"portal {host}")


def numeric_address(host: str, what: str) -> str:
    """``host`` without the brackets that IPv6 may have. Raises Invalid for what is no IP address."""
    plain = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        ip_address(plain)
    except ValueError:
        raise Invalid(f"{what}: not an IP address") from None
    return plain


def port_number(port: str, what: str) -> int:
    """Raises Invalid."""
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= MAX_PORT):
        raise Invalid(f"{what}: the port is a number from 1 to {MAX_PORT}")
    return int(port)


def bracketed(address: str) -> str:
    """As RFC 7143 §13.8 writes addresses: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def plain_peer(sockaddr: tuple[str, ...]) -> str:
    """The address of a socket name; IPv4 mapped into IPv6 becomes IPv4 again."""
    host = str(sockaddr[0]).partition("%")[0]
    if ":" in host:
        mapped = IPv6Address(host).ipv4_mapped
        if mapped is not None:
            return str(mapped)
    return host


def host_addresses() -> str:
    """The addresses this host has, as a sentence for error messages."""
    found = [f"{address} ({name})" for name, address in _ipv4() + _ipv6()]
    return f"It has {', '.join(found)}." if found else "It has none that could be found."


def _ipv4() -> list[tuple[str, str]]:
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _index, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue
            found.append((name, socket.inet_ntoa(answer[20:24])))
    return found


def _ipv6() -> list[tuple[str, str]]:
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as table:
            rows = [line.split() for line in table]
    except OSError:
        return []
    return [(row[5], str(IPv6Address(bytes.fromhex(row[0])))) for row in rows]
