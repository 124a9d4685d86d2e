# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a login ends early: refused with a status of RFC 7143 §11.13.5, or sent to another address."""

from __future__ import annotations

from typing import Final

from .node import Redirect, TargetNode

MOVED_TEMPORARILY: Final = 0x0101
MOVED_PERMANENTLY: Final = 0x0102
INITIATOR_ERROR: Final = 0x0200
AUTHENTICATION_FAILED: Final = 0x0201
NOT_AUTHORIZED: Final = 0x0202
NOT_FOUND: Final = 0x0203
REMOVED: Final = 0x0204
VERSION: Final = 0x0205
TOO_MANY_CONNECTIONS: Final = 0x0206
MISSING: Final = 0x0207
NOT_IN_THIS_SESSION: Final = 0x0208
SESSION_TYPE: Final = 0x0209
NO_SUCH_SESSION: Final = 0x020A
INVALID_REQUEST: Final = 0x020B
TARGET_ERROR: Final = 0x0300
SERVICE_UNAVAILABLE: Final = 0x0301
OUT_OF_RESOURCES: Final = 0x0302


class Refusal(Exception):
    """A login that fails; ``status`` is class and detail."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Redirection(Exception):
    """A login that is to be tried at another address."""

    def __init__(self, node: TargetNode, redirect: Redirect) -> None:
        super().__init__(f"sent from target node {node.name} to {redirect}")
        self.address = str(redirect)
        self.status = MOVED_PERMANENTLY if redirect.permanent else MOVED_TEMPORARILY
