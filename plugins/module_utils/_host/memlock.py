# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory the processes of a user may lock: pam_limits(8), for users who are not started by systemd."""

from __future__ import annotations

import re
from typing import Final

from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.page_sizes import parse_amount

DIRECTORY: Final = "/etc/security/limits.d"
PREFIX: Final = "openlun-iscsi-memlock-"
SUFFIX: Final = ".conf"

_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")


def memlock_file(user: str, limit: str) -> tuple[str, str]:
    """Path and text of the file for a user; ``limit`` is ``unlimited`` or an amount. Raises HostError."""
    if not _USER.fullmatch(user):
        raise HostError(f"memlock_user: {user!r} is no name of a user.")
    # limits.conf(5) counts in KiB.
    value = limit if limit == "unlimited" else str(parse_amount(limit) >> 10)
    lines = "".join(f"{user} {kind} memlock {value}\n" for kind in ("soft", "hard"))
    return f"{DIRECTORY}/{PREFIX}{user}{SUFFIX}", lines
