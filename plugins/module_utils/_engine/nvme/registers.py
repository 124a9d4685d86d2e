# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registers of a controller (NVMe Base Specification 2.0, §3.1.3 and §3.1.2 for PCIe)."""

from __future__ import annotations

from typing import Final

CAP: Final = 0x00
INTMS: Final = 0x0C
CC: Final = 0x14
CSTS: Final = 0x1C
AQA: Final = 0x24
ASQ: Final = 0x28
ACQ: Final = 0x30
DOORBELLS: Final = 0x1000

GONE: Final = 0xFFFFFFFF
"""What a register of a device that was pulled reads as."""

CC_ENABLE: Final = 1
CC_SHUTDOWN_MASK: Final = 3 << 14
CC_NORMAL_SHUTDOWN: Final = 1 << 14
CC_ENTRY_SIZES: Final = 6 << 16 | 4 << 20
"""Submission queue entries of 2^6 and completion queue entries of 2^4 bytes."""

CSTS_READY: Final = 1
CSTS_FATAL: Final = 2
CSTS_SHUTDOWN_MASK: Final = 3 << 2
CSTS_SHUTDOWN_DONE: Final = 2 << 2


class Registers:
    """Registers by their offset in bytes. ``words`` is the memory behind BAR 0, as 32-bit numbers.

    Reading or writing one item of such a view is one access of four bytes, which is what a device needs to see.
    """

    def __init__(self, words: memoryview) -> None:
        self.words = words

    def get(self, offset: int) -> int:
        value: int = self.words[offset >> 2]
        return value

    def set(self, offset: int, value: int) -> None:
        self.words[offset >> 2] = value

    def get64(self, offset: int) -> int:
        return self.get(offset) | self.get(offset + 4) << 32

    def set64(self, offset: int, value: int) -> None:
        self.set(offset, value & 0xFFFFFFFF)
        self.set(offset + 4, value >> 32)


class Capabilities:
    """What CAP tells, in units that are used."""

    def __init__(self, cap: int) -> None:
        self.queue_entries = (cap & 0xFFFF) + 1
        self.ready_seconds = (cap >> 24 & 0xFF) / 2
        """How long a change of CC.EN may take."""
        self.doorbell_stride = 4 << (cap >> 32 & 0xF)
        """Bytes."""
        self.smallest_page = 4096 << (cap >> 48 & 0xF)

    def doorbell(self, queue: int, completion: bool) -> int:
        """Where it is among the registers, as an index of 32-bit words."""
        return (DOORBELLS + (2 * queue + completion) * self.doorbell_stride) >> 2
