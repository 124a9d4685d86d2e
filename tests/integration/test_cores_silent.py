# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers that do not answer: everything that is not about their target nodes goes on, and the engine ends in time."""

from __future__ import annotations

import os
import signal

import pytest
from cluster import Cluster, is_there, needs_two_cores, ready
from engine_process import eventually
from pdu import cdb
from pdu.checks import answers_pings
from pdu.reservation import READ_KEYS, REGISTER, keys, reserve_in_cdb, reserve_out_cdb, reserve_out_list

pytestmark = needs_two_cores

GOOD = 0
END_SECONDS = 30
"""Less than it takes to wait for a worker that flushes."""


def test_changes_and_numbers_of_others_do_not_wait_until_it_is_replaced(cluster: Cluster) -> None:
    silent, other = cluster.node("silent"), cluster.node("other")
    engine = cluster.engine
    with other.login() as initiator:
        ready(initiator)
        pid = cluster.pid_of(1)
        os.kill(pid, signal.SIGSTOP)
        engine.malloc("New", 8)
        engine.rpc("iscsi_target_node_add_lun", name=other.name, bdev_name="New")
        eventually(lambda: initiator.execute(cdb.unit_ready(), lun=1).status == GOOD, "LUN 1")
        assert {each["name"] for each in engine.rpc("bdev_get_iostat")["bdevs"]} == {"M-silent", "M-other", "New"}
        assert [each["thread_name"] for each in engine.rpc("iscsi_get_connections")] == ["iscsi_poll_group_2"]
        assert cluster.pid_of(1) == pid
        os.kill(pid, signal.SIGCONT)
        with silent.login() as back:
            assert ready(back).tsih
        assert [worker["restarts"] for worker in cluster.workers()] == [0, 0]


def test_its_target_nodes_can_be_deleted(cluster: Cluster) -> None:
    silent, other = cluster.node("silent"), cluster.node("other")
    with silent.login() as gone, other.login() as initiator:
        ready(gone), ready(initiator)
        os.kill(cluster.pid_of(1), signal.SIGSTOP)
        cluster.engine.rpc("iscsi_delete_target_node", name=silent.name)
        assert gone.is_closed()
        assert answers_pings(initiator)
    assert [worker["restarts"] for worker in cluster.workers()] == [1, 0]


def test_its_target_nodes_can_go_to_another_worker(cluster: Cluster) -> None:
    other, silent = cluster.node("other"), cluster.node("silent")
    with silent.login() as initiator:
        out = ready(initiator).write(reserve_out_cdb(REGISTER), reserve_out_list(0, 7))
        assert (out.status, cluster.worker_of(silent)) == (GOOD, 2)
    os.kill(cluster.pid_of(2), signal.SIGSTOP)
    cluster.engine.rpc("iscsi_target_node_add_lun", name=silent.name, bdev_name="M-other")
    with silent.login() as initiator, other.login() as stays:
        assert keys(ready(initiator).read(reserve_in_cdb(READ_KEYS), 1024).data)[1] == [7]
        assert ready(stays).tsih
        assert cluster.worker_of(silent) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_the_engine_ends_in_time(cluster: Cluster, count: int) -> None:
    silent = cluster.node("silent")
    processes = cluster.processes()
    with silent.login() as initiator:
        ready(initiator)
        for pid in processes[1 : 1 + count]:
            os.kill(pid, signal.SIGSTOP)
        process = cluster.engine.process
        assert process
        process.terminate()
        assert process.wait(END_SECONDS) == 0
    assert not [pid for pid in processes if is_there(pid)]
