#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Check whether a host can serve what is declared for it
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Looks for what would go wrong later, before anything is changed. Python is too old, the host lacks the address of a
    portal, another process has its port, the files of the disks do not fit, a disk that is to be taken from the kernel
    is in use.
  - Fails with one sentence for each problem. What the running engine has already is no problem.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.info
options:
  bdevs:
    description:
      - Block devices as for M(openlun.iscsi.target_config).
    type: list
    elements: dict
    default: []
  portal_groups:
    description:
      - Portal groups as for M(openlun.iscsi.target_config).
    type: list
    elements: dict
    default: []
  pci_devices:
    description:
      - Devices as for O(openlun.iscsi.pci_driver#module:devices) of M(openlun.iscsi.pci_driver). What speaks against
        them is a problem, and so is a bdev of type V(nvme) whose device is neither among them nor in user space
        already.
    version_added: 0.2.0
    type: list
    elements: dict
    default: []
  hugepages:
    description:
      - Pages as for O(openlun.iscsi.hugepages#module:pages) of M(openlun.iscsi.hugepages). Without any, here or on the
        host, a bdev of type V(nvme) is a problem.
    version_added: 0.2.0
    type: dict
    default: {}
  expect_modules:
    description:
      - Whether modules that the kernel lacks are going to be installed, and are no problem.
    version_added: 0.2.0
    type: bool
    default: false
  engine:
    description:
      - Whose socket it is, V(builtin) for M(openlun.iscsi.engine) and V(spdk) for M(openlun.iscsi.spdk_engine).
    version_added: 0.2.0
    type: str
    choices: [builtin, spdk]
    default: builtin
  home:
    description:
      - Home of the engine as for M(openlun.iscsi.engine).
    type: path
  socket:
    description:
      - RPC socket of the engine as for M(openlun.iscsi.engine).
    type: path
  timeout:
    description:
      - How many seconds the engine may take for one answer.
    type: int
    default: 60
seealso:
  - module: openlun.iscsi.engine
  - module: openlun.iscsi.target_config
  - module: openlun.iscsi.pci_driver
"""

EXAMPLES = r"""
- name: Can this host serve a disk of 10 GiB at 10.0.0.1?
  openlun.iscsi.preflight:
    bdevs:
      - name: disk0
        type: aio
        path: /srv/iscsi/disk0.img
        size: 10GiB
    portal_groups:
      - tag: 1
        portals: ["10.0.0.1:3260"]
"""

RETURN = r"""
problems:
  description: What is in the way.
  returned: always
  type: list
  elements: str
  sample:
    - >-
      portal 10.0.0.1:3260: the port is taken by process 812 of root (/usr/sbin/tgtd -f). Stop that, or give the portal
      another port.
socket:
  description: Path of the engine's RPC socket, as M(openlun.iscsi.engine) would choose it.
  returned: success
  type: str
  sample: /run/openlun-iscsi/rpc.sock
config:
  description: The saved configuration with which the engine starts.
  returned: success
  type: str
  sample: /var/lib/openlun-iscsi/config.json
directories:
  description: Directories of the files that are to be served.
  returned: success
  type: list
  elements: str
  sample: [/srv/iscsi]
"""

import os
import sys

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openlun.iscsi.plugins.module_utils._host.commands import runner
from ansible_collections.openlun.iscsi.plugins.module_utils._host.device_preflight import device_problems, driven_bdevs
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.hugepages import Hugepages
from ansible_collections.openlun.iscsi.plugins.module_utils._host.page_sizes import parse_pages
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci import PciDevices, Request
from ansible_collections.openlun.iscsi.plugins.module_utils._host.preflight import (
    declared_directories,
    declared_portals,
    file_problems,
    portal_problems,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host
from ansible_collections.openlun.iscsi.plugins.module_utils._rpc import RpcError, connect
from ansible_collections.openlun.iscsi.plugins.module_utils._service.errors import ServiceError
from ansible_collections.openlun.iscsi.plugins.module_utils._service.layout import layout, user_home
from ansible_collections.openlun.iscsi.plugins.module_utils._service.spdk import CONFIG, spdk_layout
from ansible_collections.openlun.iscsi.plugins.module_utils._state.portals import Portal, live_portal

OLDEST_PYTHON = (3, 9)
LAYOUTS = {"builtin": layout, "spdk": spdk_layout}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "bdevs": {"type": "list", "elements": "dict", "default": []},
            "portal_groups": {"type": "list", "elements": "dict", "default": []},
            "pci_devices": {"type": "list", "elements": "dict", "default": []},
            "hugepages": {"type": "dict", "default": {}},
            "expect_modules": {"type": "bool", "default": False},
            "engine": {"type": "str", "choices": list(LAYOUTS), "default": "builtin"},
            "home": {"type": "path"},
            "socket": {"type": "path"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    options = module.params
    try:
        paths = LAYOUTS[options["engine"]](options["home"], options["socket"], os.geteuid(), user_home(os.geteuid()))
        served = live_portals(paths.socket, options["timeout"])
        problems = [
            *python_problems(),
            *portal_problems(declared_portals(options["portal_groups"]), served),
            *file_problems(options["bdevs"]),
            *hardware_problems(module),
        ]
    except (ServiceError, HostError) as error:
        problems = [str(error)]
    except OSError as error:
        problems = [f"{error.filename}: {error.strerror}."]
    if problems:
        module.fail_json(msg=" ".join(problems), problems=problems)
    directories = declared_directories(options["bdevs"])
    config = os.path.join(paths.state_dir, CONFIG)
    module.exit_json(changed=False, problems=[], socket=paths.socket, config=config, directories=directories)


def python_problems() -> list[str]:
    if sys.version_info >= OLDEST_PYTHON:
        return []
    found = ".".join(map(str, sys.version_info[:2]))
    advice = "Install one and set ansible_python_interpreter to its path."
    return [f"Python {found} ({sys.executable}): the engine needs 3.9 or newer. {advice}"]


def hardware_problems(module: AnsibleModule) -> list[str]:
    """Of devices and of bdevs that need one."""
    options = module.params
    if not options["pci_devices"] and not driven_bdevs(options["bdevs"]):
        return []
    if os.geteuid() != 0:
        return ["iscsi_target_pci_devices: only root can take devices from the kernel. Set become."]
    host = Host()
    there = sum(pool.host.total for pool in Hugepages(host).pools().values())
    declared = sum(sum(wish.places.values()) for wish in parse_pages(options["hugepages"]))
    request = Request(options["pci_devices"], expect_modules=options["expect_modules"])
    return list(device_problems(PciDevices(host, runner(module)), request, options["bdevs"], there + declared))


def live_portals(socket: str, timeout: int) -> list[Portal]:
    """What the engine listens on already; nothing when none runs."""
    try:
        with connect(socket, timeout) as rpc:
            groups = rpc.call("iscsi_get_portal_groups")
    except RpcError:
        return []
    return [live_portal(portal["host"], portal["port"]) for group in groups for portal in group["portals"]]


if __name__ == "__main__":
    main()
