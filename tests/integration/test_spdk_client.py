# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SPDK's own client, unchanged, against a running engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from control import NODE, build, live_bdevs
from engine_process import DEADLINE, Engine, Launch, free_port, run


def spdk_rpc(engine: Engine, *words: str | Path) -> str:
    return run(Path(sys.executable).with_name("spdk-rpc"), "-s", engine.socket, *words).stdout


def test_spdks_client_works_unchanged(launch: Launch) -> None:
    engine, port = launch(state=True), free_port()
    assert spdk_rpc(engine, "bdev_malloc_create", "-b", "M0", "64", "512").strip() == "M0"
    assert spdk_rpc(engine, "bdev_malloc_create", "64", "4096").strip() == "Malloc0"
    spdk_rpc(engine, "iscsi_create_portal_group", "1", f"127.0.0.1:{port}")
    spdk_rpc(engine, "iscsi_create_initiator_group", "2", "ANY", "127.0.0.0/8")
    spdk_rpc(engine, "iscsi_initiator_group_add_initiators", "2", "-n", "iqn.2026-01.test:a", "-m", "10.0.0.0/8")
    spdk_rpc(engine, "iscsi_create_target_node", "disk1", "Disk 1", "M0:0", "1:2", "64", "-d")
    spdk_rpc(engine, "iscsi_target_node_add_lun", NODE, "Malloc0", "-i", "5")
    spdk_rpc(engine, "iscsi_create_initiator_group", "3", "ANY", "ANY")
    spdk_rpc(engine, "iscsi_target_node_add_pg_ig_maps", NODE, "1:3")
    spdk_rpc(engine, "iscsi_target_node_remove_pg_ig_maps", NODE, "1:2")
    (node,) = json.loads(spdk_rpc(engine, "iscsi_get_target_nodes"))
    assert node["name"] == NODE
    assert node["luns"] == [{"bdev_name": "M0", "lun_id": 0}, {"bdev_name": "Malloc0", "lun_id": 5}]
    assert node["pg_ig_maps"] == [{"pg_tag": 1, "ig_tag": 3}]
    groups = json.loads(spdk_rpc(engine, "iscsi_get_initiator_groups"))
    assert groups[0]["initiators"] == ["ANY", "iqn.2026-01.test:a"]
    assert "iqn.2016-06.io.spdk:disk1" in run("iscsi-ls", f"iscsi://127.0.0.1:{port}").stdout
    for command in (
        *("framework_get_reactors", "thread_get_stats", "iobuf_get_stats", "bdev_get_iostat", "log_get_level"),
        *("iscsi_get_connections", "iscsi_get_options", "scsi_get_devices", "rpc_get_methods", "spdk_get_version"),
        *("notify_get_types", "notify_get_notifications", "framework_get_subsystems", "bdev_wait_for_examine"),
    ):
        spdk_rpc(engine, command)
    spdk_rpc(engine, "iscsi_delete_target_node", NODE)
    spdk_rpc(engine, "iscsi_delete_portal_group", "1")
    spdk_rpc(engine, "bdev_malloc_delete", "M0")
    assert live_bdevs(engine) == ["Malloc0"]


SCRIPT = """\
rpc_get_methods
spdk_get_version
framework_wait_init
sock_get_default_impl
sock_impl_get_options -i posix
framework_get_subsystems
framework_get_config iscsi
framework_get_reactors
thread_get_stats
iobuf_get_stats
log_get_flags
log_set_flag iscsi
log_clear_flag iscsi
log_set_level WARNING
log_get_level
log_set_print_level NOTICE
log_get_print_level
notify_get_types
notify_get_notifications
bdev_wait_for_examine
bdev_malloc_create -b M0 64 512
bdev_malloc_create -b M1 64 512
bdev_malloc_create -b M2 64 512
bdev_aio_create {directory}/a A0 512
bdev_aio_rescan A0
bdev_uring_create {directory}/u U0 512
bdev_uring_rescan U0
bdev_null_create N0 64 512 -p 4096 -a 8 -g 8 -s 64 -c 8 -r 8
bdev_null_resize N0 65
bdev_split_create M1 2
bdev_passthru_create -b M2 -p P0
bdev_delay_create -b A0 -d D0 -r 1 -t 2 -w 3 -n 4
bdev_delay_update_latency D0 avg_read 2
bdev_error_create N0
bdev_error_inject_error -n 1 EE_N0 read failure
bdev_error_inject_error --nvme-sct 2 --nvme-sc 129 EE_N0 read nvme_failure
bdev_error_resume_pending EE_N0
bdev_raid_create -n R0 -r 0 -z 4 -b "M1p0 M1p1"
bdev_raid_get_bdevs all
bdev_raid_set_options -w 512 -b 1
bdev_malloc_create -b M3 64 512
bdev_malloc_create -b M4 64 512
bdev_raid_create -n R1 -r 1 -b "M3 M4"
bdev_raid_remove_base_bdev M3
bdev_get_bdevs
bdev_get_iostat
bdev_reset_iostat
bdev_set_qos_limit M0 --rw-ios-per-sec 20000
bdev_enable_histogram --histogram M0
bdev_get_histogram M0
bdev_get_histogram_borders M0 --borders 1,100
bdev_nvme_get_controllers
bdev_nvme_set_hotplug --no-hotplug
iscsi_create_portal_group 1 127.0.0.1:{port}
iscsi_create_portal_group 2 127.0.0.1:{other} --wait
iscsi_start_portal_group 2
iscsi_portal_group_set_auth 2 -d
iscsi_get_portal_groups
iscsi_create_initiator_group 2 ANY 127.0.0.0/8
iscsi_create_initiator_group 3 ANY ANY
iscsi_initiator_group_add_initiators 2 -n iqn.2026-01.test:a -m 10.0.0.0/8
iscsi_initiator_group_remove_initiators 2 -n iqn.2026-01.test:a -m 10.0.0.0/8
iscsi_get_initiator_groups
iscsi_create_auth_group 1 -c "user:u secret:abcdefghijklm"
iscsi_auth_group_add_secret 1 -u v -s bcdefghijklmn
iscsi_auth_group_remove_secret 1 -u v
iscsi_get_auth_groups
iscsi_set_discovery_auth -d
iscsi_create_target_node disk1 "Disk 1" M0:0 1:2 64 -d
iscsi_target_node_add_lun {node} R0 -i 5
iscsi_target_node_add_pg_ig_maps {node} 2:3
iscsi_target_node_set_auth {node} -d
iscsi_target_node_set_redirect {node} 1 -a 127.0.0.2 -p 3260
iscsi_target_node_request_logout {node}
iscsi_target_node_remove_pg_ig_maps {node} 2:3
iscsi_enable_histogram --histogram {node}
iscsi_get_histogram {node}
iscsi_get_target_nodes
scsi_get_devices
iscsi_get_connections
iscsi_get_stats
iscsi_get_options
iscsi_delete_target_node {node}
iscsi_delete_initiator_group 3
iscsi_delete_portal_group 2
iscsi_delete_auth_group 1
bdev_raid_delete R0
bdev_error_delete EE_N0
bdev_delay_delete D0
bdev_passthru_delete P0
bdev_split_delete M1
bdev_null_delete N0
bdev_uring_delete U0
bdev_aio_delete A0
bdev_malloc_delete M0
spdk_kill_instance SIGUSR1
"""
ELSEWHERE = {
    # before the initialization
    *("framework_start_init", "iscsi_set_options", "bdev_set_options", "bdev_nvme_set_options"),
    *("iobuf_set_options", "sock_impl_set_options", "sock_set_default_impl"),
    # with a controller on a PCI bus
    *("bdev_nvme_attach_controller", "bdev_nvme_detach_controller", "bdev_nvme_reset_controller"),
    # on one core, by test_raid.py
    "bdev_raid_add_base_bdev",
}


def test_spdks_client_knows_every_method_that_is_spdks(launch: Launch, tmp_path: Path) -> None:
    engine = launch(state=True)
    for name in "au":
        (tmp_path / name).write_bytes(bytes(2**20))
    script = SCRIPT.format(directory=tmp_path, port=free_port(), other=free_port(), node=NODE)
    client = Path(sys.executable).with_name("spdk-rpc")
    done = subprocess.run(
        [client, "-s", engine.socket], input=script, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-500:] + done.stderr
    called = {line.split()[0] for line in script.splitlines()}
    known = set(re.findall(r"^    (\w+)", run(client, "--help").stdout, re.MULTILINE))
    assert (set(engine.rpc("rpc_get_methods")) & known) - called == ELSEWHERE
    assert engine.rpc("bdev_get_bdevs", name="M2")


def test_what_spdks_client_saves_it_can_load(launch: Launch, tmp_path: Path) -> None:
    first = launch()
    build(first)
    config = tmp_path / "saved.json"
    config.write_text(spdk_rpc(first, "save_config"))
    nodes, bdevs = first.rpc("iscsi_get_target_nodes"), first.rpc("bdev_get_bdevs")
    first.stop()
    second = launch()
    spdk_rpc(second, "load_config", "-j", config)
    assert second.rpc("iscsi_get_target_nodes") == nodes
    assert second.rpc("bdev_get_bdevs") == bdevs
    assert json.loads(spdk_rpc(second, "save_config")) == json.loads(config.read_text())


def test_spdks_client_can_stop_the_engine(launch: Launch) -> None:
    engine = launch()
    spdk_rpc(engine, "spdk_kill_instance", "SIGTERM")
    assert engine.process is not None
    assert engine.process.wait(DEADLINE) == 0
