# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target's options (iscsi_set_options of SPDK)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..facts import DEFAULT_NODE_BASE, DEFAULT_QUEUE_DEPTH
from .auth import Auth


@dataclass
class Options:
    """In the order in which iscsi_get_options gives them; lengths in bytes, times in seconds."""

    auth_file: str | None = None
    node_base: str = DEFAULT_NODE_BASE
    max_sessions: int = 128
    max_connections_per_session: int = 2
    max_queue_depth: int = DEFAULT_QUEUE_DEPTH
    default_time2wait: int = 2
    default_time2retain: int = 20
    first_burst_length: int = 262144  # SPDK: 8192. With this a 256 KiB WRITE needs no R2T.
    immediate_data: bool = True
    allow_duplicated_isid: bool = False
    error_recovery_level: int = 0
    nop_timeout: int = 60
    nop_in_interval: int = 30
    disable_chap: bool = False
    require_chap: bool = False
    mutual_chap: bool = False
    chap_group: int = 0
    max_large_datain_per_connection: int = 64
    max_r2t_per_connection: int = 4
    pdu_pool_size: int = 36864
    immediate_data_pool_size: int = 16384
    data_out_pool_size: int = 2048

    @property
    def discovery_auth(self) -> Auth:
        return Auth(self.disable_chap, self.require_chap, self.mutual_chap, self.chap_group)

    @discovery_auth.setter
    def discovery_auth(self, auth: Auth) -> None:
        self.disable_chap, self.require_chap, self.mutual_chap, self.chap_group = auth

    def to_rpc(self) -> dict[str, Any]:
        """As iscsi_get_options answers; SPDK leaves out an auth_file that is not set."""
        values = asdict(self)
        if values["auth_file"] is None:
            del values["auth_file"]
        return values
