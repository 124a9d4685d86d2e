# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests ask of a connection without changing anything."""

from __future__ import annotations

from pdu import wire
from pdu.initiator import Initiator


def answers_pings(initiator: Initiator) -> bool:
    """Whether a logged-in connection lives. Unlike a SCSI command, a ping meets no unit attention."""
    initiator.send(initiator.nop_out(b"ping"))
    answer = initiator.receive()
    return (answer.opcode, answer.data) == (wire.NOP_IN, b"ping")
