# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory from the NUMA node where a device is: it goes through no link between processors."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Any, Final

_GET_POLICY, _SET_POLICY = 239, 238  # system calls of x86-64
_PREFERRED: Final = 1
_NODES: Final = 1024
_Mask = ctypes.c_ulong * (_NODES // 64)


@contextlib.contextmanager
def near(node: int) -> Iterator[None]:
    """This thread's new memory comes from ``node`` if that has any left; -1 is no wish. It is never an error."""
    libc: Any = ctypes.CDLL(None)
    mode, before, wanted = ctypes.c_int(), _Mask(), _Mask()
    if not 0 <= node < _NODES or libc.syscall(_GET_POLICY, ctypes.byref(mode), before, _NODES, None, 0):
        yield
        return
    wanted[node // 64] = 1 << node % 64
    libc.syscall(_SET_POLICY, _PREFERRED, wanted, _NODES)
    try:
        yield
    finally:
        libc.syscall(_SET_POLICY, mode, before, _NODES)
