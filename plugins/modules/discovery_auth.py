#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: discovery_auth
short_description: Who may see what an iSCSI target offers
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Sets whether initiators have to prove who they are before the target tells them which target nodes there are.
  - Whether they have to do so when they log in to one of them is an option of M(openlun.iscsi.target_node).
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
  chap:
    description:
      - Whether initiators that ask which target nodes there are have to prove who they are.
      - V(none) asks nobody, V(auto) only those who offer it, V(required) everybody, and with V(mutual) the target
        proves itself, too.
      - An engine begins with V(auto).
    type: str
    choices: [none, auto, required, mutual]
  auth_group:
    description:
      - Tag of the auth group that has the secrets. It has to exist, or to be declared in the same run.
    type: int
"""

EXAMPLES = r"""
- name: Tell nobody who does not know a secret
  openlun.iscsi.discovery_auth:
    chap: required
    auth_group: 1

- name: Tell everybody
  openlun.iscsi.discovery_auth:
    chap: none
"""

RETURN = r"""
discovery_auth:
  description: The policy as it is now. In check mode as it would be.
  returned: success
  type: dict
  sample:
    chap: required
    auth_group: 1
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
    - "auth_group: no auth group with tag 7. Declare it in auth_groups or create it first. Known auth groups: 1."
"""

from ansible_collections.openlun.iscsi.plugins.module_utils._state.base import DISCOVERY_AUTH
from ansible_collections.openlun.iscsi.plugins.module_utils._state.run import run_object


def main() -> None:
    run_object(DISCOVERY_AUTH)


if __name__ == "__main__":
    main()
