#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_engine
short_description: SPDK's iSCSI target as a service of a host
version_added: 0.2.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Runs C(iscsi_tgt) of an SPDK that is installed on the host. The modules that configure M(openlun.iscsi.engine)
    configure it as well.
  - SPDK forgets its configuration when it ends. It is started with the one that was saved to RV(config), so give that
    file to O(openlun.iscsi.target_config#module:persist) of M(openlun.iscsi.target_config), which saves after each
    change. What was not saved is gone after a restart, as are disks in memory.
  - What the saved configuration names and the host lacks, such as a disk that is missing, is left out at a start and
    does not keep the rest from serving. A saved configuration that is none at all is refused before anything changes.
  - A running target is restarted only when an option that its command line is made of, or one of O(target_options)
    changed, or the program was replaced. The result says so.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.target
attributes:
  check_mode:
    support: full
    details:
      - Works on a host that does not have SPDK yet, too. Hugepages that are missing are a warning then.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - O(state=restarted) restarts the target every time.
options:
  state:
    description:
      - V(started) runs the target and waits until it answers. With systemd it starts at boot, too.
      - V(present) defines the service and leaves it running or stopped as it is.
      - V(restarted) is V(started), with a restart of a target that runs already.
      - V(stopped) ends the target. With systemd it does not start at boot any more.
      - V(absent) ends the target and removes what the module made, except what O(purge) is for.
    type: str
    choices: [started, present, restarted, stopped, absent]
    default: started
  manager:
    description:
      - What runs the target.
      - V(systemd) defines the service C(openlun-iscsi-spdk), which runs as root. Needs root.
      - V(process) starts a process of the user who runs the task, and writes a pid file. It does not start at boot.
      - V(auto) is V(systemd) for root on hosts where systemd is the init, and V(process) otherwise.
    type: str
    choices: [auto, systemd, process]
    default: auto
  program:
    description:
      - Path of C(iscsi_tgt).
      - Without it and O(prefix) it is looked for in C(/usr/bin), C(/usr/sbin) and C(/usr/local/bin).
      - Not together with O(prefix).
    type: path
  prefix:
    description:
      - Directory of an installed SPDK or of its build tree, where C(iscsi_tgt) is in C(bin) or C(build/bin).
    type: path
  home:
    description:
      - One directory for all files of the target, which are in C(spdk) below it.
      - By default root's target has its files in C(/run/openlun-iscsi-spdk), C(/var/lib/openlun-iscsi-spdk) and
        C(/var/log/openlun-iscsi-spdk), and that of other users in C(~/.local/share/openlun-iscsi/spdk).
    type: path
  socket:
    description:
      - Path of the Unix socket on which the target answers JSON-RPC, at most 107 bytes.
      - Default is C(spdk/rpc.sock) in O(home), and V(/run/openlun-iscsi-spdk/rpc.sock) for root without O(home).
    type: path
  group:
    description:
      - A group whose members may use the RPC socket. They can do everything with the target then.
      - By default only the user who runs the target can.
      - Has no effect with O(manager=process).
    type: str
  cpumask:
    description:
      - Cores the target runs on, as a mask such as V(0xF0) or a list such as V([4-7]). SPDK keeps all of them busy.
      - Default is SPDK's own, the first core.
    type: str
  memory:
    description:
      - MiB of memory the target takes at its start.
      - By default it takes from the free hugepages what it needs.
    type: int
  hugepages:
    description:
      - Whether the memory is made of hugepages. Without them SPDK cannot drive devices itself, and needs O(memory).
      - Before a start, the module looks whether enough of them are free.
    type: bool
    default: true
  arguments:
    description:
      - What else SPDK's command line has, such as V(--no-pci).
    type: list
    elements: str
    default: []
  directories:
    description:
      - Directories for files that the target serves. Those that are missing are made, the others stay as they are.
      - O(state=absent) does not remove them.
    type: list
    elements: path
    default: []
  target_options:
    description:
      - Options of the target as a whole, which SPDK takes only before it serves; see
        M(openlun.iscsi.target_options). They are put into the saved configuration, with which SPDK starts.
      - Those that are left out stay what they are. A target that runs with another value is restarted.
    type: dict
    suboptions:
      node_base:
        description: What short names of target nodes are put behind.
        type: str
      immediate_data:
        description: Whether initiators may send data together with a write (ImmediateData).
        type: bool
      allow_duplicated_isid:
        description: Whether a session with the ISID of one that exists leaves that alone, instead of taking its place.
        type: bool
      max_sessions:
        description: How many sessions the target has at most.
        type: int
      max_connections_per_session:
        description: How many connections a session has at most.
        type: int
      max_queue_depth:
        description: The largest queue depth that a target node may have.
        type: int
      default_time2wait:
        description: Seconds an initiator waits before it comes back to a session that broke (DefaultTime2Wait).
        type: int
      default_time2retain:
        description: Seconds in which it can do so (DefaultTime2Retain).
        type: int
      first_burst_length:
        description: Bytes an initiator may send with a write before it is asked (FirstBurstLength).
        type: int
      error_recovery_level:
        description: The highest error recovery level that is offered.
        type: int
      nop_timeout:
        description: Seconds after which an initiator that does not answer a ping is dropped.
        type: int
      nop_in_interval:
        description: Seconds between pings, V(0) for none.
        type: int
      max_large_datain_per_connection:
        description: How many large reads a connection has under way at most.
        type: int
      max_r2t_per_connection:
        description: How many requests for the data of writes a connection has under way at most.
        type: int
      pdu_pool_size:
        description: Number of PDUs in SPDK's pool.
        type: int
      immediate_data_pool_size:
        description: Number of buffers in SPDK's pool for immediate data.
        type: int
      data_out_pool_size:
        description: Number of buffers in SPDK's pool for the data of writes.
        type: int
  timeout:
    description:
      - How many seconds the target may take to start, and to end.
    type: int
    default: 60
  force:
    description:
      - Kill a target that did not end in O(timeout) seconds, with O(manager=process).
    type: bool
    default: false
  purge:
    description:
      - With O(state=absent), remove the saved configuration and the log as well.
    type: bool
    default: false
seealso:
  - module: openlun.iscsi.engine
  - module: openlun.iscsi.target_config
  - module: openlun.iscsi.hugepages
"""

EXAMPLES = r"""
- name: SPDK's target on cores 4 and 5, with 1 GiB of hugepages
  openlun.iscsi.spdk_engine:
    prefix: /opt/spdk
    cpumask: "[4-5]"
    memory: 1024
    group: storage
  become: true
  register: spdk

- name: What it serves, also after a boot
  openlun.iscsi.target_config:
    socket: "{{ spdk.socket }}"
    persist: "{{ spdk.config }}"
    bdevs: [{name: Malloc0, type: malloc, size: 64MiB}]
  become: true

- name: Remove it, and what was saved
  openlun.iscsi.spdk_engine:
    state: absent
    purge: true
  become: true
"""

RETURN = r"""
program:
  description: Path of C(iscsi_tgt); V(null) when it was not found, in check mode and with O(state=absent).
  returned: success
  type: str
  sample: /opt/spdk/build/bin/iscsi_tgt
socket:
  description: Path of the RPC socket.
  returned: success
  type: str
  sample: /run/openlun-iscsi-spdk/rpc.sock
config:
  description: The saved configuration with which the target starts.
  returned: success
  type: str
  sample: /var/lib/openlun-iscsi-spdk/config.json
pid:
  description: Number of the target's process; V(null) when it does not run, and in check mode when it would be started.
  returned: success
  type: int
  sample: 4711
manager:
  description: What runs the target, V(systemd) or V(process).
  returned: success
  type: str
  sample: systemd
restarted:
  description: Whether a running target was restarted.
  returned: success
  type: bool
  sample: false
reason:
  description: Why the target was started or restarted; empty when it was not.
  returned: success
  type: str
  sample: its options changed
actions:
  description: What was done, or what would be done in check mode, in this order.
  returned: success
  type: list
  elements: dict
  contains:
    action:
      description: Such as V(create), V(write), V(start), V(restart) and V(remove).
      type: str
      returned: always
    object:
      description: What it was done to.
      type: str
      returned: always
    why:
      description: What made it necessary.
      type: str
      returned: always
  sample:
    - action: start
      object: engine
      why: it was not running
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openlun.iscsi.plugins.module_utils._service.declared import declared_options
from ansible_collections.openlun.iscsi.plugins.module_utils._service.errors import ServiceError
from ansible_collections.openlun.iscsi.plugins.module_utils._service.free_hugepages import check_free
from ansible_collections.openlun.iscsi.plugins.module_utils._service.layout import user_home
from ansible_collections.openlun.iscsi.plugins.module_utils._service.manager import (
    SYSTEMD_RUNS,
    Completed,
    Manager,
    choose,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._service.options import StartOptions
from ansible_collections.openlun.iscsi.plugins.module_utils._service.readiness import ask_options
from ansible_collections.openlun.iscsi.plugins.module_utils._service.service import Outcome, Request
from ansible_collections.openlun.iscsi.plugins.module_utils._service.spdk import (
    SYSTEM_PROGRAMS,
    SpdkSettings,
    ask_spdk,
    find_program,
    not_found,
    spdk_layout,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._service.spdk_manager import (
    SpdkProcessManager,
    SpdkSystemdManager,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._service.spdk_service import SpdkService
from ansible_collections.openlun.iscsi.plugins.module_utils._state.arguments import config_arguments
from ansible_collections.openlun.iscsi.plugins.module_utils._state.base import TARGET_OPTIONS

ARGUMENTS: dict[str, Any] = {
    "state": {
        "type": "str",
        "choices": ["started", "present", "restarted", "stopped", "absent"],
        "default": "started",
    },
    "manager": {"type": "str", "choices": ["auto", "systemd", "process"], "default": "auto"},
    "program": {"type": "path"},
    "prefix": {"type": "path"},
    "home": {"type": "path"},
    "socket": {"type": "path"},
    "group": {"type": "str"},
    "cpumask": {"type": "str"},
    "memory": {"type": "int"},
    "hugepages": {"type": "bool", "default": True},
    "arguments": {"type": "list", "elements": "str", "default": []},
    "directories": {"type": "list", "elements": "path", "default": []},
    TARGET_OPTIONS: config_arguments()[TARGET_OPTIONS],
    "timeout": {"type": "int", "default": 60},
    "force": {"type": "bool", "default": False},
    "purge": {"type": "bool", "default": False},
}
NEEDS_PROGRAM = ("started", "present", "restarted")


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS, mutually_exclusive=[("program", "prefix")], supports_check_mode=True
    )
    try:
        result = bring(module)
    except ServiceError as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(**result)


def bring(module: AnsibleModule) -> dict[str, Any]:
    """Do what the options ask for and give the result. Raises ServiceError."""
    options = module.params
    program = find_program(options["program"], options["prefix"])
    if program is None and options["state"] in NEEDS_PROGRAM:
        missing = not_found(options["program"], options["prefix"])
        if not module.check_mode:
            raise missing
        module.warn(f"{missing} Check mode goes on as if it were there.")
    settings = SpdkSettings(
        layout=spdk_layout(options["home"], options["socket"], os.geteuid(), user_home(os.geteuid())),
        program=program or options["program"] or SYSTEM_PROGRAMS[0],
        cpumask=options["cpumask"],
        memory=options["memory"],
        hugepages=options["hugepages"],
        group=options["group"],
        arguments=tuple(options["arguments"]),
    )
    if not settings.hugepages and settings.memory is None and options["state"] in NEEDS_PROGRAM:
        raise ServiceError("memory: SPDK without hugepages has to be told how many MiB it may take. Set memory.")
    manager = make_manager(module, settings)
    paths = settings.layout
    target_options = StartOptions(
        declared_options(options[TARGET_OPTIONS]), paths.state_dir, manager.owner, lambda: ask_options(paths.socket)
    )
    service = SpdkService(
        settings,
        manager,
        lambda: ask_spdk(paths.socket),
        not module.check_mode,
        target_options,
        lambda: check_memory(module, settings),
    )
    request = Request(options["state"], None, options["force"], options["purge"], options["timeout"])
    return told(service.bring(request), program, settings, manager)


def check_memory(module: AnsibleModule, settings: SpdkSettings) -> None:
    """Raises ServiceError when there are too few hugepages for a start; those to come are not there in check mode."""
    if not settings.hugepages:
        return
    try:
        check_free(settings.memory)
    except ServiceError as error:
        if not module.check_mode:
            raise
        module.warn(str(error))


def make_manager(module: AnsibleModule, settings: SpdkSettings) -> Manager:
    """The manager that the options and the host call for. Raises ServiceError."""
    options = module.params
    timeout = options["timeout"]

    def ask() -> Any:
        return ask_spdk(settings.layout.socket)

    def run(command: list[str]) -> Completed:
        return Completed(*module.run_command(command, handle_exceptions=True))

    if choose(options["manager"], os.geteuid()) == "process":
        return SpdkProcessManager(settings, ask, timeout, options["directories"])
    if os.geteuid() != 0:
        raise ServiceError("manager systemd: only root may define services. Set become, or manager to process.")
    if not os.path.isdir(SYSTEMD_RUNS):
        raise ServiceError("manager systemd: systemd is not the init of this host. Set manager to process.")
    return SpdkSystemdManager(settings, ask, timeout, run, options["directories"])


def told(outcome: Outcome, program: str | None, settings: SpdkSettings, manager: Manager) -> dict[str, Any]:
    """The module's result."""
    return {
        "changed": bool(outcome.actions),
        "actions": outcome.actions,
        "program": program,
        "socket": settings.layout.socket,
        "config": settings.config,
        "pid": outcome.pid,
        "manager": manager.name,
        "restarted": outcome.restarted,
        "reason": outcome.reason,
        "diff": {"before": outcome.before, "after": outcome.after},
    }


if __name__ == "__main__":
    main()
