#!/usr/bin/python
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: engine
short_description: The target engine as a service of a host
version_added: 0.1.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Installs the iSCSI target engine of this collection on a host and runs it.
  - The engine is one file, which needs nothing but Python 3.9 or newer on the host. The controller builds it and sends
    it only to hosts that do not have it yet.
  - A running engine is restarted only when the content of that file, one of the options that its command line is
    made of, or one of O(target_options) changed. The result says so. Disks in memory are empty after it.
extends_documentation_fragment:
  - openlun.iscsi._attributes
  - openlun.iscsi._attributes.target
attributes:
  check_mode:
    support: full
    details:
      - Works on a host that does not have the engine yet, too.
  diff_mode:
    support: full
    details:
      - Of the archive, version and checksum are shown.
  idempotent:
    support: partial
    details:
      - O(state=restarted) restarts the engine every time.
options:
  state:
    description:
      - V(started) installs the engine, runs it, and waits until it answers. With systemd it starts at boot, too.
      - V(present) installs the engine and leaves it running or stopped as it is.
      - V(restarted) is V(started), with a restart of an engine that runs already.
      - V(stopped) ends the engine. With systemd it does not start at boot any more.
      - V(absent) ends the engine and removes what the module made, except what O(purge) is for.
    type: str
    choices: [started, present, restarted, stopped, absent]
    default: started
  manager:
    description:
      - What runs the engine.
      - V(systemd) defines the service C(openlun-iscsi), which runs as a system user of the same name, or as root
        with O(privileged). Needs root.
      - V(process) starts a process of the user who runs the task, and writes a pid file. It does not start at boot.
      - V(auto) is V(systemd) for root on hosts where systemd is the init, and V(process) otherwise.
    type: str
    choices: [auto, systemd, process]
    default: auto
  home:
    description:
      - One directory for all files of the engine, the archive C(openlun-iscsi.pyz), the RPC socket C(rpc.sock),
        C(engine.pid), C(engine.log) and the saved configuration in C(state).
      - By default root's engine has its files in C(/opt/openlun-iscsi), C(/run/openlun-iscsi),
        C(/var/lib/openlun-iscsi) and C(/var/log/openlun-iscsi), and that of other users in
        C(~/.local/share/openlun-iscsi).
    type: path
  socket:
    description:
      - Path of the Unix socket on which the engine answers JSON-RPC, at most 107 bytes.
      - Default is C(rpc.sock) in O(home), and V(/run/openlun-iscsi/rpc.sock) for root without O(home).
    type: path
  python:
    description:
      - Python interpreter on the host that runs the engine, version 3.9 or newer.
      - Default is the one that Ansible uses on the host.
    type: path
  cpumask:
    description:
      - Cores the engine runs on, as a mask such as V(0xF0) or a list such as V([4-7]).
      - With several cores a worker process runs on each, and serves its share of the target nodes. With one core,
        or without this option, a single process does everything.
      - Default is one process on all cores.
    type: str
  spin:
    description:
      - For how many microseconds the engine looks for the next command after each one before it sleeps, at most
        V(1000). V(0) is never.
      - Shortens the answers to initiators that wait for each one, by what it takes to wake up. It costs up to a core
        while there is traffic, and nothing while there is none.
      - Default is where it pays. The engine looks for 50 microseconds after a command or two that came alone, as long
        as most of them are followed by another one in that time. That takes about as much processor time as sleeping.
    version_added: 0.2.0
    type: int
  log_level:
    description:
      - What the engine logs.
      - Default is the engine's own, V(NOTICE).
    type: str
    choices: [ERROR, WARNING, NOTICE, INFO, DEBUG]
  drain_seconds:
    description:
      - How many seconds initiators may take to log out when the engine ends, at most V(3600).
      - Default is the engine's own. With O(manager=process), O(timeout) has to be longer.
    version_added: 0.2.0
    type: int
  http:
    description:
      - Management over HTTP, which is calls, metrics for Prometheus, a health check and a status page.
      - Default is none.
    version_added: 0.2.0
    type: dict
    suboptions:
      address:
        description:
          - Where to listen, as C(ADDRESS:PORT) or C([IPV6-ADDRESS]:PORT).
          - An address that others can reach needs O(http.certificate) and O(http.credentials).
        type: str
        required: true
      certificate:
        description: File on the host with the certificate for TLS, and its chain, in PEM. The engine's user reads it.
        type: path
      key:
        description: File on the host with the key of the certificate, when that is in a file of its own.
        type: path
      credentials:
        description:
          - Who may use it, C(user:password) or a token each. Without it the pages can be read on the host, and nobody
            can make calls.
          - They are kept in a file beside the saved configuration that only the engine's user can read. The running
            engine takes new ones without a restart.
        type: list
        elements: str
  groups:
    description:
      - Supplementary groups of the system user, such as V(disk) to serve block devices of the host.
      - Has no effect with O(manager=process).
    type: list
    elements: str
    default: []
  privileged:
    description:
      - Whether the service runs as root instead of its own user, and may reach devices by C(/sys) and lock memory. A
        driver in user space, which is what the type V(nvme) of M(openlun.iscsi.bdev) uses, needs it.
      - Has no effect with O(manager=process).
    version_added: 0.2.0
    type: bool
    default: false
  directories:
    description:
      - Directories for files that the engine serves. Those that are missing are made, and belong to the user who runs
        the engine. The others stay as they are.
      - O(state=absent) does not remove them.
    type: list
    elements: path
    default: []
  target_options:
    description:
      - Options of the target as a whole, which an engine takes only before it serves; see
        M(openlun.iscsi.target_options). They are saved, so that the engine starts with them from now on.
      - Those that are left out stay what they are. An engine that runs with another value is restarted.
    version_added: 0.1.0
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
      - How many seconds the engine may take to start, and to end.
    type: int
    default: 60
  force:
    description:
      - Kill an engine that did not end in O(timeout) seconds, with O(manager=process).
    type: bool
    default: false
  purge:
    description:
      - With O(state=absent), remove the saved configuration, the log and the system user as well.
      - Files that the engine serves are never removed; M(openlun.iscsi.bdev) does that.
    type: bool
    default: false
  archive:
    description:
      - What the controller can send to the host. The module's action plugin fills it in; leave it out.
    type: dict
    suboptions:
      version:
        description: Version of the engine.
        type: str
      checksum:
        description: SHA-256 of the engine's archive.
        type: str
seealso:
  - module: openlun.iscsi.target_config
  - module: openlun.iscsi.target_info
"""

EXAMPLES = r"""
- name: A target on this host
  openlun.iscsi.engine:
  become: true

- name: A target without root, everything in one directory
  openlun.iscsi.engine:
    home: "{{ ansible_facts.user_dir }}/iscsi"

- name: On cores 4 to 7, quick to answer, with access to the disks of the host
  openlun.iscsi.engine:
    cpumask: "[4-7]"
    spin: 50
    groups: [disk]
  become: true

- name: With names of its own, and room for more commands
  openlun.iscsi.engine:
    target_options:
      node_base: iqn.2024-01.com.example.storage
      max_queue_depth: 128
  become: true

- name: With metrics for Prometheus, and calls for who has the token
  openlun.iscsi.engine:
    http:
      address: 0.0.0.0:8260
      certificate: /etc/ssl/private/target.pem
      credentials: ["{{ iscsi_token }}"]
  become: true

- name: Remove the target and all it remembers
  openlun.iscsi.engine:
    state: absent
    purge: true
  become: true
"""

RETURN = r"""
version:
  description: Version of the engine; V(null) when none is installed.
  returned: success
  type: str
  sample: 0.1.0
checksum:
  description: SHA-256 of the engine's archive; V(null) when none is installed.
  returned: success
  type: str
  sample: 5f7c3ad9a3c8dd8c2f5a9d5c9c4b0f5f6ce1d0b5d3a1c6a0c2b2ef1e3cd2a7f1
archive:
  description: Path of the engine's archive, which can be executed to speak to the engine by hand.
  returned: success
  type: str
  sample: /opt/openlun-iscsi/openlun-iscsi.pyz
socket:
  description: Path of the RPC socket.
  returned: success
  type: str
  sample: /run/openlun-iscsi/rpc.sock
state_dir:
  description: Directory of the saved configuration.
  returned: success
  type: str
  sample: /var/lib/openlun-iscsi
pid:
  description: Number of the engine's process; V(null) when it does not run, and in check mode when it would be started.
  returned: success
  type: int
  sample: 4711
manager:
  description: What runs the engine, V(systemd) or V(process).
  returned: success
  type: str
  sample: systemd
restarted:
  description: Whether a running engine was restarted. Its initiators log in again by themselves.
  returned: success
  type: bool
  sample: false
reason:
  description: Why the engine was started or restarted; empty when it was not.
  returned: success
  type: str
  sample: the archive's content changed from 0.1.0 (sha256 5f7c3ad9a3c8) to 0.2.0 (sha256 2b1f2d7f63a0)
actions:
  description: What was done, or what would be done in check mode, in this order.
  returned: success
  type: list
  elements: dict
  contains:
    action:
      description: Such as V(create), V(install), V(start), V(restart) and V(remove).
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
    - action: restart
      object: engine
      why: its options changed
"""

import os
import sys
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.facts import MAX_SPIN_MICROSECONDS
from ansible_collections.openlun.iscsi.plugins.module_utils._service.declared import declared_options
from ansible_collections.openlun.iscsi.plugins.module_utils._service.errors import ServiceError
from ansible_collections.openlun.iscsi.plugins.module_utils._service.installed import Installed
from ansible_collections.openlun.iscsi.plugins.module_utils._service.interpreter import check_interpreter
from ansible_collections.openlun.iscsi.plugins.module_utils._service.layout import layout, user_home
from ansible_collections.openlun.iscsi.plugins.module_utils._service.manager import Completed, Manager, choose
from ansible_collections.openlun.iscsi.plugins.module_utils._service.options import StartOptions
from ansible_collections.openlun.iscsi.plugins.module_utils._service.process import ProcessManager
from ansible_collections.openlun.iscsi.plugins.module_utils._service.readiness import ask_engine, ask_options
from ansible_collections.openlun.iscsi.plugins.module_utils._service.service import Outcome, Request, Service
from ansible_collections.openlun.iscsi.plugins.module_utils._service.settings import Settings
from ansible_collections.openlun.iscsi.plugins.module_utils._service.systemd import SystemdManager
from ansible_collections.openlun.iscsi.plugins.module_utils._service.web import CredentialsFile, Web
from ansible_collections.openlun.iscsi.plugins.module_utils._state.arguments import config_arguments
from ansible_collections.openlun.iscsi.plugins.module_utils._state.base import TARGET_OPTIONS

ARGUMENTS: dict[str, Any] = {
    "state": {
        "type": "str",
        "choices": ["started", "present", "restarted", "stopped", "absent"],
        "default": "started",
    },
    "manager": {"type": "str", "choices": ["auto", "systemd", "process"], "default": "auto"},
    "home": {"type": "path"},
    "socket": {"type": "path"},
    "python": {"type": "path"},
    "cpumask": {"type": "str"},
    "spin": {"type": "int"},
    "log_level": {"type": "str", "choices": ["ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"]},
    "drain_seconds": {"type": "int"},
    "http": {
        "type": "dict",
        "options": {
            "address": {"type": "str", "required": True},
            "certificate": {"type": "path"},
            "key": {"type": "path", "no_log": False},
            "credentials": {"type": "list", "elements": "str", "no_log": True},
        },
    },
    "groups": {"type": "list", "elements": "str", "default": []},
    "privileged": {"type": "bool", "default": False},
    "directories": {"type": "list", "elements": "path", "default": []},
    TARGET_OPTIONS: config_arguments()[TARGET_OPTIONS],
    "timeout": {"type": "int", "default": 60},
    "force": {"type": "bool", "default": False},
    "purge": {"type": "bool", "default": False},
    "archive": {"type": "dict", "options": {"version": {"type": "str"}, "checksum": {"type": "str"}}},
}


_PROVIDES = ("started", "present", "restarted")
_MOST = {"drain_seconds": 3600, "spin": MAX_SPIN_MICROSECONDS}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = bring(module)
    except ServiceError as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(**result)


def bring(module: AnsibleModule) -> dict[str, Any]:
    """Do what the options ask for and give the result. Raises ServiceError."""
    options = module.params
    web = Web.of(options["http"]) if options["state"] in _PROVIDES else None
    for name, most in _MOST.items():
        if not 0 <= (options[name] or 0) <= most:
            raise ServiceError(f"{name}: not between 0 and {most}.")
    settings = Settings(
        layout=layout(options["home"], options["socket"], os.geteuid(), user_home(os.geteuid())),
        python=options["python"] or sys.executable,
        cpumask=options["cpumask"],
        spin=options["spin"],
        log_level=options["log_level"],
        groups=tuple(options["groups"]),
        privileged=options["privileged"],
        drain_seconds=options["drain_seconds"],
        http=web,
    )
    manager = make_manager(module, settings)
    if options["state"] in _PROVIDES:
        check_interpreter(settings.python, runner(module))
    paths = settings.layout
    target_options = StartOptions(
        declared_options(options[TARGET_OPTIONS]), paths.state_dir, manager.owner, lambda: ask_options(paths.socket)
    )
    service = Service(
        settings,
        manager,
        lambda: ask_engine(paths.socket),
        apply=not module.check_mode,
        options=target_options,
        credentials=CredentialsFile(paths, web.credentials if web is not None else (), manager.owner),
    )
    outcome = service.bring(
        Request(
            state=options["state"],
            wanted=Installed(**options["archive"]) if options["archive"] else None,
            force=options["force"],
            purge=options["purge"],
            timeout=options["timeout"],
        )
    )
    return told(outcome, settings, manager)


def make_manager(module: AnsibleModule, settings: Settings) -> Manager:
    """The manager that the options and the host call for. Raises ServiceError."""
    options = module.params
    timeout = options["timeout"]

    def ask() -> Any:
        return ask_engine(settings.layout.socket)

    if choose(options["manager"], os.geteuid()) == "process":
        return ProcessManager(settings, ask, timeout, options["directories"])
    if os.geteuid() != 0:
        raise ServiceError("manager systemd: only root may define services. Set become, or manager to process.")
    return SystemdManager(settings, ask, timeout, runner(module), options["directories"])


def runner(module: AnsibleModule) -> Any:
    def run(command: list[str]) -> Completed:
        return Completed(*module.run_command(command, handle_exceptions=True))

    return run


def told(outcome: Outcome, settings: Settings, manager: Manager) -> dict[str, Any]:
    """The module's result."""
    paths = settings.layout
    result: dict[str, Any] = {
        "changed": bool(outcome.actions),
        "actions": outcome.actions,
        "version": outcome.archive.version if outcome.archive else None,
        "checksum": outcome.archive.checksum if outcome.archive else None,
        "archive": paths.archive,
        "socket": paths.socket,
        "state_dir": paths.state_dir,
        "pid": outcome.pid,
        "manager": manager.name,
        "restarted": outcome.restarted,
        "reason": outcome.reason,
        "diff": {"before": outcome.before, "after": outcome.after},
    }
    if outcome.needs_archive:
        result["_needs_archive"] = True
    return result


if __name__ == "__main__":
    main()
