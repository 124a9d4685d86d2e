#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rpc
short_description: Call any method of an iSCSI target's JSON-RPC
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Sends one call of SPDK's JSON-RPC to the engine and returns the result.
  - For what the other modules do not cover. They compare first and are idempotent, this one is not.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.target
  - openlun.iscsi._target
attributes:
  check_mode:
    support: partial
    details:
      - Methods that only read are called. Others are not called and count as changed.
  diff_mode:
    support: none
  idempotent:
    support: N/A
    details:
      - Depends on the method.
options:
  method:
    description:
      - Name of the method, such as V(bdev_get_iostat) or V(log_set_level).
      - Methods with C(get) in their name, as SPDK names those that read, count as not changed, others as changed.
    type: str
    required: true
  params:
    description:
      - The parameters of the call, a dictionary with the keys and types that SPDK documents.
      - Values of C(secret) and C(msecret) are not shown.
      - Write numbers and booleans so that they stay what they are; a portal's C(port) is a string.
    type: dict
"""

EXAMPLES = r"""
- name: Statistics of a bdev
  openlun.iscsi.rpc:
    method: bdev_get_iostat
    params:
      name: disk0
  register: iostat

- name: Log more
  openlun.iscsi.rpc:
    method: log_set_level
    params:
      level: DEBUG
"""

RETURN = r"""
result:
  description:
    - What the engine answered, V(null) when check mode did not call the method.
    - Values of C(secret) and C(msecret) are masked.
  returned: success
  type: raw
  sample: true
"""

from ansible_collections.openlun.iscsi.plugins.module_utils._state.run import run_rpc


def main() -> None:
    run_rpc()


if __name__ == "__main__":
    main()
