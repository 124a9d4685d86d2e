# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine that waits (--wait-for-rpc) gets its options, which it takes only now, and starts with them."""

from __future__ import annotations

from typing import Final

from .._rpc import CallError
from .base import TARGET_OPTIONS
from .declaration import Declaration
from .operations import EDIT, Operation
from .planner import Refused
from .reader import Client, Waiting
from .target_options import TargetOptions

_CALLED_BEFORE: Final = "Must not call more than once"


def first_operation(declaration: Declaration) -> Operation:
    """What an engine that waits has to be given. Raises Waiting if nothing is declared, Refused if that is wrong."""
    wish = next((wish for (kind, _key), wish in declaration.wishes.items() if kind == TARGET_OPTIONS), None)
    if wish is None:
        raise Waiting()
    if declaration.problems:
        raise Refused(declaration.problems)
    options = TargetOptions.create(wish.given)
    return Operation(EDIT, TargetOptions(), options, "the engine waits for its options and starts with them")


def let_start(operation: Operation, client: Client) -> None:
    """Raises RpcError."""
    options = operation.after.show() if operation.after is not None else {}
    if options:
        try:
            client.call("iscsi_set_options", options)
        except CallError as error:
            # A run that broke here has set them; what it set is compared once the engine tells.
            if _CALLED_BEFORE not in error.text:
                raise
    client.call("framework_start_init")
