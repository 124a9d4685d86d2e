# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SCSI commands to a disk of the kernel's, past its block layer: they ask the target without changing anything.

So it can be known before a rescan whether one is needed. Source: sg(4), SG_IO of struct sg_io_hdr version 3.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from typing import Final

from .errors import InitiatorError, parse_sense
from .wire import NO_LUN

_SG_IO: Final = 0x2285
_INTERFACE: Final = ord("S")
_FROM_DEVICE: Final = -3
_NO_DATA: Final = -1
_CHECK_CONDITION: Final = 0x02
_SENSE_BYTES: Final = 64
_MILLISECONDS: Final = 10_000


class _Header(ctypes.Structure):
    _fields_ = [
        ("interface_id", ctypes.c_int),
        ("direction", ctypes.c_int),
        ("cdb_length", ctypes.c_ubyte),
        ("sense_size", ctypes.c_ubyte),
        ("iovec_count", ctypes.c_ushort),
        ("length", ctypes.c_uint),
        ("data", ctypes.c_void_p),
        ("cdb", ctypes.c_void_p),
        ("sense", ctypes.c_void_p),
        ("timeout", ctypes.c_uint),
        ("flags", ctypes.c_uint),
        ("pack_id", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("status", ctypes.c_ubyte),
        ("masked_status", ctypes.c_ubyte),
        ("message_status", ctypes.c_ubyte),
        ("sense_length", ctypes.c_ubyte),
        ("host_status", ctypes.c_ushort),
        ("driver_status", ctypes.c_ushort),
        ("residual", ctypes.c_int),
        ("duration", ctypes.c_uint),
        ("info", ctypes.c_uint),
    ]


class Passthrough:
    """A disk such as /dev/sda, opened for reading. Use it as a context manager."""

    def __init__(self, path: str) -> None:
        """Raises InitiatorError."""
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise InitiatorError(f"{path}: {error.strerror or error}.") from error

    def __enter__(self) -> Passthrough:
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._descriptor)

    def command(self, what: str, cdb: bytes, *, lun: bytes = NO_LUN, reads: int = 0, data: bytes = b"") -> bytes:
        """Run a command that reads at most ``reads`` bytes. ``lun`` is ignored: the disk is one.

        Raises CheckCondition for a refusal with sense data and InitiatorError for everything else.
        """
        del lun
        if data:
            raise InitiatorError(f"{self._path}: {what}: nothing is written to a disk of the kernel's.")
        answer = ctypes.create_string_buffer(max(reads, 1))
        sense = ctypes.create_string_buffer(_SENSE_BYTES)
        request = ctypes.create_string_buffer(cdb, len(cdb))
        header = _Header(
            interface_id=_INTERFACE,
            direction=_FROM_DEVICE if reads else _NO_DATA,
            cdb_length=len(cdb),
            sense_size=_SENSE_BYTES,
            length=reads,
            data=ctypes.addressof(answer),
            cdb=ctypes.addressof(request),
            sense=ctypes.addressof(sense),
            timeout=_MILLISECONDS,
        )
        try:
            fcntl.ioctl(self._descriptor, _SG_IO, header)
        except OSError as error:
            raise InitiatorError(f"{self._path}: {what}: {error.strerror or error}.") from error
        if header.status == _CHECK_CONDITION and header.sense_length > 13:
            raise parse_sense(f"{self._path}: {what}", sense.raw)
        if header.status or header.host_status:
            told = f"SCSI status {header.status:#04x}, host status {header.host_status:#04x}"
            raise InitiatorError(f"{self._path}: {what}: {told}. Is its session up?")
        return answer.raw[: reads - max(header.residual, 0)]
