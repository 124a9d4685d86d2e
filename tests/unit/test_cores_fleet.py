# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What workers are told, and when: changes, transactions, logins that wait."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.sources import GivenSources
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.process import Logs
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.dispatch import Reply
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.method import Spread, State
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.methods import all_methods
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.service import Engine, Settings, WorkerPlace
from cores_site import OTHER, Controllers, Site, arrival, with_site
from engine_process import free_port

# -- the table


def test_what_is_chosen_at_random_is_told_to_workers() -> None:
    makes = [method for method in all_methods() if method.params and "uuid" in method.params and method.mutates]
    assert len(makes) > 5
    assert not [method.name for method in makes if method.followed_by is None]


def test_what_is_gathered_can_be_merged() -> None:
    gathered = [method for method in all_methods() if method.reach is Spread.GATHERED]
    assert gathered
    assert all(method.merge is not None and not method.mutates for method in gathered)


# -- changes


def test_all_workers_follow_a_change_with_what_was_chosen_here(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        path = str(tmp_path / "disk")
        await site.rpc("bdev_aio_create", name="A0", filename=path, size=4096)
        uuid = site.engine.bdevs.get("A0").uuid
        assert [each[:2] for each in site.story] == [(1, "bdev_aio_create"), (2, "bdev_aio_create")]
        told = site.story[0][2]
        assert (told["uuid"], told["filename"], "size" in told) == (uuid, path, False)
        site.story.clear()
        await site.rpc("bdev_aio_delete", name="A0", remove_file=True)
        assert site.story == [(number, "bdev_aio_delete", {"name": "A0"}) for number in (1, 2)]

    with_site(test)


def test_what_fails_and_what_only_asks_is_not_told() -> None:
    async def test(site: Site) -> None:
        with pytest.raises(RuntimeError):
            await site.rpc("bdev_malloc_delete", name="nope")
        await site.rpc("bdev_get_bdevs")
        assert site.story == []

    with_site(test)


def test_a_transaction_is_told_when_it_succeeded() -> None:
    async def test(site: Site) -> None:
        calls = [
            {"method": "bdev_malloc_create", "params": {"name": f"T{each}", "num_blocks": 8, "block_size": 512}}
            for each in range(2)
        ]
        wrong = {"method": "iscsi_delete_target_node", "params": {"name": "nope"}}
        with pytest.raises(RuntimeError):
            await site.rpc("engine_apply", calls=[*calls, wrong])
        assert site.story == []
        await site.rpc("engine_apply", calls=calls)
        assert [each[2]["name"] for each in site.story if each[0] == 1] == ["T0", "T1"]

    with_site(test)


def test_what_others_ask_for_during_a_transaction_that_fails_is_followed(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        make = {"name": "A0", "filename": str(tmp_path / "disk"), "size": 2**20}
        calls = [
            {"method": "bdev_aio_create", "params": make},
            {"method": "iscsi_delete_target_node", "params": {"name": "nope"}},
        ]
        applying = asyncio.ensure_future(site.rpc("engine_apply", calls=calls))
        await asyncio.sleep(0)
        assert not applying.done()
        others = asyncio.ensure_future(site.rpc("bdev_enable_histogram", name="M-one", enable=True))
        with pytest.raises(RuntimeError):
            await applying
        await others
        assert [each[:2] for each in site.story] == [(1, "bdev_enable_histogram"), (2, "bdev_enable_histogram")]

    with_site(test)


def test_options_that_are_set_while_workers_start_are_set_before_the_start_there_too() -> None:
    async def test(site: Site) -> None:
        phases: list[str] = []
        site.engine.dispatcher.state = State.STARTUP
        for recorder in site.recorders:
            recorder.call = lambda call: phases.append(call.phase)  # type: ignore[method-assign]
        worker = Engine(Settings(socket="", worker=WorkerPlace(1, 2, None)), Logs())
        for call in [each for each in site.fleet.configuration() if each.method == "iscsi_set_options"]:
            await worker.dispatcher.call(call.method, call.params, State[call.phase])
        await site.rpc("iscsi_set_options", max_sessions=7)
        assert phases == ["STARTUP", "STARTUP"]
        await worker.dispatcher.call("iscsi_set_options", {"max_sessions": 7}, State.STARTUP)  # though it has had some

    with_site(test)


def test_a_new_worker_logs_what_is_logged_now() -> None:
    async def test(site: Site) -> None:
        site.engine.logs.level = "ERROR"
        site.engine.logs.set_flag("scsi", True)
        calls = {call.method: call.params for call in site.fleet.configuration()}
        assert (calls["log_set_level"], calls["log_set_flag"]) == ({"level": "ERROR"}, {"flag": "scsi"})
        site.engine.logs.set_flag("scsi", False)

    with_site(test)


# -- whom it is about


def test_a_change_is_about_the_workers_of_the_nodes_that_it_names_or_takes_a_disk_from() -> None:
    async def test(site: Site) -> None:
        async def concerned(method: str, **params: Any) -> list[int]:
            await site.rpc(method, **params)
            return [each.number for each in site.recorders if each.is_concerned]

        assert await concerned("bdev_malloc_create", name="M-new", num_blocks=8, block_size=512) == []
        assert await concerned("iscsi_target_node_add_lun", name="one", bdev_name="M-new") == [1]
        assert await concerned("bdev_enable_histogram", name="M-other", enable=True) == [2]
        assert await concerned("bdev_malloc_delete", name="M-other") == [2]
        assert await concerned("log_set_level", level="ERROR") == []
        calls = [{"method": "iscsi_target_node_remove_lun", "params": {"name": "one", "lun_id": 0}}]
        assert await concerned("engine_apply", calls=calls) == [1]

    with_site(test)


def test_a_wave_is_about_the_workers_of_all_of_its_changes_whoever_else_waits() -> None:
    async def test(site: Site) -> None:
        async def number(method: str, **params: Any) -> int:
            reply = site.engine.dispatcher.begin({"id": 1, "method": method, "params": params})
            return (reply if isinstance(reply, Reply) else await reply).number

        async def concerned(*changes: int) -> list[int]:
            await site.engine.commit(changes)
            return [each.number for each in site.recorders if each.is_concerned]

        first = await number("bdev_enable_histogram", name="M-one", enable=True)
        calls = [{"method": "iscsi_target_node_remove_lun", "params": {"name": "other", "lun_id": 0}}]
        applied = await number("engine_apply", calls=calls)
        last = await number("log_set_level", level="ERROR")
        assert 0 < first < applied < last
        assert await concerned() == []
        assert await concerned(first, 0, last) == [1]
        assert await concerned(applied) == [2]
        assert await concerned(first, applied) == [1, 2]

    with_site(test)


# -- places


def test_a_new_node_takes_the_place_of_one_that_is_gone() -> None:
    async def test(site: Site) -> None:
        await site.rpc("iscsi_delete_target_node", name="other")
        await site.rpc("bdev_malloc_create", name="M-new", num_blocks=8, block_size=512)
        luns = [{"lun_id": 0, "bdev_name": "M-new"}]
        await site.rpc("iscsi_create_target_node", name="new", pg_ig_maps=[], luns=luns, queue_depth=8)
        assert site.fleet.owners == {"iqn.2016-06.io.spdk:one": 1, "iqn.2016-06.io.spdk:new": 2}

    with_site(test)


# -- logins


def test_who_logs_in_while_a_node_moves_waits_and_changes_do_too() -> None:
    async def test(site: Site) -> None:
        changing = asyncio.ensure_future(site.rpc("iscsi_target_node_add_lun", name="other", bdev_name="M-one"))
        await asyncio.sleep(0)
        node = site.engine.target.node("other")
        come, peer = arrival()
        assert site.fleet.take(node, come)
        assert "hand_over" not in [each[1] for each in site.story]
        await site.rpc("log_set_level", level="ERROR")
        await changing
        story = [each[:2] for each in site.story]
        assert story.index((1, "iscsi_target_node_add_lun")) < story.index((1, "log_set_level"))
        assert (1, "hand_over") in story
        peer.close()

    with_site(test)


def test_a_login_to_a_node_of_the_main_process_stays_here() -> None:
    async def test(site: Site) -> None:
        await site.node_of_main()
        await site.rpc("iscsi_target_node_add_lun", name="one", bdev_name="N1n1")
        assert (site.engine.owner_of("iqn.2016-06.io.spdk:one"), site.engine.owner_of(OTHER)) == (0, 2)
        assert (1, "see_off", ["iqn.2016-06.io.spdk:one"]) in site.story
        come, peer = arrival()
        assert not site.fleet.take(site.engine.target.node("one"), come)
        come.sock.close()
        peer.close()

    with_site(test)


def test_a_login_waits_for_a_worker_that_starts() -> None:
    async def test(site: Site) -> None:
        site.recorders[0].ready = False
        come, peer = arrival()
        assert site.fleet.take(site.engine.target.node("one"), come)
        assert site.story == []
        await site.rpc("log_set_level", level="ERROR")  # whatever happens meanwhile
        assert (1, "hand_over") not in site.story
        site.story.clear()
        site.recorders[0].ready = True
        site.fleet.is_ready(site.recorders[0])  # type: ignore[arg-type]
        assert site.story == [(1, "hand_over")]
        peer.close()

    with_site(test)


# -- the whole configuration


async def everything(site: Site, directory: Path) -> None:
    """Objects of all kinds, a device of the main process among them."""
    await site.rpc("bdev_null_create", name="C0n1", num_blocks=2048, block_size=512)
    namespace = site.engine.bdevs.get("C0n1")
    namespace.config = lambda: None  # type: ignore[method-assign]
    attach = "bdev_nvme_attach_controller", {"name": "C0", "trtype": "PCIe", "traddr": "0000:01:00.0"}
    controller = SimpleNamespace(bdevs=[namespace])
    site.engine.nvme = Controllers([controller], attach)  # type: ignore[assignment]
    await site.rpc("bdev_passthru_create", base_bdev_name="C0n1", name="P0")
    await site.rpc("bdev_aio_create", name="A0", filename=str(directory / "disk"), size=2**20)
    await site.rpc("bdev_split_create", base_bdev="A0", split_count=2)
    for name in ("N0", "N1"):
        await site.rpc("bdev_null_create", name=name, num_blocks=2048, block_size=512)
    await site.rpc("bdev_error_create", base_name="N1")
    await site.rpc("bdev_raid_create", name="R0", raid_level="raid1", base_bdevs=["N0", "EE_N1"])
    latencies = ("avg_read", "p99_read", "avg_write", "p99_write")
    times = {f"{each}_latency": 7 for each in latencies}
    await site.rpc("bdev_delay_create", name="D0", base_bdev_name="R0", **times)
    await site.rpc("bdev_set_qos_limit", name="D0", rw_ios_per_sec=1000)
    await site.rpc("iscsi_create_portal_group", tag=1, portals=[{"host": "127.0.0.1", "port": str(free_port())}])
    await site.rpc("iscsi_create_auth_group", tag=7, secrets=[{"user": "alice", "secret": "wonderland-0001"}])
    for name, bdev in (("mirror", "D0"), ("part", "A0p1"), ("nvme", "P0")):
        luns = [{"lun_id": 3, "bdev_name": bdev, "initiator_groups": [2], "removable": True}]
        maps = [{"pg_tag": 1, "ig_tag": 2}]
        await site.rpc(
            "iscsi_create_target_node",
            name=name, alias_name="x", pg_ig_maps=maps, luns=luns, queue_depth=8, without_lun_0=True, chap_group=7,
        )  # fmt: skip
    redirect = {"redirect_host": "192.0.2.1", "redirect_port": "3260"}
    await site.rpc("iscsi_target_node_set_redirect", name="part", pg_tag=1, **redirect)
    await site.rpc("iscsi_target_node_set_access_state", name="part", pg_tag=1, access_state="standby")
    await site.rpc("iscsi_target_node_disable", name="mirror")


def test_a_worker_that_makes_the_calls_it_is_given_is_configured_like_the_main_process(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await everything(site, tmp_path)
        assert site.engine.owner_of("iqn.2016-06.io.spdk:nvme") == 0
        worker = Engine(Settings(socket="", worker=WorkerPlace(1, 2, None)), Logs())
        sources = worker.sources = GivenSources()
        for call in site.fleet.configuration():
            sources.give(() if call.descriptor is None else (os.dup(call.descriptor),))
            await worker.dispatcher.call(call.method, call.params, State[call.phase])
        for subsystem in ("bdev", "iscsi"):
            calls = site.engine.configuration_of(subsystem) or []
            assert worker.configuration_of(subsystem) == [call for call in calls if "nvme" not in call.method]
        assert worker.bdevs.get("C0n1").uuid == site.engine.bdevs.get("C0n1").uuid
        with pytest.raises(OSError, match="main process"):
            worker.bdevs.get("P0").read(0, 512)
        # What was written here is read there.
        for reads, writes in ((site.engine, worker), (worker, site.engine)):
            writes.bdevs.get("M-one").write(512, b"x" * 512)
            assert bytes(reads.bdevs.get("M-one").read(512, 512)) == b"x" * 512  # type: ignore[arg-type]
            assert reads.bdevs.get("M-one").allocation(512, 1024) == (True, 512)
            writes.bdevs.get("M-one").unmap(0, 4096)
            assert reads.bdevs.get("M-one").allocation(0, 4096) == (False, 4096)
        worker.bdevs.close()

    with_site(test)
