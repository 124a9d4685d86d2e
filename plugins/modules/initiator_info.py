#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: initiator_info
short_description: The iSCSI initiator of a host, its records, sessions and disks
version_added: 0.2.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Tells the name of the host, the records of open-iscsi, the sessions, and the disks behind each LUN.
  - No secret is told, only whether there is one.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.initiator
  - openlun.iscsi._attributes.info
  - openlun.iscsi._initiator
options:
  target:
    description:
      - Tell of this target only.
      - Default is all.
    type: str
seealso:
  - module: openlun.iscsi.session
"""

EXAMPLES = r"""
- name: Look
  openlun.iscsi.initiator_info:
  become: true
  register: initiator

- name: All disks of all targets
  ansible.builtin.debug:
    msg: "{{ initiator.sessions | map(attribute='luns') | flatten | map(attribute='device') }}"
"""

RETURN = r"""
name:
  description: The name of this host as an initiator; V(null) when it has none.
  returned: success
  type: str
  sample: iqn.2020-01.com.example:db1
version:
  description: Version of open-iscsi; V(null) when it is not installed.
  returned: success
  type: str
  sample: 2.1.8
interfaces:
  description: Interfaces of open-iscsi.
  returned: success
  type: list
  elements: str
  sample: [default, iser]
records:
  description: What open-iscsi remembers.
  returned: success
  type: list
  elements: dict
  contains:
    target:
      description: Name of the target.
      type: str
      returned: always
    portal:
      description: Where it is reached.
      type: str
      returned: always
    tag:
      description: Tag of the portal group; V(null) when it is not known.
      type: int
      returned: always
    interface:
      description: The interface of open-iscsi.
      type: str
      returned: always
    startup:
      description: Whether it is logged in to at boot.
      type: str
      returned: always
      sample: automatic
    path:
      description: The file of the record.
      type: str
      returned: always
    values:
      description: Everything that it says, secrets hidden.
      type: dict
      returned: always
sessions:
  description: The sessions and their disks, as M(openlun.iscsi.session) returns them.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.info import gather
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.module import run
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.options import INFO


def main() -> None:
    module = AnsibleModule(argument_spec=INFO, supports_check_mode=True)
    run(module, lambda host, command: gather(host, command, module.params["target"]))


if __name__ == "__main__":
    main()
