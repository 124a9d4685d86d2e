# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rate limits and histograms of a running engine, seen by initiators and by SPDK's client."""

from __future__ import annotations

import base64
import struct
import time
from typing import Any

import pytest
from engine_process import Launch, RpcError, Target
from pdu import cdb

BLOCK = 512


@pytest.fixture
def disk(launch: Launch) -> Target:
    engine = launch(state=True)
    engine.initiator_group()
    port = engine.portal_group()
    return Target(engine, port, engine.node("disk0", engine.malloc("M0", 16)))


def counted(answer: dict[str, Any]) -> int:
    packed = base64.b64decode(answer["histogram"])
    return sum(struct.unpack(f"<{len(packed) // 8}Q", packed))


def test_a_limit_slows_an_initiator_down_and_survives_a_restart(disk: Target) -> None:
    engine = disk.engine
    engine.spdk_rpc("bdev_set_qos_limit", "M0", "--rw-mbytes-per-sec", "4")
    engine.restart()
    assert engine.rpc("bdev_get_bdevs", name="M0")[0]["assigned_rate_limits"]["rw_mbytes_per_sec"] == 4
    with disk.login() as client:
        begun = time.monotonic()
        for number in range(48):
            assert client.read(cdb.read_10(number * 128, 128), 65536).status == 0
        took = time.monotonic() - begun
    assert took > 0.6  # 3 MiB at 4 MiB/s
    engine.rpc("bdev_set_qos_limit", name="M0", rw_mbytes_per_sec=0)
    assert "bdev_set_qos_limit" not in (engine.state_dir / "config.json").read_text()


def test_limits_are_rounded_and_refused_as_spdk_does(disk: Target) -> None:
    engine = disk.engine
    engine.rpc("bdev_set_qos_limit", name="M0", rw_ios_per_sec=1)
    engine.rpc("bdev_set_qos_limit", name="M0", w_mbytes_per_sec=7)
    limits = engine.rpc("bdev_get_bdevs", name="M0")[0]["assigned_rate_limits"]
    assert limits == {"rw_ios_per_sec": 1000, "rw_mbytes_per_sec": 0, "r_mbytes_per_sec": 0, "w_mbytes_per_sec": 7}
    with pytest.raises(RpcError, match="No rate limits specified") as refusal:
        engine.rpc("bdev_set_qos_limit", name="M0")
    assert refusal.value.code == -22
    with pytest.raises(RpcError) as refusal:
        engine.rpc("bdev_set_qos_limit", name="nope", rw_ios_per_sec=1000)
    assert refusal.value.code == -19
    engine.rpc("bdev_malloc_delete", name="M0")
    assert "bdev_set_qos_limit" not in (engine.state_dir / "config.json").read_text()


def test_a_bdevs_histogram_counts_its_operations(disk: Target) -> None:
    engine = disk.engine
    with pytest.raises(RpcError, match="Bad address"):
        engine.rpc("bdev_get_histogram", name="M0")
    engine.spdk_rpc("bdev_enable_histogram", "--histogram", "-o", "write", "M0")
    with disk.login() as client:
        client.read(cdb.read_10(0, 1), BLOCK)
        client.write(cdb.write_10(0, 1), bytes(BLOCK))
    assert counted(engine.spdk_rpc("bdev_get_histogram", "M0")) == 1
    with pytest.raises(RpcError, match="Invalid Io type"):
        engine.rpc("bdev_enable_histogram", name="M0", enable=True, opc="sing")
    engine.spdk_rpc("bdev_enable_histogram", "--no-histogram", "M0")
    with pytest.raises(RpcError, match="Bad address"):
        engine.rpc("bdev_get_histogram", name="M0")


def test_a_nodes_histogram_counts_commands_of_old_and_new_connections(disk: Target) -> None:
    engine, name = disk.engine, disk.name
    with pytest.raises(RpcError, match="target's histogram function is not enabled"):
        engine.rpc("iscsi_get_histogram", name=name)
    with disk.login() as old:
        engine.spdk_rpc("iscsi_enable_histogram", "--histogram", name)
        old.execute(cdb.unit_ready())
        with disk.login() as new:
            new.read(cdb.read_10(0, 1), BLOCK)
        assert counted(engine.spdk_rpc("iscsi_get_histogram", name)) == 2
    engine.restart()
    with disk.login() as again:
        again.execute(cdb.unit_ready())
        assert counted(engine.rpc("iscsi_get_histogram", name=name)) == 1
        engine.spdk_rpc("iscsi_enable_histogram", "--no-histogram", name)
        again.execute(cdb.unit_ready())
    assert "iscsi_enable_histogram" not in (engine.state_dir / "config.json").read_text()
