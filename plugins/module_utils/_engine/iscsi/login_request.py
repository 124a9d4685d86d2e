# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login Requests: their fields, and whether one may follow another (RFC 7143 §6.3, §11.12)."""

from __future__ import annotations

from typing import Final, NamedTuple

from . import pdu, refusal
from .refusal import Refusal

SECURITY, OPERATIONAL, FULL_FEATURE = 0, 1, 3
_TRANSITIONS: Final = frozenset(
    {(SECURITY, OPERATIONAL), (SECURITY, FULL_FEATURE), (OPERATIONAL, FULL_FEATURE)},
)


class Request(NamedTuple):
    """The fields of a Login Request, in the order of ``pdu.LOGIN_PDU``."""

    flags: int
    version_max: int
    version_min: int
    isid: bytes
    tsih: int
    itt: int
    cid: int
    cmd_sn: int
    exp_stat_sn: int

    @property
    def stage(self) -> int:
        return self.flags >> 2 & 3

    @property
    def next_stage(self) -> int:
        return self.flags & 3

    @property
    def continues(self) -> bool:
        """Its text goes on in the next one."""
        return bool(self.flags & pdu.CONTINUE)

    @property
    def transits(self) -> bool:
        return bool(self.flags & pdu.FINAL)

    def check(self, first: Request, stage: int) -> None:
        """May it come after the ``first`` one, while the login is in ``stage``? Raises Refusal."""
        if self.version_min > 0:
            raise Refusal(refusal.VERSION, f"it speaks iSCSI version {self.version_min} and above; this is version 0")
        if (self.isid, self.cid, self.tsih) != (first.isid, first.cid, first.tsih):
            raise Refusal(refusal.INITIATOR_ERROR, "ISID, CID or TSIH changed in the middle of the login")
        if self.stage != stage or stage not in (SECURITY, OPERATIONAL):
            raise Refusal(refusal.INVALID_REQUEST, f"stage {self.stage} while the login is in stage {stage}")
        if self.transits and self.continues:
            raise Refusal(refusal.INITIATOR_ERROR, "T and C bit both set")
        if self.transits and (stage, self.next_stage) not in _TRANSITIONS:
            raise Refusal(refusal.INITIATOR_ERROR, f"no transition from stage {stage} to {self.next_stage}")


NO_REQUEST: Final = Request(0, 0, 0, bytes(6), 0, pdu.RESERVED_TAG, 0, 0, 0)
"""What is answered when something else came instead of the first one."""
