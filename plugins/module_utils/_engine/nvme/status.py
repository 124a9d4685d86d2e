# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a command ended: the status field of a completion (NVMe Base Specification 2.0, §3.3.3.2.1)."""

from __future__ import annotations

import errno
from typing import Final

_CODE: Final = 0x7FF
_DO_NOT_RETRY: Final = 1 << 14

_GENERIC, _SPECIFIC, _MEDIA = 0x000, 0x100, 0x200  # status code types

_MEANINGS: Final = {
    _GENERIC | 0x01: (errno.EOPNOTSUPP, "invalid opcode"),
    _GENERIC | 0x02: (errno.EINVAL, "invalid field in command"),
    _GENERIC | 0x04: (errno.EIO, "data transfer error"),
    _GENERIC | 0x05: (errno.EIO, "aborted by a loss of power"),
    _GENERIC | 0x06: (errno.EIO, "internal error of the controller"),
    _GENERIC | 0x07: (errno.EIO, "aborted"),
    _GENERIC | 0x08: (errno.EIO, "aborted with its queue"),
    _GENERIC | 0x0B: (errno.EINVAL, "invalid namespace or format"),
    _GENERIC | 0x15: (errno.EACCES, "operation denied"),
    _GENERIC | 0x1C: (errno.EIO, "the sanitize operation failed"),
    _GENERIC | 0x1D: (errno.EBUSY, "a sanitize operation is under way"),
    _GENERIC | 0x20: (errno.EROFS, "the namespace is write protected"),
    _GENERIC | 0x80: (errno.EINVAL, "LBA out of range"),
    _GENERIC | 0x81: (errno.ENOSPC, "capacity exceeded"),
    _GENERIC | 0x82: (errno.EIO, "the namespace is not ready"),
    _GENERIC | 0x83: (errno.EACCES, "reservation conflict"),
    _GENERIC | 0x84: (errno.EIO, "a format is under way"),
    _SPECIFIC | 0x82: (errno.EROFS, "the range is read-only"),
    _MEDIA | 0x80: (errno.EIO, "write fault"),
    _MEDIA | 0x81: (errno.EIO, "unrecovered read error"),
    _MEDIA | 0x85: (errno.EILSEQ, "compare failure"),
    _MEDIA | 0x86: (errno.EACCES, "access denied"),
    _MEDIA | 0x87: (errno.EIO, "deallocated or unwritten block"),
}
_PASSING: Final = frozenset(_GENERIC | code for code in (0x04, 0x05, 0x06, 0x07, 0x08, 0x82, 0x84))
"""What may be gone when the command is tried again."""


def may_pass(status: int) -> bool:
    """Is it worth while to try the command again?"""
    return not status & _DO_NOT_RETRY and status & _CODE in _PASSING


def error(status: int, what: str) -> OSError:
    """The status of a command that failed, ``what`` names it."""
    number, words = _MEANINGS.get(status & _CODE, (errno.EIO, "command failed"))
    return OSError(number, f"{what}: {words} (status type {status >> 8 & 7}, code {status & 0xFF:02x}h)")
