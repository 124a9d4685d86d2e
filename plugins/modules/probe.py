#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: probe
short_description: Look at an iSCSI target the way an initiator does
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Discovers the targets at a portal, logs in to each and asks its disks who they are and how large they are.
  - Needs no kernel module, no open-iscsi and no root, because the module speaks iSCSI itself. It works with targets of
    any make that do not ask for authentication.
extends_documentation_fragment:
  - openlun.iscsi._attributes
attributes:
  check_mode:
    support: full
    details:
      - O(write_test) is left out.
  diff_mode:
    support: N/A
    details:
      - There is nothing to compare.
  idempotent:
    support: full
    details:
      - Nothing is changed; a write test restores what was there.
options:
  portal:
    description:
      - Where the target listens, as C(ADDRESS:PORT), C([IPV6-ADDRESS]:PORT) or an address alone for port 3260.
    type: str
    required: true
  initiator_name:
    description:
      - The name under which to log in; it decides what the target shows.
    type: str
    default: iqn.2026-01.io.github.openlun:probe
  target:
    description:
      - Look at this target only. By its full name.
      - Default is all that the portal offers.
    type: str
  write_test:
    description:
      - Write random data to the last 64 KiB of every disk, read it back, compare, and restore what was there.
      - Only for disks that nobody uses, because what others write to these blocks in the meantime is lost.
        An interrupted test leaves random data in them.
      - Write-protected disks are left out.
    type: bool
    default: false
  timeout:
    description:
      - How many seconds the target may take for one answer.
    type: int
    default: 10
seealso:
  - module: openlun.iscsi.target_info
"""

EXAMPLES = r"""
- name: What the target offers to this host
  openlun.iscsi.probe:
    portal: 10.0.0.1:3260

- name: Prove that a new disk keeps what is written to it
  openlun.iscsi.probe:
    portal: 10.0.0.1:3260
    target: iqn.2016-06.io.spdk:disk1
    write_test: true
"""

RETURN = r"""
targets:
  description: The targets, in the order in which the portal names them.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the target.
      type: str
      returned: always
      sample: iqn.2016-06.io.spdk:disk1
    portals:
      description: Its portals with the tag of their portal group.
      type: list
      elements: str
      returned: always
      sample: ["10.0.0.1:3260,1"]
    luns:
      description: Its logical units.
      type: list
      elements: dict
      returned: always
      contains:
        lun:
          description: Number of the LUN.
          type: int
          returned: always
        size:
          description: Size in bytes.
          type: int
          returned: always
          sample: 67108864
        block_size:
          description: Bytes in a block.
          type: int
          returned: always
          sample: 512
        blocks:
          description: Number of blocks.
          type: int
          returned: always
          sample: 131072
        vendor:
          description: Who made it.
          type: str
          returned: always
        product:
          description: What it is.
          type: str
          returned: always
        revision:
          description: In which version.
          type: str
          returned: always
        serial:
          description: Its serial number; empty when it has none.
          type: str
          returned: always
        identifiers:
          description: Names by which it can be told from all other disks.
          type: list
          elements: str
          returned: always
        verified:
          description: Whether data was written to it and read back. A difference fails the module.
          type: bool
          returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.errors import InitiatorError
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.probe import Address, Request, probe
from ansible_collections.openlun.iscsi.plugins.module_utils._state.portals import parse_portal


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "portal": {"type": "str", "required": True},
            "initiator_name": {"type": "str", "default": "iqn.2026-01.io.github.openlun:probe"},
            "target": {"type": "str"},
            "write_test": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    options = module.params
    try:
        portal = parse_portal(options["portal"])
        request = Request(
            portal=Address(portal.host.strip("[]"), portal.port),
            initiator=options["initiator_name"],
            target=options["target"],
            write_test=options["write_test"] and not module.check_mode,
            timeout=options["timeout"],
        )
        targets = probe(request)
    except ValueError as error:
        module.fail_json(msg=f"portal: {error}")
    except InitiatorError as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(changed=False, targets=targets)


if __name__ == "__main__":
    main()
