# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of the engine's own objects: each has an errno and a message that names the object."""

from __future__ import annotations

import errno
import os


class EngineError(Exception):
    """Something asked of the engine cannot be done.

    The message names the object, what is wrong and, where there is one, the next step.
    ``errno`` is the positive number that SPDK answers negated.
    """

    errno: int = errno.EIO
    words: str = ""
    """SPDK's own words for this failure, where they say more than its general ones (rpc.method.worded)."""

    @classmethod
    def from_os(cls, error: OSError, what: str) -> EngineError:
        """Wrap an operating system error met while doing ``what``."""
        wrapped = cls(f"{what}: {error.strerror or error}")
        wrapped.errno = error.errno or errno.EIO
        return wrapped

    @property
    def strerror(self) -> str:
        return os.strerror(self.errno)


class NotFound(EngineError):
    errno = errno.ENOENT


class NoDevice(EngineError):
    errno = errno.ENODEV


class Exists(EngineError):
    errno = errno.EEXIST


class Invalid(EngineError):
    errno = errno.EINVAL


class Busy(EngineError):
    errno = errno.EBUSY


class Unsupported(EngineError):
    errno = errno.ENOTSUP
