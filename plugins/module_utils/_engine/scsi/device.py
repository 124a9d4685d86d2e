# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SCSI devices, logical units, I_T nexuses and tasks (SAM-5)."""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from typing import Final

from ..bdev.base import Bdev, Buffer
from ..errors import Exists, Invalid
from ..facts import MAX_LUN_ID
from .sense import CHECK_CONDITION, GOOD, CapacityChanged, LunsChanged, ScsiError

_FLAT: Final = 0x4000 << 48  # SAM-5 §4.7.4: flat space addressing in the first two bytes of the LUN field
_MAX_ATTENTIONS: Final = 16


class LogicalUnit:
    """A LUN of a device: a bdev with the identity that initiators see."""

    def __init__(self, lun_id: int, bdev: Bdev) -> None:
        self.id = lun_id
        self.bdev = bdev

    @property
    def readonly(self) -> bool:
        return self.bdev.readonly

    @property
    def serial(self) -> str:
        """32 hexadecimal digits: the bdev's UUID, so the same behind every target and after every restart."""
        return self.bdev.uuid.replace("-", "")

    @property
    def naa(self) -> bytes:
        """Eight bytes, NAA locally assigned (SPC-4 §7.8.6.6.4): 3h and 60 bits of the UUID's digest."""
        digest = hashlib.sha256(self.bdev.uuid.encode()).digest()
        return struct.pack(">Q", 0x3 << 60 | int.from_bytes(digest[:8], "big") >> 4)


class Device:
    """A SCSI target device: the LUNs of one target node, and the nexuses that use them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.luns: dict[int, LogicalUnit] = {}
        self.by_field: dict[int, LogicalUnit] = {}
        """Logical units by the eight bytes of a LUN field as a number, in either addressing method."""
        self.nexuses: list[Nexus] = []

    def free_lun_id(self) -> int:
        for lun_id in range(MAX_LUN_ID + 1):
            if lun_id not in self.luns:
                return lun_id
        raise Invalid(f"target node {self.name}: all {MAX_LUN_ID + 1} LUNs are taken")

    def add(self, lun_id: int, bdev: Bdev) -> LogicalUnit:
        """Raises Exists when the LUN id is taken, Invalid when it is out of range."""
        if not 0 <= lun_id <= MAX_LUN_ID:
            raise Invalid(f"target node {self.name}: LUN {lun_id} is not in 0..{MAX_LUN_ID}")
        if lun_id in self.luns:
            taken = self.luns[lun_id].bdev.name
            raise Exists(f"target node {self.name}: LUN {lun_id} is taken by bdev {taken}")
        lun = LogicalUnit(lun_id, bdev)
        self.luns[lun_id] = lun
        self.by_field[lun_id << 48] = lun
        self.by_field[_FLAT | lun_id << 48] = lun
        self._tell_all(LunsChanged)
        return lun

    def remove(self, lun_id: int) -> None:
        del self.luns[lun_id]
        del self.by_field[lun_id << 48]
        del self.by_field[_FLAT | lun_id << 48]
        self._tell_all(LunsChanged)

    def capacity_changed(self, bdev: Bdev) -> None:
        for lun in self.luns.values():
            if lun.bdev is bdev:
                for nexus in self.nexuses:
                    nexus.attend(lun.id, CapacityChanged)

    def _tell_all(self, attention: type[ScsiError]) -> None:
        for nexus in self.nexuses:
            for lun_id in self.luns:
                nexus.attend(lun_id, attention)


class Nexus:
    """An I_T nexus: one initiator port and one target port, with the unit attentions that wait for it."""

    __slots__ = ("attentions", "device", "initiator_port", "relative_port", "target_port")

    def __init__(self, device: Device, initiator_port: str, target_port: str, relative_port: int) -> None:
        self.device = device
        self.initiator_port = initiator_port
        self.target_port = target_port
        self.relative_port = relative_port
        """Relative target port identifier: the portal group's tag."""
        self.attentions: dict[int, deque[type[ScsiError]]] = {}

    def attend(self, lun_id: int, attention: type[ScsiError]) -> None:
        waiting = self.attentions.setdefault(lun_id, deque(maxlen=_MAX_ATTENTIONS))
        if attention not in waiting:
            waiting.append(attention)

    def lost(self) -> None:
        """I_T nexus loss (SAM-5 §6.3.4): what the logical units keep for this nexus alone is gone."""
        self.attentions.clear()

    def next_attention(self, lun_id: int) -> ScsiError | None:
        """Take the oldest unit attention of the LUN, if there is one."""
        waiting = self.attentions.get(lun_id)
        if not waiting:
            return None
        attention = waiting.popleft()
        if not waiting:
            del self.attentions[lun_id]
        return attention()


class Task:
    """A SCSI command on its way: what it asks, the data it brought, and what became of it.

    The defaults are the class's, so that making one, which happens for every command, sets only what differs.
    """

    data_out: Buffer = b""
    borrowed: bool = False
    """``data_out`` is in a buffer that its owner will reuse as soon as the handler returns."""
    offset: int = 0
    """Where a prepared WRITE begins, in bytes."""
    data_in: Buffer | None = None
    status: int = GOOD
    sense: bytes = b""
    unit: LogicalUnit
    """``lun``, for handlers of commands that are only dispatched when there is one."""

    def __init__(self, nexus: Nexus, lun: LogicalUnit | None, cdb: bytes) -> None:
        self.nexus = nexus
        self.lun = lun
        if lun is not None:
            self.unit = lun
        self.cdb = cdb

    def own_data_out(self) -> Buffer:
        """The data that came with the command, safe to keep."""
        if self.borrowed:
            self.data_out = bytes(self.data_out)
            self.borrowed = False
        return self.data_out

    def fail(self, error: ScsiError) -> None:
        self.status = CHECK_CONDITION
        self.sense = error.sense()
        self.data_in = None
