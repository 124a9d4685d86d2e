# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rpc_*, spdk_*, framework_*, thread_*, iobuf_* and engine_get_info: the process and its configuration."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ... import __version__
from ...bdev.histogram import TICK_RATE
from ...process import cpumask
from .. import merging
from ..method import INVALID_ARGUMENTS, INVALID_PARAMS, Method, Order, RpcError, Spread, State
from ..schema import boolean, choice, optional, required, string

if TYPE_CHECKING:
    from ...service import Engine

_APP_THREAD: Final = "app_thread"
"""SPDK's names; here this and iscsi_poll_group_0 are the event loop, and its time counts for the second."""

EXTENSIONS: Final = (
    "bdev_aio_create.direct",
    "bdev_aio_create.size",
    "bdev_aio_create.sparse",
    "bdev_aio_delete.remove_file",
    "bdev_aio_resize",
    "bdev_raid_create.base_blocks",
    "bdev_raid_create.num_base_bdevs",
    "bdev_split_create.split_blocks",
    "engine_apply",
    "iscsi_create_target_node.luns.initiator_groups",
    "iscsi_create_target_node.luns.readonly",
    "iscsi_create_target_node.luns.removable",
    "iscsi_create_target_node.without_lun_0",
    "iscsi_get_connections.bytes_received",
    "iscsi_get_connections.commands",
    "iscsi_get_connections.initiator_name",
    "iscsi_get_masked_auth_groups",
    "iscsi_get_portal_groups.chap_group",
    "iscsi_get_target_nodes.access_states",
    "iscsi_get_target_nodes.disabled",
    "iscsi_get_target_nodes.redirects",
    "iscsi_portal_group_add_portals",
    "iscsi_portal_group_remove_portals",
    "iscsi_portal_group_set_auth.inherit",
    "iscsi_target_node_add_lun.readonly",
    "iscsi_target_node_add_lun.removable",
    "iscsi_target_node_disable",
    "iscsi_target_node_enable",
    "iscsi_target_node_remove_lun",
    "iscsi_target_node_set_access_state",
    "iscsi_target_node_set_lun_mask",
    "iscsi_target_node_set_options",
    "iscsi_target_node_set_redirect.permanent",
)
"""Where the engine goes beyond SPDK's methods."""


def get_methods(engine: Engine, current: bool, include_aliases: bool) -> list[str]:
    """There are no aliases."""
    del include_aliases
    methods = engine.dispatcher.methods.values()
    return [method.name for method in methods if not current or method.state & engine.dispatcher.state]


def get_version(_engine: Engine) -> dict[str, Any]:
    major, minor, patch = (int(part) for part in __version__.split("."))
    return {
        "version": f"openlun-iscsi v{__version__}",
        "fields": {"major": major, "minor": minor, "patch": patch, "suffix": ""},
    }


def kill_instance(_engine: Engine, sig_name: str) -> bool:
    os.kill(os.getpid(), _SIGNALS[sig_name])
    return True


async def start_init(engine: Engine) -> bool:
    await engine.start_init()
    return True


async def wait_init(engine: Engine) -> bool:
    await engine.initialized.wait()
    return True


def get_subsystems(engine: Engine) -> list[dict[str, Any]]:
    return [{"subsystem": name, "depends_on": list(depends)} for name, depends in engine.subsystems.items()]


def get_config(engine: Engine, name: str, with_batches: bool) -> list[dict[str, Any]] | None:
    """Batches are never recorded, so that with and without them is the same."""
    del with_batches
    if name not in engine.subsystems:
        raise RpcError(INVALID_PARAMS, f"Subsystem '{name}' not found")
    entries = engine.configuration_of(name)
    return None if entries is None else [entry.to_json() for entry in entries]


def get_reactors(engine: Engine) -> dict[str, Any]:
    times = os.times()
    busy, elapsed = _busy(), time.monotonic_ns() - engine.started_ns
    core = min(os.sched_getaffinity(0))
    reactor = {
        "lcore": core,
        "numa_id": _numa_node(core),
        "tid": os.getpid(),
        "busy": busy,
        "idle": max(elapsed - busy, 0),
        "in_interrupt": True,
        "irq": 0,
        "sys": int(times.system * _CLOCK_TICKS),
        "usr": int(times.user * _CLOCK_TICKS),
        "lw_threads": [
            {"name": name, "id": number, "cpumask": cpumask(), "elapsed": elapsed} for number, name in _threads(engine)
        ],
    }
    return {"tick_rate": TICK_RATE, "pid": os.getpid(), "reactors": [reactor]}


def get_thread_stats(engine: Engine) -> dict[str, Any]:
    busy = _busy()
    idle = max(time.monotonic_ns() - engine.started_ns - busy, 0)
    threads = [
        {
            "name": name,
            "id": number,
            "cpumask": cpumask(),
            "busy": 0 if name == _APP_THREAD else busy,
            "idle": idle,
            "active_pollers_count": 0,
            "timed_pollers_count": 0,
            "paused_pollers_count": 0,
        }
        for number, name in _threads(engine)
    ]
    return {"tick_rate": TICK_RATE, "threads": threads}


def _threads(engine: Engine) -> list[tuple[int, str]]:
    """Numbers and names of this process; a worker has its own poll group and no more."""
    worker = engine.settings.worker
    if worker is not None:
        return [(worker.number + 2, f"iscsi_poll_group_{worker.number}")]
    return [(1, _APP_THREAD), (2, "iscsi_poll_group_0")]


def get_iobuf_stats(_engine: Engine) -> list[dict[str, Any]]:
    """The engine has no buffer pools that could run out."""
    return []


def get_info(engine: Engine) -> dict[str, Any]:
    """Ours: tells that this is the collection's own engine, which one, and what of its saved state is missing."""
    return {
        "name": "openlun-iscsi",
        "version": __version__,
        "checksum": engine.checksum,
        "pid": os.getpid(),
        "state_dir": engine.settings.state_dir,
        "socket": engine.settings.socket,
        "extensions": list(EXTENSIONS),
        "unrestored": [left.to_rpc() for left in engine.store.unrestored],
        **({"workers": engine.fleet.to_rpc()} if engine.fleet is not None else {}),
    }


def _numa_node(core: int) -> int:
    nodes = Path(f"/sys/devices/system/cpu/cpu{core}").glob("node[0-9]*")
    return min((int(node.name[len("node") :]) for node in nodes), default=0)


def _busy() -> int:
    """Processor time used, in ticks."""
    return time.process_time_ns()


_CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SIGNALS: Final = {
    name: getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGKILL", "SIGUSR1")
}

METHODS: Final = (
    Method(
        "rpc_get_methods",
        get_methods,
        {"current": optional(boolean, False), "include_aliases": optional(boolean, False)},
        state=State.BOTH,
    ),
    Method("spdk_get_version", get_version, state=State.BOTH),
    Method("spdk_kill_instance", kill_instance, {"sig_name": required(choice(*_SIGNALS))}, state=State.BOTH),
    # What was set before the initialization is saved with it.
    Method("framework_start_init", start_init, state=State.STARTUP, mutates=True, spread=Spread.MAIN),
    Method("framework_wait_init", wait_init, state=State.BOTH, order=Order.DETACHED),
    Method(
        "framework_get_subsystems",
        get_subsystems,
        state=State.BOTH,
        takes_nothing="'framework_get_subsystems' requires no arguments",
    ),
    Method(
        "framework_get_config",
        get_config,
        {"name": required(string()), "with_batches": optional(boolean, False)},
        refusal=INVALID_ARGUMENTS,
    ),
    Method("framework_get_reactors", get_reactors, spread=Spread.GATHERED, merge=merging.listed("reactors")),
    Method("thread_get_stats", get_thread_stats, spread=Spread.GATHERED, merge=merging.listed("threads")),
    Method("iobuf_get_stats", get_iobuf_stats),
    Method("engine_get_info", get_info, state=State.BOTH),
)
