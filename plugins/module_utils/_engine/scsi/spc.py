# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Primary commands (SPC-4): who is there, what is it, is it ready."""

from __future__ import annotations

import struct
from typing import Final

from .. import __version__
from ..bdev.base import Buffer
from . import vpd
from .device import Task
from .sense import (
    DeviceMissing,
    InvalidFieldInCdb,
    LogicalUnitNotSupported,
    LunsChanged,
    MediumNotPresent,
    NoSense,
    ScsiError,
)
from .unit import VENDOR

_DISK: Final = 0x00
_NO_UNIT: Final = 0x7F  # peripheral qualifier 3: no logical unit can be here
_SPC4: Final = 0x06
_VERSION_DESCRIPTORS: Final = (0x00A0, 0x0460, 0x04C0, 0x0960)  # SAM-5, SPC-4, SBC-3, iSCSI
_TPGS: Final = 0x30  # access states are set by the target and by SET TARGET PORT GROUPS
_THIRD_PARTY_COPY: Final = 0x08
_STANDARD = struct.Struct(">BBBBBBBB8s16s4s22x8H22x")


def unit_ready(task: Task) -> None:
    """TEST UNIT READY: dispatch has found the unit and told its unit attentions."""
    if task.unit.bdev.missing:
        raise DeviceMissing()


def inquiry(task: Task) -> Buffer:
    """INQUIRY, standard data or a vital product data page; also answers where there is no logical unit."""
    evpd, code = task.cdb[1] & 0x01, task.cdb[2]
    if task.cdb[1] & 0x02:
        raise InvalidFieldInCdb(byte=1, bit=1)  # CMDDT is obsolete
    allocation = int.from_bytes(task.cdb[3:5], "big")
    peripheral = _DISK if task.lun else _NO_UNIT
    if evpd:
        if task.lun is None:
            raise LogicalUnitNotSupported()
        return vpd.page(task, code, peripheral)[:allocation]
    if code:
        raise InvalidFieldInCdb(byte=2)
    product = f"{task.lun.bdev.product_name if task.lun else '':<16.16}".encode()
    revision = f"{__version__:<4.4}".encode()
    versions = _VERSION_DESCRIPTORS + (0,) * (8 - len(_VERSION_DESCRIPTORS))
    hisup_format, cmdque = 0x12, 0x02
    removable = 0x80 if task.lun and task.lun.options.removable else 0
    data = _STANDARD.pack(
        *(peripheral, removable, _SPC4, hisup_format, _STANDARD.size - 5, _TPGS | _THIRD_PARTY_COPY, 0, cmdque),
        *(VENDOR, product, revision, *versions),
    )
    return data[:allocation]


def report_luns(task: Task) -> Buffer:
    """REPORT LUNS: every LUN that the nexus sees; there are no well-known logical units. It tells what has changed."""
    select = task.cdb[2]
    if select not in (0x00, 0x01, 0x02):
        raise InvalidFieldInCdb(byte=2)
    allocation = int.from_bytes(task.cdb[6:10], "big")
    if task.nexus.attentions:
        task.nexus.forget(LunsChanged)
    luns = [] if select == 0x01 else sorted(filter(task.nexus.sees, task.nexus.device.luns))
    return (struct.pack(">L4x", 8 * len(luns)) + b"".join(struct.pack(">H6x", each) for each in luns))[:allocation]


def request_sense(task: Task) -> Buffer:
    """REQUEST SENSE: the next unit attention, or what the unit is busy with, as data."""
    descriptors, allocation = bool(task.cdb[1] & 0x01), task.cdb[4]
    return _pending(task).sense(descriptors)[:allocation]


def _pending(task: Task) -> ScsiError:
    if task.lun is None:
        return LogicalUnitNotSupported()
    attention = task.nexus.next_attention(task.lun.id)
    if attention is not None:
        return attention
    state = task.lun.state
    if state.erasure is not None:
        return state.erasure.refusal()
    return NoSense() if state.loaded else MediumNotPresent()
