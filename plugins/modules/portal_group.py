#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: portal_group
short_description: Portal groups of an iSCSI target
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Creates, edits, replaces and removes the groups of addresses and ports on which an iSCSI target listens.
  - Portals are added while the group listens, and removed. To close one by which somebody came needs O(force).
    Sessions go on, but cannot come back by a portal that is closed. Those that came by it are named.
  - SPDK does not change the portals of a group that exists, and no engine changes O(private). Then the group is
    replaced, which needs O(force). The maps of its target nodes are restored.
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
      - Number of the group (target portal group tag), from 1 to 65535.
    type: int
    required: true
  portals:
    description:
      - Where the target listens, as C(ADDRESS:PORT), C([IPV6-ADDRESS]:PORT) or an address alone for port 3260.
      - V(*) stands for all IPv4 addresses of the host and V([*]) for all IPv6 addresses.
      - The list is complete; portals that are not in it are closed. Needed when the group is created.
    type: list
    elements: str
  private:
    description:
      - Whether discovery hides the portals of the group.
      - Default is V(false).
    type: bool
  chap:
    description:
      - Whether initiators that come by this group to ask which target nodes there are have to prove who they are.
      - V(inherit) is what M(openlun.iscsi.discovery_auth) says. V(none) asks nobody, V(auto) who offers it,
        V(required) everybody, and with V(mutual) the target proves itself, too.
      - Default is V(inherit), or V(required) if an auth group is given. SPDK knows V(inherit) only.
    version_added: 0.2.0
    type: str
    choices: [inherit, none, auto, required, mutual]
  auth_group:
    description:
      - Tag of the auth group that has the secrets. It has to exist, or to be declared in the same run.
    version_added: 0.2.0
    type: int
"""

EXAMPLES = r"""
- name: Listen on two addresses
  openlun.iscsi.portal_group:
    tag: 1
    portals:
      - 10.0.0.1:3260
      - "[fd00::1]:3260"

- name: Move the target to another address, even if somebody came by the old one
  openlun.iscsi.portal_group:
    tag: 1
    portals: ["10.0.0.2"]
    force: true

- name: Listen there no more
  openlun.iscsi.portal_group:
    tag: 1
    state: absent
"""

RETURN = r"""
portal_group:
  description: The portal group as it is now, V(null) when it is absent. In check mode as it would be.
  returned: success
  type: dict
  sample:
    tag: 1
    portals: ["10.0.0.1:3260"]
    private: false
    chap: inherit
    auth_group: null
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
    - action: edit
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
    - "portals[1]: 10.0.0.1:3260 belongs to portal group 2 already. A portal belongs to one portal group."
"""

from ansible_collections.openlun.iscsi.plugins.module_utils._state.base import PORTAL_GROUP
from ansible_collections.openlun.iscsi.plugins.module_utils._state.run import run_object


def main() -> None:
    run_object(PORTAL_GROUP)


if __name__ == "__main__":
    main()
