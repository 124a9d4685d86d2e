#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: target_options
short_description: Options of an iSCSI target as a whole
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Sets the options that SPDK's C(iscsi_set_options) takes, which hold for all target nodes.
  - An engine takes them once, before it begins to serve. One that was started with C(--wait-for-rpc) gets them and is
    then told to begin. There, options that are left out have the default of the engine, and so has
    M(openlun.iscsi.discovery_auth).
  - Of an engine that serves already the options are compared. When one differs, the module fails and says how it can
    be set.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.target
  - openlun.iscsi._target
attributes:
  check_mode:
    support: full
    details:
      - When no engine answers yet, the module warns and plans for a new and empty one.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  node_base:
    description: What short names of target nodes are put behind.
    type: str
  immediate_data:
    description: Whether initiators may send data together with a write (ImmediateData).
    type: bool
  allow_duplicated_isid:
    description: Whether a session with the ISID of one that exists leaves that alone, instead of taking its place.
    type: bool
  max_sessions:
    description: How many sessions the target has at most.
    type: int
  max_connections_per_session:
    description: How many connections a session has at most.
    type: int
  max_queue_depth:
    description: The largest queue depth that a target node may have.
    type: int
  default_time2wait:
    description: Seconds an initiator waits before it comes back to a session that broke (DefaultTime2Wait).
    type: int
  default_time2retain:
    description: Seconds in which it can do so (DefaultTime2Retain).
    type: int
  first_burst_length:
    description: Bytes an initiator may send with a write before it is asked (FirstBurstLength).
    type: int
  error_recovery_level:
    description: The highest error recovery level that is offered.
    type: int
  nop_timeout:
    description: Seconds after which an initiator that does not answer a ping is dropped.
    type: int
  nop_in_interval:
    description: Seconds between pings, V(0) for none.
    type: int
  max_large_datain_per_connection:
    description: How many large reads a connection has under way at most.
    type: int
  max_r2t_per_connection:
    description: How many requests for the data of writes a connection has under way at most.
    type: int
  pdu_pool_size:
    description: Number of PDUs in SPDK's pool.
    type: int
  immediate_data_pool_size:
    description: Number of buffers in SPDK's pool for immediate data.
    type: int
  data_out_pool_size:
    description: Number of buffers in SPDK's pool for the data of writes.
    type: int
"""

EXAMPLES = r"""
- name: An engine that was started with --wait-for-rpc
  openlun.iscsi.target_options:
    node_base: iqn.2024-01.com.example.storage
    max_queue_depth: 128

- name: Make sure that the engine runs with what the rest of the play relies on
  openlun.iscsi.target_options:
    max_queue_depth: 128
  check_mode: true
"""

RETURN = r"""
target_options:
  description: The options as they are now. In check mode as they would be.
  returned: success
  type: dict
  sample:
    node_base: iqn.2016-06.io.spdk
    max_queue_depth: 128
actions:
  description: What was done, or what would be done in check mode, in this order.
  returned: always
  type: list
  elements: dict
  contains:
    action:
      description: One of V(create), V(edit), V(replace) and V(delete).
      type: str
      returned: always
    object:
      description: Kind and key of the object.
      type: str
      returned: always
    why:
      description: What differs, or why the object goes.
      type: str
      returned: always
    sessions:
      description: The initiators whose sessions the action drops, whose portal it closes or from whom it takes a LUN.
      type: list
      elements: str
      returned: always
  sample:
    - action: replace
      object: portal group 1
      why: portals 10.0.0.1:3260 → 10.0.0.2:3260
      sessions: ["iqn.1993-08.org.debian:01:5f3a (10.0.0.7)"]
problems:
  description:
    - Everything that is wrong with the options, each with its path.
    - Nothing was changed.
  returned: when the module refuses
  type: list
  elements: str
  sample:
    - >-
      max_queue_depth: the engine has 64 and takes 128 only before it serves. Start it with --wait-for-rpc and run this
      again, or give it a configuration with iscsi_set_options.
"""

from ansible_collections.openlun.iscsi.plugins.module_utils._state.base import TARGET_OPTIONS
from ansible_collections.openlun.iscsi.plugins.module_utils._state.run import run_object


def main() -> None:
    run_object(TARGET_OPTIONS)


if __name__ == "__main__":
    main()
