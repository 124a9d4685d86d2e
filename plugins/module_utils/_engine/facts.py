# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits and defaults that the engine enforces and the modules validate against, in one place.

Importable by itself: the modules take this file to the host without the rest of the engine.
Sources: SPDK's JSON-RPC (iscsi_*, bdev_*), RFC 7143 §4.2.7 for names.
"""

from __future__ import annotations

from typing import Final

DEFAULT_ISCSI_PORT: Final = 3260
DEFAULT_NODE_BASE: Final = "iqn.2016-06.io.spdk"

MAX_TAG: Final = 2**31 - 1
"""Largest tag the RPC accepts; a portal group's tag is its TPGT on the wire and ends at MAX_PORTAL_GROUP_TAG."""
MAX_PORTAL_GROUP_TAG: Final = 65535
MAX_PORT: Final = 65535

MAX_NAME_BYTES: Final = 223
"""iSCSI names, RFC 7143 §4.2.7.2."""
MAX_ALIAS_BYTES: Final = 255
MAX_BDEV_NAME_BYTES: Final = 255

MAX_LUNS: Final = 256
"""LUNs of a target node. SPDK's RPC takes 64 of them in one call."""
MAX_LUN_ID: Final = MAX_LUNS - 1
MAX_PORTALS_PER_GROUP: Final = 1024
MAX_INITIATORS_PER_GROUP: Final = 256
MAX_NETMASKS_PER_GROUP: Final = 256
MAX_MAPS_PER_NODE: Final = 256

MAX_SECRETS_PER_CALL: Final = 64
"""Secrets that one iscsi_create_auth_group takes; an auth group may have more."""
MAX_SECRET_BYTES: Final = 255
"""User names and secrets of CHAP."""
LEAST_SECRET_BYTES: Final = 12
"""96 bits: shorter secrets of CHAP can be guessed from what is seen on the network (RFC 7143 §12.1.3)."""

MAX_QUEUE_DEPTH: Final = 256
DEFAULT_QUEUE_DEPTH: Final = 64

DEFAULT_DRAIN_SECONDS: Final = 5
"""How long initiators may take to log out when the engine stops."""
MAX_SPIN_MICROSECONDS: Final = 1000
"""More would not be less waiting, only more processor time."""
MIN_HTTP_SECRET: Final = 8
"""Characters of a password or a token for the management over HTTP."""

BLOCK_SIZES: Final = (512, 4096)
DEFAULT_BLOCK_SIZE: Final = 512

TARGET_OPTION_RANGES: Final = {
    "max_sessions": (1, 65535),
    "max_connections_per_session": (1, 65535),
    "max_queue_depth": (1, MAX_QUEUE_DEPTH),
    "default_time2wait": (0, 3600),
    "default_time2retain": (0, 3600),
    "first_burst_length": (512, 1048576),
    "error_recovery_level": (0, 2),
    "nop_timeout": (0, 2**31 - 1),
    "nop_in_interval": (0, 60),
    "max_large_datain_per_connection": (1, 2**32 - 1),
    "max_r2t_per_connection": (1, 2**32 - 1),
    "pdu_pool_size": (1, 2**32 - 1),
    "immediate_data_pool_size": (1, 2**32 - 1),
    "data_out_pool_size": (1, 2**32 - 1),
}
"""The numbers among the options of iscsi_set_options: smallest and largest. Lengths in bytes, times in seconds."""
