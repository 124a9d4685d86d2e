# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vital product data pages of INQUIRY (SPC-4 §7.8, SBC-4 §6.6)."""

from __future__ import annotations

import struct
from typing import Callable, Final

from . import compare, copy, provisioning
from .device import Task, target_port
from .sbc import transfer_limits
from .sense import InvalidFieldInCdb
from .unit import LogicalUnit

_BINARY, _ASCII, _UTF8 = 1, 2, 3
_LOGICAL_UNIT, _TARGET_PORT, _TARGET_DEVICE = 0, 1, 2
_T10, _NAA, _RELATIVE_PORT, _PORT_GROUP, _NAME_STRING = 1, 3, 4, 5, 8
_ISCSI: Final = 0x5


def _supported(_task: Task, _lun: LogicalUnit) -> bytes:
    return bytes(sorted(PAGES))


def _unit_serial_number(_task: Task, lun: LogicalUnit) -> bytes:
    return lun.serial.encode()


def _device_identification(task: Task, lun: LogicalUnit) -> bytes:
    nexus = task.nexus
    return b"".join(
        [
            _designator(_LOGICAL_UNIT, _BINARY, _NAA, lun.naa),
            _designator(_LOGICAL_UNIT, _ASCII, _T10, lun.t10_id),
            _designator(_TARGET_PORT, _UTF8, _NAME_STRING, _name_string(nexus.target_port)),
            _designator(_TARGET_PORT, _BINARY, _RELATIVE_PORT, struct.pack(">xxH", nexus.relative_port)),
            _designator(_TARGET_PORT, _BINARY, _PORT_GROUP, struct.pack(">xxH", nexus.relative_port)),
            _designator(_TARGET_DEVICE, _UTF8, _NAME_STRING, _name_string(nexus.device.name)),
        ]
    )


def _designator(association: int, code_set: int, kind: int, value: bytes) -> bytes:
    protocol = _ISCSI << 4 if association else 0
    valid = 0x80 if association else 0
    return struct.pack("BBxB", protocol | code_set, valid | association << 4 | kind, len(value)) + value


def _name_string(name: str) -> bytes:
    """NUL-terminated and padded to four bytes (SPC-4 §7.8.6.11)."""
    text = name.encode()
    return text + b"\0" * (4 - len(text) % 4)


def _management_addresses(_task: Task, _lun: LogicalUnit) -> bytes:
    return b""


def _extended_inquiry(_task: Task, _lun: LogicalUnit) -> bytes:
    """SIMPLE, ORDERED and HEAD OF QUEUE tags; a volatile cache; UA when somebody else resets (SPC-4 §7.8.7)."""
    tags, volatile_cache, luiclr = 0x07, 0x01, 0x01
    return struct.pack("BBBB56x", 0, tags, volatile_cache, luiclr)


def _mode_page_policy(_task: Task, _lun: LogicalUnit) -> bytes:
    """All mode pages are shared by all nexuses and, behind several targets, by all of them (MLUS)."""
    return struct.pack("BBBx", 0x3F, 0xFF, 0x80)


def _scsi_ports(task: Task, _lun: LogicalUnit) -> bytes:
    device = task.nexus.device
    found = []
    for tag in device.ports or (task.nexus.relative_port,):
        port = _designator(_TARGET_PORT, _UTF8, _NAME_STRING, _name_string(target_port(device.name, tag)))
        found.append(struct.pack(">xxHxxHxxH", tag, 0, len(port)) + port)
    return b"".join(found)


def _third_party_copy(_task: Task, _lun: LogicalUnit) -> bytes:
    """The supported commands descriptor (SPC-4 §7.8.17.4)."""
    commands = b"".join(bytes((opcode, len(actions), *actions)) for opcode, actions in copy.COMMANDS_SUPPORTED)
    body = bytes((len(commands),)) + commands
    body += b"\0" * (-len(body) % 4)
    return struct.pack(">HH", 0x0001, len(body)) + body


def _block_limits(_task: Task, lun: LogicalUnit) -> bytes:
    """SBC-4 §6.6.4."""
    bdev = lun.bdev
    maximum, optimal = transfer_limits(lun)
    granularity = max(bdev.physical_block_size, 4096) // bdev.block_size
    unmap = (provisioning.MAX_UNMAP_BLOCKS, provisioning.MAX_UNMAP_DESCRIPTORS) if bdev.unmaps else (0, 0)
    unmap_granularity = granularity if bdev.unmaps else 0
    atomic = compare.atomic_blocks(bdev)
    atomic_granularity = compare.atomic_granularity(bdev) if atomic else 0
    return struct.pack(
        ">BBHLLLLLLLQ5L",
        *(0, compare.MAX_COMPARE_BLOCKS, granularity, maximum, optimal, 0),
        *(*unmap, unmap_granularity, 0x80000000 if bdev.unmaps else 0, provisioning.MAX_SAME_BLOCKS),
        *(atomic, atomic_granularity, atomic_granularity, 0, 0),
    )


def _block_device_characteristics(_task: Task, lun: LogicalUnit) -> bytes:
    """No rotation; whatever SANITIZE has erased can be read: WABEREQ and WACEREQ are 01b (SBC-4 §6.6.2)."""
    non_rotating, readable = 0x0001, 0x50 if lun.bdev.unmaps and lun.bdev.unmaps_to_zeroes else 0
    return struct.pack(">HBB56x", non_rotating, 0, readable)


def _provisioning(_task: Task, lun: LogicalUnit) -> bytes:
    """UNMAP and WRITE SAME(10) and (16) unmap (SBC-4 §6.6.6)."""
    if not lun.bdev.unmaps:
        return bytes(4)
    return struct.pack("BBBx", 0, 0xE4 if lun.bdev.unmaps_to_zeroes else 0xE0, 0x02)


PAGES: Final[dict[int, Callable[[Task, LogicalUnit], bytes]]] = {
    0x00: _supported,
    0x80: _unit_serial_number,
    0x83: _device_identification,
    0x85: _management_addresses,
    0x86: _extended_inquiry,
    0x87: _mode_page_policy,
    0x88: _scsi_ports,
    0x8F: _third_party_copy,
    0xB0: _block_limits,
    0xB1: _block_device_characteristics,
    0xB2: _provisioning,
}


def page(task: Task, code: int, peripheral: int) -> bytes:
    """The page with its header. Raises InvalidFieldInCdb for a page there is not."""
    builder = PAGES.get(code)
    if builder is None:
        raise InvalidFieldInCdb(byte=2)
    body = builder(task, task.unit)
    return struct.pack(">BBH", peripheral, code, len(body)) + body
