#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: auth_group
short_description: Auth groups of an iSCSI target
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Creates, edits and removes the groups of CHAP secrets that target nodes and discovery ask for.
  - A group is edited while it is used; sessions that exist stay.
  - Secrets are compared with those of the engine, and never shown.
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
    details:
      - Of secrets the names of the users are shown.
  idempotent:
    support: partial
    details:
      - With O(update_secret=always), an engine that does not show its secrets is given them in every run.
options:
  tag:
    description:
      - Number of the group, at least 1.
    type: int
    required: true
  secrets:
    description:
      - Who can prove themselves, one entry for every user name. The list is complete; a user who is not in it is taken
        out. Needed when the group is created.
    type: list
    elements: dict
    suboptions:
      user:
        description: Name that an initiator gives.
        type: str
        required: true
      secret:
        description:
          - What the initiator proves to know, at most 255 bytes. Many initiators want 12 to 16.
          - Needed for a user who is new. Left out, or masked as in the results of the modules, it stays what it is.
        type: str
      muser:
        description: Name that the target gives in return, for mutual CHAP.
        type: str
      msecret:
        description:
          - What the target proves to know. It has to differ from the secret of the initiator.
          - Needed for a muser that is new.
        type: str
  update_secret:
    description:
      - V(always) sets every secret that differs. Of an engine that does not show its secrets nobody knows, so there
        they are set in every run, which counts as a change.
      - V(on_create) leaves users who are there alone, whatever their secret is.
    type: str
    choices: [always, on_create]
    default: always
"""

EXAMPLES = r"""
- name: Two hosts that have to log in with a secret
  openlun.iscsi.auth_group:
    tag: 1
    secrets:
      - user: db1
        secret: "{{ vault_db1 }}"
      - user: db2
        secret: "{{ vault_db2 }}"

- name: The target proves itself, too
  openlun.iscsi.auth_group:
    tag: 2
    secrets:
      - user: db1
        secret: "{{ vault_db1 }}"
        muser: storage1
        msecret: "{{ vault_storage1 }}"

- name: Remove the group
  openlun.iscsi.auth_group:
    tag: 1
    state: absent
"""

RETURN = r"""
auth_group:
  description: The auth group as it is now, V(null) when it is absent. In check mode as it would be.
  returned: success
  type: dict
  sample:
    tag: 1
    secrets: [{user: db1, secret: "********"}]
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
    - "secrets[1].secret: user db2 of auth group 1 needs a secret."
"""

from ansible_collections.openlun.iscsi.plugins.module_utils._state.base import AUTH_GROUP
from ansible_collections.openlun.iscsi.plugins.module_utils._state.run import run_object


def main() -> None:
    run_object(AUTH_GROUP)


if __name__ == "__main__":
    main()
