#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: initiator_group
short_description: Initiator groups of an iSCSI target
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Creates, edits and removes the groups of initiators that may log in to target nodes.
  - A group is edited while it is used; sessions that exist stay.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.target
  - openlun.iscsi._target
  - openlun.iscsi._target.object
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
  tag:
    description:
      - Number of the group, at least 1.
    type: int
    required: true
  initiators:
    description:
      - Names of the initiators, V(ANY) for all, or V(!NAME) to deny one; the first match decides.
      - The list is complete; who is not in it is taken out.
      - Default is V(ANY) if O(netmasks) is given.
    type: list
    elements: str
  netmasks:
    description:
      - Addresses from which initiators may come, as V(ANY), C(10.0.0.0/24), C(10.0.0.7) or C([fd00::]/64).
      - C(0.0.0.0/0) and C([::]/0) are all addresses of their family. SPDK has only V(ANY) for that.
      - The list is complete. Default is V(ANY) if O(initiators) is given.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Everybody in the storage network
  openlun.iscsi.initiator_group:
    tag: 2
    initiators: [ANY]
    netmasks: [192.168.0.0/24]

- name: Two hosts by name, from anywhere
  openlun.iscsi.initiator_group:
    tag: 3
    initiators:
      - iqn.1993-08.org.debian:01:db1
      - iqn.1993-08.org.debian:01:db2

- name: Remove the group, and its maps from the target nodes that use it
  openlun.iscsi.initiator_group:
    tag: 2
    state: absent
    force: true
"""

RETURN = r"""
initiator_group:
  description: The initiator group as it is now, V(null) when it is absent. In check mode as it would be.
  returned: success
  type: dict
  sample:
    tag: 2
    initiators: [ANY]
    netmasks: [10.0.0.0/24]
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
    - Everything that is wrong with the options, each with its path, or every step that needs O(force).
    - Nothing was changed.
  returned: when the module refuses
  type: list
  elements: str
  sample:
    - "netmasks[0]: '10.0.0.0/33': the mask of an IPv4 address has 0 to 32 bits."
"""

from ansible_collections.openlun.iscsi.plugins.module_utils._state.base import INITIATOR_GROUP
from ansible_collections.openlun.iscsi.plugins.module_utils._state.run import run_object


def main() -> None:
    run_object(INITIATOR_GROUP)


if __name__ == "__main__":
    main()
