# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Target nodes of the main process, which it has as if it drove their disk N0, and disks that come to it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from cluster import TWO_CORES, Cluster, needs_two_cores, ready
from engine_process import Launch, eventually
from pdu import cdb
from pdu.initiator import Initiator
from pdu.reservation import READ_KEYS, REGISTER, keys, reserve_in_cdb, reserve_out_cdb, reserve_out_list

pytestmark = needs_two_cores

GOOD = 0
BLOCK = 512
ADD_LUN = "iscsi_target_node_add_lun"
BECOMING_READY = (2, 4, 1)

SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.places import Places
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.main import main
Places._of_main = lambda self: {{"N0"}}
sys.exit(main())
"""


@pytest.fixture
def cluster(launch: Launch, tmp_path: Path) -> Cluster:
    script = tmp_path / "engine.py"
    script.write_text(SCRIPT.format(root=str(Path(__file__).resolve().parents[2] / "build" / "collections")))
    cluster = Cluster(launch(*TWO_CORES, archive=script, state=True))
    cluster.engine.rpc("bdev_null_create", name="N0", num_blocks=2048, block_size=BLOCK)
    return cluster


def sense(initiator: Initiator, lun: int) -> tuple[int, int, int] | None:
    """Of a unit that is not ready."""
    outcome = initiator.execute(cdb.unit_ready(), lun=lun)
    return None if outcome.status == GOOD else outcome.response.sense


def test_a_disk_that_comes_from_a_worker_is_not_ready_until_that_is_done(cluster: Cluster) -> None:
    engine, main, other = cluster.engine, cluster.node("main", "N0"), cluster.node("other")
    with main.login() as initiator, other.login() as stays:
        for each in (initiator, stays):
            ready(each)
        assert (cluster.worker_of(main), cluster.worker_of(other)) == (0, 1)
        assert stays.write(reserve_out_cdb(REGISTER), reserve_out_list(0, 7)).status == GOOD
        assert stays.write(cdb.write_10(5, 1), b"5" * BLOCK).status == GOOD
        adding = threading.Thread(
            target=engine.rpc, args=(ADD_LUN,), kwargs={"name": main.name, "bdev_name": "M-other"}
        )
        adding.start()
        eventually(lambda: sense(initiator, 1) == BECOMING_READY, "the LUN that is not ready")
        adding.join()
        eventually(lambda: sense(initiator, 1) is None, "the LUN")
        assert stays.is_closed()
        assert initiator.read(cdb.read_10(5, 1), BLOCK, lun=1).data == b"5" * BLOCK
        assert keys(initiator.read(reserve_in_cdb(READ_KEYS), 1024, lun=1).data)[1] == [7]
    engine.restart()
    with main.login() as initiator, other.login():
        assert (cluster.worker_of(main), cluster.worker_of(other)) == (0, 0)
        eventually(lambda: (sense(initiator, 0), sense(initiator, 1)) == (None, None), "its LUNs after a restart")
