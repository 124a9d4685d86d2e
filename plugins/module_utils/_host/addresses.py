# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The IP addresses of this host, from the kernel (rtnetlink(7))."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_RTM_GETADDR = 22
_RTM_NEWADDR = 20
_NLMSG_DONE = 3
_NLMSG_ERROR = 2
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_HEADER = struct.Struct("=LHHLL")  # length, type, flags, sequence, port
_IFADDRMSG = struct.Struct("=BBBBL")  # family, prefix length, flags, scope, interface
_ATTRIBUTE = struct.Struct("=HH")  # length, type


class HostAddress(NamedTuple):
    """An address and the interface that has it."""

    address: str
    interface: str

    def __str__(self) -> str:
        return f"{self.address} ({self.interface})"


def host_addresses() -> list[HostAddress]:
    """All addresses, IPv4 first. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        body = _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        netlink.send(_HEADER.pack(_HEADER.size + len(body), _RTM_GETADDR, _REQUEST_DUMP, 1, 0) + body)
        found = list(_answers(netlink))
    return sorted(found, key=lambda each: (":" in each.address, each.interface, each.address))


def is_local(address: str) -> bool:
    """Whether a socket can be bound to the address; wildcards always can."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _answers(netlink: socket.socket) -> Iterator[HostAddress]:
    while True:
        datagram = netlink.recv(65536)
        offset = 0
        while offset < len(datagram):
            length, kind, _flags, _sequence, _port = _HEADER.unpack_from(datagram, offset)
            if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                return
            if kind == _RTM_NEWADDR:
                yield from _address(datagram[offset + _HEADER.size : offset + length])
            offset += length + -length % 4


def _address(message: bytes) -> Iterator[HostAddress]:
    _family, _prefix, _flags, _scope, index = _IFADDRMSG.unpack_from(message)
    attributes = {}
    offset = _IFADDRMSG.size
    while offset + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        attributes[kind] = message[offset + _ATTRIBUTE.size : offset + length]
        offset += length + -length % 4
    packed = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS))  # of a point-to-point link, our end
    if packed is not None:
        yield HostAddress(str(ipaddress.ip_address(packed)), _interface(index))


def _interface(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"interface {index}"  # it went away in the meantime
