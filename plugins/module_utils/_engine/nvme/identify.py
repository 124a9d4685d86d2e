# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Identify tells (NVMe Base 2.0, §5.17; NVM Command Set 1.0, §4.1.5)."""

from __future__ import annotations

import struct
import uuid as uuid_module
from typing import Final, NamedTuple

BYTES: Final = 4096

NAMESPACE, CONTROLLER, ACTIVE_NAMESPACES, DESCRIPTORS = 0x00, 0x01, 0x02, 0x03
"""Values of CNS."""

_ONCS_COMPARE, _ONCS_UNMAP, _ONCS_WRITE_ZEROES = 1 << 0, 1 << 2, 1 << 3
_EUI64, _NGUID, _UUID = 1, 2, 3
_FAMILY: Final = uuid_module.UUID("6f1c3f0e-5d5a-4b0e-9d38-6a3c5b1f7e21")
"""Where UUIDs of namespaces that have none of their own come from."""


class ControllerInfo(NamedTuple):
    """The controller's own data. ``transfer_bytes`` is the most a command moves, 0 for no limit."""

    vendor_id: int
    serial: str
    model: str
    firmware: str
    controller_id: int
    transfer_bytes: int
    write_cache: bool
    compares: bool
    unmaps: bool
    writes_zeroes: bool
    version: int
    subsystem: str

    @classmethod
    def parse(cls, data: memoryview, smallest_page: int) -> ControllerInfo:
        oncs: int = struct.unpack_from("<H", data, 520)[0]
        return cls(
            vendor_id=struct.unpack_from("<H", data, 0)[0],
            serial=_text(data[4:24]),
            model=_text(data[24:64]),
            firmware=_text(data[64:72]),
            controller_id=struct.unpack_from("<H", data, 78)[0],
            transfer_bytes=smallest_page << data[77] if data[77] else 0,
            write_cache=bool(data[525] & 1),
            compares=bool(oncs & _ONCS_COMPARE),
            unmaps=bool(oncs & _ONCS_UNMAP),
            writes_zeroes=bool(oncs & _ONCS_WRITE_ZEROES),
            version=struct.unpack_from("<I", data, 80)[0],
            subsystem=_text(data[768:1024]),
        )

    @property
    def nvme_version(self) -> str:
        major, minor, tertiary = self.version >> 16, self.version >> 8 & 0xFF, self.version & 0xFF
        return f"{major}.{minor}" + (f".{tertiary}" if tertiary else "")


class NamespaceInfo(NamedTuple):
    """A namespace: blocks, and how it calls itself. ``metadata`` is bytes a block beside its data."""

    nsid: int
    num_blocks: int
    block_size: int
    metadata: int
    shared: bool
    uuid: str

    @classmethod
    def parse(cls, nsid: int, data: memoryview, descriptors: memoryview, controller: ControllerInfo) -> NamespaceInfo:
        blocks: int = struct.unpack_from("<Q", data, 0)[0]
        flbas = data[26]
        format_index = flbas & 0xF | (flbas >> 5 & 3) << 4
        metadata, data_shift = struct.unpack_from("<HB", data, 128 + 4 * format_index)
        return cls(
            nsid=nsid,
            num_blocks=blocks,
            block_size=1 << data_shift,
            metadata=metadata,
            shared=bool(data[30] & 1),
            uuid=_uuid(nsid, data, descriptors, controller),
        )


def _uuid(nsid: int, data: memoryview, descriptors: memoryview, controller: ControllerInfo) -> str:
    """The same for the same namespace always: initiators know the LUN by it."""
    told = _descriptors(descriptors)
    nguid = told.get(_NGUID) or bytes(data[104:120])
    eui64 = told.get(_EUI64) or bytes(data[120:128])
    if any(told.get(_UUID, b"")):
        return str(uuid_module.UUID(bytes=told[_UUID]))
    if any(nguid):
        return str(uuid_module.UUID(bytes=nguid))
    if any(eui64):
        return str(uuid_module.uuid5(_FAMILY, f"eui.{eui64.hex()}"))
    return str(uuid_module.uuid5(_FAMILY, f"{controller.vendor_id:04x}/{controller.serial}/{controller.model}/{nsid}"))


def _descriptors(data: memoryview) -> dict[int, bytes]:
    """The list of namespace identification descriptors, by type."""
    found = {}
    at = 0
    while at + 4 <= len(data) and data[at + 1]:
        kind, length = data[at], data[at + 1]
        found[kind] = bytes(data[at + 4 : at + 4 + length])
        at += 4 + length
    lengths = {_EUI64: 8, _NGUID: 16, _UUID: 16}
    return {kind: value for kind, value in found.items() if len(value) == lengths.get(kind)}


def active(data: memoryview) -> list[int]:
    """The identifiers in a list of active namespaces."""
    return [nsid for (nsid,) in struct.iter_unpack("<I", data) if nsid]


def _text(data: memoryview) -> str:
    """ASCII, padded with blanks or NUL."""
    return bytes(data).split(b"\0", 1)[0].decode("ascii", "replace").strip()
