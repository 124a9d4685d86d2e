#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: initiator_name
short_description: The name of a host as an iSCSI initiator
version_added: 0.2.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Writes the name by which targets know this host to F(/etc/iscsi/initiatorname.iscsi), and restarts iscsid if it
    runs, because it reads the name at its start only.
  - Two hosts with one name take each other's sessions over, and write to the same disks without knowing of each other.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.initiator
  - openlun.iscsi._initiator
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description:
      - The name, such as V(iqn.2020-01.com.example:db1).
      - By default the host keeps the one it has. A host that has none gets one that is made of O(prefix) and the
        machine's identity, which is another one for every host and stays the same.
    type: str
  unique:
    description:
      - Make a name of O(prefix) and the machine's identity, whatever name there is. For hosts that were cloned with the
        name of another.
    type: bool
    default: false
  prefix:
    description: What a name that is made begins with.
    type: str
    default: iqn.2016-04.com.open-iscsi
  force:
    description:
      - Change the name even while this host is logged in to a target. The sessions stay, but one that breaks comes back
        by the new name, which the target may not let in.
    type: bool
    default: false
seealso:
  - module: openlun.iscsi.session
"""

EXAMPLES = r"""
- name: A name that says which host it is
  openlun.iscsi.initiator_name:
    name: "iqn.2020-01.com.example:{{ inventory_hostname_short }}"
  become: true

- name: Not the name of the image that this host was cloned from
  openlun.iscsi.initiator_name:
    unique: true
    prefix: iqn.2020-01.com.example
  become: true
  register: initiator
"""

RETURN = r"""
name:
  description: The name.
  returned: success
  type: str
  sample: iqn.2020-01.com.example:db1
actions:
  description: What was done, or what would be done in check mode.
  returned: success
  type: list
  elements: dict
  sample:
    - action: edit
      object: file /etc/iscsi/initiatorname.iscsi
      why: iqn.1993-08.org.debian:01:57ab769477f9 → iqn.2020-01.com.example:db1
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.iscsiadm import Iscsiadm
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.module import run
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.names import InitiatorName
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.options import NAME


def main() -> None:
    module = AnsibleModule(argument_spec=NAME, supports_check_mode=True)
    apply = not module.check_mode
    run(module, lambda host, command: InitiatorName(host, command, Iscsiadm(command)).bring(module.params, apply))


if __name__ == "__main__":
    main()
