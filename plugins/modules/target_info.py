#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: target_info
short_description: What an iSCSI target is and has
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Reads the engine, its options, all its objects and its connections.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.target
  - openlun.iscsi._attributes.info
  - openlun.iscsi._target
"""

EXAMPLES = r"""
- name: Look at the target
  openlun.iscsi.target_info:
  register: target

- name: Show who is logged in
  ansible.builtin.debug:
    msg: "{{ target.connections | map(attribute='initiator_name') | list }}"
"""

RETURN = r"""
engine:
  description: The engine itself. What it tells besides type and version depends on the type.
  returned: success
  type: dict
  contains:
    type:
      description: V(builtin) for the engine of this collection, V(spdk) for SPDK's iscsi_tgt.
      type: str
      returned: success
    version:
      description: Version of the engine.
      type: str
      returned: success
  sample: {type: builtin, name: openlun-iscsi, version: 0.1.0, pid: 4711}
methods:
  description: The methods that the engine answers.
  returned: success
  type: list
  elements: str
options:
  description: The options of the iSCSI subsystem, as SPDK's iscsi_get_options names them.
  returned: success
  type: dict
bdevs:
  description: All block devices, in the form in which M(openlun.iscsi.target_config) declares them.
  returned: success
  type: list
  elements: dict
auth_groups:
  description: All auth groups, in the form in which M(openlun.iscsi.target_config) declares them, with masked secrets.
  returned: success
  type: list
  elements: dict
portal_groups:
  description: All portal groups, in the form in which M(openlun.iscsi.target_config) declares them.
  returned: success
  type: list
  elements: dict
initiator_groups:
  description: All initiator groups, in the form in which M(openlun.iscsi.target_config) declares them.
  returned: success
  type: list
  elements: dict
target_nodes:
  description: All target nodes, in the form in which M(openlun.iscsi.target_config) declares them.
  returned: success
  type: list
  elements: dict
discovery_auth:
  description: The policy for discovery, in the form in which M(openlun.iscsi.target_config) declares it.
  returned: success
  type: dict
target_options:
  description: Those of the options that M(openlun.iscsi.target_config) declares.
  returned: success
  type: dict
connections:
  description: All connections, as SPDK's iscsi_get_connections tells them. SPDK leaves out C(initiator_name).
  returned: success
  type: list
  elements: dict
  sample:
    - id: 0
      cid: 1
      tsih: 1
      state: running
      login_phase: full_feature_phase
      initiator_addr: 10.0.0.7
      initiator_name: iqn.1993-08.org.debian:01:5f3a
      target_addr: 10.0.0.1
      target_node_name: disk1
"""

from ansible_collections.openlun.iscsi.plugins.module_utils._state.run import run_info


def main() -> None:
    run_info()


if __name__ == "__main__":
    main()
