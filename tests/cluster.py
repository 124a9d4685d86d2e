# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine on two cores: a worker process on each, and everything else as with one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import pytest
from engine_process import Engine, Target, eventually, on_cores
from pdu import cdb
from pdu.initiator import Initiator

TWO_CORES: Final = on_cores(2)
needs_two_cores: Final = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core only")


class Cluster:
    """An engine with two workers and some target nodes, each on a disk of its own unless told otherwise."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        engine.initiator_group()
        self.port = engine.portal_group()

    def node(self, name: str, *bdevs: str) -> Target:
        """On a new memory disk when no bdev is given."""
        return Target(self.engine, self.port, self.engine.node(name, *(bdevs or [self.engine.malloc(f"M-{name}", 8)])))

    def workers(self) -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = self.engine.rpc("engine_get_info")["workers"]
        return shown

    def pid_of(self, number: int) -> int:
        pid: int = self.workers()[number - 1]["pid"]
        return pid

    def worker_of(self, target: Target) -> int:
        """The number of the worker that serves the node; somebody has to be logged in."""
        (name,) = {
            each["thread_name"]
            for each in self.engine.rpc("iscsi_get_connections")
            if f":{each['target_node_name']}" == target.name[target.name.index(":") :]
        }
        return int(name.rpartition("_")[2])

    def kill(self, number: int) -> None:
        """The process, and wait until there is another one that serves."""
        pid = self.pid_of(number)
        os.kill(pid, 9)
        self.is_back(number, pid)

    def is_back(self, number: int, old_pid: int) -> None:
        def is_new() -> bool:
            worker = self.workers()[number - 1]
            return worker["pid"] != old_pid and bool(worker["ready"])

        eventually(is_new, f"another worker {number}")

    def processes(self) -> list[int]:
        assert self.engine.process
        return [self.engine.process.pid, *(worker["pid"] for worker in self.workers())]


def ready(initiator: Initiator) -> Initiator:
    """After the unit attentions that wait for it."""
    eventually(lambda: initiator.execute(cdb.unit_ready()).status == 0, "a unit that is ready")
    return initiator


def is_there(pid: int) -> bool:
    """A process that runs, and is not only waited for by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
