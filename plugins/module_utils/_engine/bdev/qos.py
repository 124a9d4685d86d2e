# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rate limits of a block device (SPDK's bdev_set_qos_limit): when an operation may begin."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

MEBIBYTE: Final = 1024 * 1024
_IOS_STEP: Final = 1000
"""SPDK rounds operations per second up to a multiple of this."""
_CREDIT_SECONDS: Final = 0.05
"""What was not used this long ago may be made up for: timers are late, and a limit that is never reached is none."""


class RateLimits(NamedTuple):
    """0 is no limit. In the order and with the names of assigned_rate_limits."""

    rw_ios_per_sec: int = 0
    rw_mbytes_per_sec: int = 0
    r_mbytes_per_sec: int = 0
    w_mbytes_per_sec: int = 0

    def rounded(self) -> RateLimits:
        """As SPDK takes them."""
        return self._replace(rw_ios_per_sec=-(-self.rw_ios_per_sec // _IOS_STEP) * _IOS_STEP)


class _Rate:
    """One limit: the time when it lets the next operation begin."""

    __slots__ = ("next", "seconds_each")

    def __init__(self, per_second: int) -> None:
        self.seconds_each = 1 / per_second
        self.next = 0.0


class Throttle:
    """Books operations one after the other at the allowed rates (the generic cell rate algorithm)."""

    def __init__(self, limits: RateLimits) -> None:
        self.limits = limits
        ios = [_Rate(limits.rw_ios_per_sec)] if limits.rw_ios_per_sec else []
        both, reads, writes = ([_Rate(each * MEBIBYTE)] if each else [] for each in limits[1:])
        self._rates = {False: (ios, both + reads), True: (ios, both + writes)}

    def book(self, is_write: bool, length: int) -> float:
        """Take the next place for an operation on ``length`` bytes; gives the seconds until it may begin."""
        now = time.monotonic()
        ios, bandwidths = self._rates[is_write]
        start = max([now, *(rate.next for rate in ios), *(rate.next for rate in bandwidths)])
        floor = now - _CREDIT_SECONDS
        for rate in ios:
            rate.next = max(rate.next, floor) + rate.seconds_each
        for rate in bandwidths:
            rate.next = max(rate.next, floor) + rate.seconds_each * length
        return start - now
