#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: discovery
short_description: Find the targets that portals offer to this host
version_added: 0.2.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Asks portals for their targets, in the name of this host, and makes a record of open-iscsi for each that has none.
    Settings of records that are there stay as they are.
  - The module speaks iSCSI itself, so check mode tells the truth, and secrets of discovery are not stored on the host.
  - Portals that do not answer are warnings as long as one does.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.initiator
  - openlun.iscsi._initiator
  - openlun.iscsi._initiator.chap
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  portals:
    description:
      - Portals to ask, as C(ADDRESS:PORT), C([IPV6-ADDRESS]:PORT) or an address alone for port 3260.
    type: list
    elements: str
    required: true
  targets:
    description:
      - Make records of these targets only, by their full names. One that no portal offers fails the module.
      - Default is all.
    type: list
    elements: str
  interface:
    description: The interface of open-iscsi that the records are for.
    type: str
    default: default
  initiator_name:
    description:
      - Ask in this name; it decides what the target shows.
      - Default is the name of this host.
    type: str
  record:
    description: Whether records are made. Otherwise the module only tells what there is.
    type: bool
    default: true
  prune:
    description:
      - Delete records that came of these portals, or lead to them, and that none of them offers any more.
      - A record that a session uses stays, with a warning, and all stay when a portal does not answer.
    type: bool
    default: false
  ignore:
    description: Targets whose records O(prune) leaves alone, as patterns such as V(iqn.2020-01.com.example:*).
    type: list
    elements: str
    default: []
  timeout:
    description: How many seconds a portal may take for one answer.
    type: int
    default: 10
seealso:
  - module: openlun.iscsi.session
  - module: openlun.iscsi.probe
"""

EXAMPLES = r"""
- name: What two portals offer
  openlun.iscsi.discovery:
    portals: [192.168.0.22:3260, "[fd00::22]:3260"]
  become: true
  register: found

- name: Log in to all of it
  openlun.iscsi.session:
    target: "{{ item.name }}"
    startup: automatic
  loop: "{{ found.targets }}"
  become: true

- name: Only look, at a portal that wants CHAP for discovery
  openlun.iscsi.discovery:
    portals: [192.168.0.22:3260]
    chap:
      user: finder
      secret: "{{ vault_finder }}"
    record: false
  become: true

- name: Forget targets that are gone
  openlun.iscsi.discovery:
    portals: [192.168.0.22:3260]
    prune: true
  become: true
"""

RETURN = r"""
targets:
  description: What the portals offer.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the target.
      type: str
      returned: always
    portals:
      description: Its portals with the tags of their portal groups.
      type: list
      elements: str
      returned: always
  sample: [{name: "iqn.2016-06.io.spdk:disk1", portals: ["192.168.0.22:3260,1", "[fd00::22]:3260,1"]}]
stale:
  description: Records that came of these portals and that they do not offer any more. Each is a warning, too.
  returned: success
  type: list
  elements: dict
  contains:
    target:
      description: Name of the target.
      type: str
      returned: always
    portal:
      description: The portal of the record.
      type: str
      returned: always
    interface:
      description: The interface of the record.
      type: str
      returned: always
actions:
  description: What was done, or what would be done in check mode.
  returned: success
  type: list
  elements: dict
  sample:
    - action: create
      object: record of target iqn.2016-06.io.spdk:disk1 at 192.168.0.22:3260
      why: it was missing
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.discovery import Discovery
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.module import run
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.options import DISCOVERY


def main() -> None:
    module = AnsibleModule(argument_spec=DISCOVERY, supports_check_mode=True)
    run(module, lambda host, command: Discovery(host, command).bring(module.params, apply=not module.check_mode))


if __name__ == "__main__":
    main()
