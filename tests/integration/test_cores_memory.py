# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in a worker's memory only: for initiators its end is a lost connection, after which all is as it was."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from cluster import Cluster, needs_two_cores, ready
from engine_process import Target, eventually
from pdu import cdb
from pdu import reservation as persistent
from pdu.initiator import Closed, Initiator

pytestmark = needs_two_cores

BLOCK = 512
GOOD = 0
OTHER_ISID = b"\x80\x00\x00\x00\x00\x42"
NO_MEDIUM, NEXUS_LOST, SANITIZE_FAILED = (2, 0x3A, 0), (6, 0x29, 7), (3, 0x31, 3)


def reserve(initiator: Initiator, action: int, key: int, new: int = 0, flags: int = 0) -> int:
    cdb_ = persistent.reserve_out_cdb(action, persistent.WRITE_EXCLUSIVE if action == persistent.RESERVE else 0)
    return initiator.write(cdb_, persistent.reserve_out_list(key, new, flags)).status


def reserved(initiator: Initiator) -> tuple[tuple[int, list[int]], tuple[int, int] | None]:
    """Generation and keys, and the reservation."""
    registered = persistent.keys(initiator.read(persistent.reserve_in_cdb(persistent.READ_KEYS), 1024).data)
    return registered, persistent.reservation(
        initiator.read(persistent.reserve_in_cdb(persistent.READ_RESERVATION), 1024).data
    )


def write(initiator: Initiator) -> int:
    return initiator.write(cdb.write_10(0, 1), bytes(BLOCK), immediate=BLOCK).status


def other(target: Target) -> Initiator:
    return target.connect(isid=OTHER_ISID).login(target.name)


def test_reservations_that_no_file_has_outlive_a_worker(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    with target.login() as holder, other(target) as guest:
        for initiator, key in ((holder, 7), (guest, 8)):
            assert reserve(ready(initiator), persistent.REGISTER, 0, key) == GOOD
        assert reserve(holder, persistent.RESERVE, 7) == GOOD
        before = reserved(holder)
        assert before == ((2, [7, 8]), (7, persistent.WRITE_EXCLUSIVE))
    for _each in range(2):
        cluster.kill(1)
        with target.login() as holder, other(target) as guest:
            assert reserved(ready(holder)) == before
            assert write(ready(guest)) == persistent.RESERVATION_CONFLICT
            assert write(holder) == GOOD
    with target.login() as holder:
        assert reserve(ready(holder), persistent.CLEAR, 7) == GOOD
    cluster.kill(1)
    with other(target) as guest:
        assert reserved(ready(guest)) == ((3, []), None)
        assert write(guest) == GOOD


def test_what_is_saved_over_a_power_cut_is_what_there_is_after_a_worker_was_killed(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    with target.login() as initiator:
        assert reserve(ready(initiator), persistent.REGISTER, 0, 7, persistent.APTPL) == GOOD
    # As if it had been killed between the two: the main process knows of the key, no file does.
    (saved,) = (cluster.engine.state_dir / "reservations").iterdir()
    text = saved.read_text()
    saved.unlink()
    cluster.kill(1)
    with target.login() as initiator:
        assert reserved(ready(initiator)) == ((1, [7]), None)
    assert saved.read_text() == text


def test_a_reservation_of_the_connection_ends_with_the_worker(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    with target.login() as holder, other(target) as guest:
        assert ready(holder).execute(cdb.reserve_6()).status == GOOD
        assert guest.execute(cdb.unit_ready()).status == persistent.RESERVATION_CONFLICT
        cluster.kill(1)
    with other(target) as guest, target.login() as holder:
        for initiator in (guest, holder):
            assert initiator.execute(cdb.unit_ready()).response.sense == NEXUS_LOST
            assert write(initiator) == GOOD


def test_no_acknowledged_registration_is_lost(cluster: Cluster) -> None:
    """One key after the other, while its worker is killed again and again."""
    target = cluster.node("disk0")
    acknowledged, found, stop = [0], [], threading.Event()

    def run() -> None:
        while not stop.is_set():
            try:
                with target.connect() as initiator:
                    initiator.login(target.name)
                    found.append((acknowledged[-1], reserved(ready(initiator))[0][1]))
                    while not stop.is_set():
                        assert reserve(initiator, persistent.REGISTER_AND_IGNORE, 0, acknowledged[-1] + 1) == GOOD
                        acknowledged.append(acknowledged[-1] + 1)
            except (Closed, OSError):
                continue

    def acknowledge_more() -> None:
        mark = len(acknowledged) + 50
        eventually(lambda: len(acknowledged) >= mark, "more keys")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _each in range(4):
            acknowledge_more()
            cluster.kill(1)
        eventually(lambda: len(found) > 4, "what the last one left")
    finally:
        stop.set()
        thread.join()
    assert found[0] == (0, [])
    for last, keys_ in found[1:]:
        assert keys_ in ([last], [last + 1])  # the one under way may have been carried out


@pytest.mark.parametrize("which", ["source", "destination", "both"])
def test_reservations_go_along_whoever_is_killed_meanwhile(cluster: Cluster, which: str) -> None:
    one, goes = cluster.node("one"), cluster.node("goes")
    with goes.login() as initiator:
        assert reserve(ready(initiator), persistent.REGISTER, 0, 7) == GOOD
        assert cluster.worker_of(goes) == 2
    for number in {"destination": [1], "source": [2], "both": [1, 2]}[which]:
        os.kill(cluster.pid_of(number), signal.SIGKILL)
    cluster.engine.rpc("iscsi_target_node_add_lun", name=goes.name, bdev_name="M-one")
    with goes.login() as initiator, one.login() as stays:
        assert reserved(ready(initiator))[0][1] == [7]
        assert reserved(ready(stays))[0][1] == []
        assert cluster.worker_of(goes) == cluster.worker_of(one) == 1


@pytest.mark.parametrize("flags", [0, persistent.APTPL])
@pytest.mark.parametrize("is_new", [False, True])
def test_reservations_go_along_when_their_disk_is_shown_elsewhere_too(
    cluster: Cluster, flags: int, is_new: bool
) -> None:
    one, goes = cluster.node("one"), cluster.node("goes")
    with goes.login() as initiator:
        assert reserve(ready(initiator), persistent.REGISTER, 0, 7, flags) == GOOD
        assert cluster.worker_of(goes) == 2
    files = {path: path.read_text() for path in (cluster.engine.state_dir / "reservations").iterdir()} if flags else {}
    assert len(files) == bool(flags)
    if is_new:
        third = cluster.node("third", "M-one", "M-goes")
    else:
        cluster.engine.rpc("iscsi_target_node_add_lun", name=one.name, bdev_name="M-goes")
        third = one
    with goes.login() as initiator, third.login() as shown_too:
        assert cluster.worker_of(goes) == cluster.worker_of(third) == 1
        assert reserved(ready(initiator))[0][1] == [7]
        assert reserved(ready(shown_too))[0][1] == []
    assert {path: path.read_text() for path in files} == files


def test_modes_and_access_states_outlive_a_worker(cluster: Cluster) -> None:
    target = cluster.node("disk0")
    caching = bytes.fromhex("1a080800ff00")
    with target.login() as initiator:
        sense = ready(initiator).read(caching, 255).data
        assert sense[6] & 0x04  # WCE
        page = bytes(4) + sense[4:6] + bytes([sense[6] & ~0x04]) + sense[7:]
        select = bytes((0x15, 0x10, 0, 0, len(page), 0))
        assert initiator.write(select, page, immediate=len(page)).status == GOOD
        standby = bytes((0, 0, 0, 0, 1, 0, 0, 1))
        assert initiator.write(bytes.fromhex("a40a00000000000000080000"), standby, immediate=8).status == GOOD
        groups = initiator.read(bytes.fromhex("a30a00000000000000ff0000"), 255).data
        assert (groups[4] & 0x0F, groups[9]) == (1, 1)  # non-optimized, because somebody asked for it
    cluster.kill(1)
    with target.login() as initiator:
        assert not ready(initiator).read(caching, 255).data[6] & 0x04
        assert initiator.read(bytes.fromhex("a30a00000000000000ff0000"), 255).data == groups
    # What is configured meanwhile counts.
    state = {"name": target.name, "pg_tag": 1, "access_state": "optimized"}
    cluster.engine.rpc("iscsi_target_node_set_access_state", **state)
    cluster.kill(1)
    with target.login() as initiator:
        assert ready(initiator).read(bytes.fromhex("a30a00000000000000ff0000"), 255).data[4] & 0x0F == 0


def test_an_ejected_medium_stays_out(cluster: Cluster) -> None:
    engine = cluster.engine
    engine.malloc("M", 1)
    target = cluster.node("disk0")
    engine.rpc("iscsi_target_node_add_lun", name=target.name, bdev_name="M", lun_id=1, removable=True)
    with target.login() as initiator:
        assert ready(initiator).execute(cdb.unit_ready(), lun=1).status == GOOD
        assert initiator.execute(bytes.fromhex("1b0000000200"), lun=1).status == GOOD
    cluster.kill(1)
    with target.login() as initiator:
        assert ready(initiator).execute(cdb.unit_ready(), lun=1).response.sense == NEXUS_LOST
        assert initiator.execute(cdb.unit_ready(), lun=1).response.sense == NO_MEDIUM


def test_a_sanitize_that_ends_with_its_worker_has_failed(cluster: Cluster) -> None:
    engine = cluster.engine
    engine.rpc("bdev_null_create", name="N0", num_blocks=2048, block_size=BLOCK)
    engine.rpc("bdev_error_create", base_name="N0")
    target = cluster.node("disk0", "EE_N0")
    injection = {"name": "EE_N0", "io_type": "write", "error_type": "pending"}
    engine.rpc("bdev_error_inject_error", **injection, num=100)
    overwrite, pattern = bytes.fromhex("4881000000000000") + bytes((8, 0)), bytes((1, 0, 0, 4)) + b"wipe"
    with target.login() as initiator:
        assert ready(initiator).write(overwrite, pattern, immediate=len(pattern)).status == GOOD
        assert initiator.execute(cdb.unit_ready()).response.sense[:2] == (2, 4)
    cluster.kill(1)
    with target.login() as initiator:
        assert initiator.execute(cdb.unit_ready()).response.sense == NEXUS_LOST
        assert initiator.execute(cdb.unit_ready()).response.sense == SANITIZE_FAILED
