# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target on the machine of the tests, as an initiator on this host sees it."""

from __future__ import annotations

import struct
import time
from typing import Final

from pdu import cdb
from pdu.initiator import Closed, Initiator, LoginRefused

from .machine import Machine

NAME: Final = "target"
NODE: Final = "iqn.2016-06.io.spdk:disk0"
SECONDS: Final = 300
"""Emulation is slow; what takes longer than this has failed."""


def login() -> Initiator:
    """A session, as soon as the target is there."""
    address, port = Machine(NAME).portal.split(":")
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return Initiator((address, int(port))).login(NODE)
        except (OSError, Closed, LoginRefused):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def geometry(session: Initiator, lun: int) -> tuple[int, int]:
    """Number of blocks, and bytes in each."""
    while True:
        outcome = session.read(cdb.read_capacity_10(), 8, lun=lun)
        if outcome.status == 0:  # the first command tells a unit attention
            last, size = struct.unpack(">LL", outcome.data)
            return last + 1, size
