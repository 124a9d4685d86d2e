# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bdev_set_qos_limit: rate limits of block devices."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from ...bdev.qos import RateLimits
from ...bdev.tap import tap_of
from ..method import DECODE_FAILED, Errors, Method, RpcError, Subject
from ..schema import UINT64_MAX, integer, optional, required, string

if TYPE_CHECKING:
    from ...service import Engine


def set_qos_limit(engine: Engine, name: str, **limits: int) -> bool:
    """What is not given stays as it is; 0 is no limit."""
    bdev = engine.bdevs.get(name)
    given = {key: value for key, value in limits.items() if value != UINT64_MAX}
    if not given:
        raise RpcError(-errno.EINVAL, "No rate limits specified")
    tap = tap_of(bdev)
    tap.set_limits(tap.limits._replace(**given).rounded())
    return True


# SPDK's clients and files say "as it is" with the largest number.
_LIMIT: Final = optional(integer(0, UINT64_MAX), UINT64_MAX)

METHODS: Final = (
    Method(
        "bdev_set_qos_limit",
        set_qos_limit,
        {"name": required(string()), **dict.fromkeys(RateLimits._fields, _LIMIT)},
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        subject=Subject("bdev", "name", part="limits"),
    ),
)
