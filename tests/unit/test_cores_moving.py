# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Target nodes that go from one process to another, and what goes along with them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi import luggage
from cores_site import ONE, OTHER, REGISTERED, Site, with_site
from engine_process import free_port


def test_a_node_is_seen_off_before_its_new_worker_learns_of_the_change() -> None:
    async def test(site: Site) -> None:
        assert list(site.fleet.owners.values()) == [1, 2]
        await site.rpc("iscsi_target_node_add_lun", name="other", bdev_name="M-one")
        assert [each[:2] for each in site.story] == [
            (2, "see_off"),
            (1, "take_over"),
            (1, "iscsi_target_node_add_lun"),
            (2, "iscsi_target_node_add_lun"),
        ]
        assert list(site.fleet.owners.values()) == [1, 1]

    with_site(test)


def test_what_a_worker_told_goes_along() -> None:
    async def test(site: Site) -> None:
        for name in ("one", "other"):
            site.hear(2, event="unit", uuid=site.engine.bdevs.get(f"M-{name}").uuid, unit=REGISTERED)
        site.hear(2, event="unit", uuid="of a bdev that is gone", unit=REGISTERED)
        await site.rpc("iscsi_target_node_add_lun", name="other", bdev_name="M-one")
        (taken,) = [each[2:] for each in site.story if each[1] == "take_over"]
        # Of M-one the worker, where the node does not show it yet, takes nothing: it serves that already.
        names, packed = taken
        assert (names, packed["units"]["M-other"], packed["access"]) == ([OTHER], REGISTERED, {OTHER: None})
        # Had that one been starting, it would get the same with its configuration.
        names, luggage = site.fleet.luggage(1)
        assert names == [ONE, OTHER]
        assert luggage["units"] == {"M-one": REGISTERED, "M-other": REGISTERED}
        assert site.fleet.luggage(2)[0] == []

    with_site(test)


def test_what_a_disk_has_goes_along_when_a_node_elsewhere_shows_it_newly() -> None:
    """Though by the time the main process lets that node show it too."""

    async def test(site: Site) -> None:
        site.hear(2, event="unit", uuid=site.engine.bdevs.get("M-other").uuid, unit=REGISTERED)
        await site.rpc("iscsi_target_node_add_lun", name="one", bdev_name="M-other")
        assert [each for each in site.story if each[1] == "take_over"] == [
            (1, "take_over", [OTHER], {"units": {"M-other": REGISTERED}, "access": {OTHER: None}})
        ]

    with_site(test)


def test_what_disks_have_goes_along_when_a_new_node_shows_them_all() -> None:
    async def test(site: Site) -> None:
        site.hear(2, event="unit", uuid=site.engine.bdevs.get("M-other").uuid, unit=REGISTERED)
        luns = [{"lun_id": number, "bdev_name": name} for number, name in enumerate(("M-one", "M-other"))]
        await site.rpc("iscsi_create_target_node", name="third", pg_ig_maps=[], luns=luns, queue_depth=8)
        (taken,) = [each[2:] for each in site.story if each[1] == "take_over"]
        assert taken == ([OTHER], {"units": {"M-other": REGISTERED}, "access": {OTHER: None}})

    with_site(test)


def test_what_a_transaction_takes_away_meanwhile_goes_along() -> None:
    """It may fail; workers have not learned of it."""

    async def test(site: Site) -> None:
        site.hear(2, event="unit", uuid=site.engine.bdevs.get("M-other").uuid, unit=REGISTERED)
        adding = asyncio.ensure_future(site.rpc("iscsi_target_node_add_lun", name="one", bdev_name="M-other"))
        await asyncio.sleep(0)
        with site.fleet.holding():
            site.engine.target.drop_lun(site.engine.target.node(OTHER), 0)
            while not [each for each in site.story if each[1] == "take_over"]:
                await asyncio.sleep(0.001)
        await adding
        (taken,) = [each[2:] for each in site.story if each[1] == "take_over"]
        assert taken[1]["units"] == {"M-other": REGISTERED}

    with_site(test)


def test_a_node_that_goes_twice_is_served_by_nobody_in_between() -> None:
    async def test(site: Site) -> None:
        moving = site.fleet._moving
        for moves in ({OTHER: (2, 1)}, {OTHER: (1, 2)}):
            moving.begin(moves)
        await moving.go({OTHER: (2, 1)})
        assert OTHER in moving
        await moving.go({OTHER: (1, 2)})
        assert OTHER not in moving
        assert [each[:2] for each in site.story] == [(2, "see_off"), (1, "take_over"), (1, "see_off"), (2, "take_over")]

    with_site(test)


def test_what_a_worker_told_of_a_unit_that_is_gone_is_not_that_of_the_new_one() -> None:
    async def test(site: Site) -> None:
        uuid, before = site.engine.bdevs.get("M-one").uuid, site.fleet._made
        await site.rpc("iscsi_target_node_add_lun", name=ONE, bdev_name="M-one", lun_id=1)
        site.hear(1, event="unit", uuid=uuid, unit=REGISTERED, change=before)  # it is the same one, shown once more
        assert site.fleet.luggage(1)[1]["units"] == {"M-one": REGISTERED}
        for lun_id in (0, 1):
            await site.rpc("iscsi_target_node_remove_lun", name=ONE, lun_id=lun_id)
        removed = site.fleet._made
        await site.rpc("iscsi_target_node_add_lun", name=ONE, bdev_name="M-one")
        site.hear(1, event="unit", uuid=uuid, unit=REGISTERED, change=removed)
        assert site.fleet.luggage(1)[1]["units"] == {"M-one": None}
        site.hear(1, event="unit", uuid=uuid, unit=REGISTERED, change=removed + 1)
        assert site.fleet.luggage(1)[1]["units"] == {"M-one": REGISTERED}

    with_site(test)


def test_what_is_told_during_a_transaction_that_fails_counts(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        uuid = site.engine.bdevs.get("M-one").uuid
        calls = [
            {"method": "iscsi_target_node_remove_lun", "params": {"name": ONE, "lun_id": 0}},
            {"method": "bdev_aio_create", "params": {"name": "A0", "filename": str(tmp_path / "disk"), "size": 2**20}},
            {"method": "iscsi_delete_target_node", "params": {"name": "nope"}},
        ]
        applying = asyncio.ensure_future(site.rpc("engine_apply", calls=calls))
        while site.engine.target.node(ONE).device.luns:
            await asyncio.sleep(0)
        assert not applying.done()
        site.hear(1, event="unit", uuid=uuid, unit=REGISTERED)
        with pytest.raises(RuntimeError):
            await applying
        assert site.fleet.luggage(1)[1]["units"] == {"M-one": REGISTERED}

    with_site(test)


def test_each_call_tells_the_change_that_it_belongs_to() -> None:
    async def test(site: Site) -> None:
        told: list[int] = []
        site.recorders[0].call = lambda call: told.append(call.change)  # type: ignore[method-assign]
        for _each in range(2):
            await site.rpc("log_set_level", level="ERROR")
        made = site.fleet._made
        assert told == [made - 1, made]
        assert {call.change for call in site.fleet.configuration()} == {made}

    with_site(test)


def test_what_was_told_survives_a_transaction_that_fails() -> None:
    async def test(site: Site) -> None:
        site.hear(1, event="unit", uuid=site.engine.bdevs.get("M-one").uuid, unit=REGISTERED)
        calls = [
            {"method": "iscsi_target_node_remove_lun", "params": {"name": ONE, "lun_id": 0}},
            {"method": "iscsi_delete_target_node", "params": {"name": "nope"}},
        ]
        with pytest.raises(RuntimeError):
            await site.rpc("engine_apply", calls=calls)
        assert site.fleet.luggage(1)[1]["units"] == {"M-one": REGISTERED}

    with_site(test)


def test_a_move_that_meets_a_bug_does_not_hold_up_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(site: Site) -> None:
        def pack(*_arguments: Any) -> None:
            raise RuntimeError("bug")

        monkeypatch.setattr(luggage, "pack", pack)
        await site.rpc("iscsi_target_node_add_lun", name="other", bdev_name="M-one")
        await site.rpc("log_set_level", level="ERROR")
        assert [each[1] for each in site.story if each[0] == 1] == ["iscsi_target_node_add_lun", "log_set_level"]

    with_site(test)
    assert "could not be handed over because of a bug" in caplog.text


def test_what_somebody_set_in_a_worker_is_what_a_new_one_has() -> None:
    async def test(site: Site) -> None:
        await site.rpc("iscsi_create_portal_group", tag=1, portals=[{"host": "127.0.0.1", "port": str(free_port())}])
        await site.rpc("iscsi_target_node_add_pg_ig_maps", name=ONE, pg_ig_maps=[{"pg_tag": 1, "ig_tag": 2}])
        standby = {"1": [2, 1]}
        site.hear(1, event="access", node=ONE, access=standby)
        assert site.fleet.luggage(1)[1]["access"] == {ONE: standby}
        await site.rpc("iscsi_target_node_set_access_state", name=ONE, pg_tag=1, access_state="optimized")
        assert site.fleet.luggage(1)[1]["access"] == {ONE: {"1": [0, 2]}}

    with_site(test)


def test_what_is_set_here_is_not_undone_by_what_a_worker_told_before() -> None:
    async def test(site: Site) -> None:
        for tag in (1, 2):
            portals = [{"host": "127.0.0.1", "port": str(free_port())}]
            await site.rpc("iscsi_create_portal_group", tag=tag, portals=portals)
            await site.rpc("iscsi_target_node_add_pg_ig_maps", name=ONE, pg_ig_maps=[{"pg_tag": tag, "ig_tag": 2}])
        before, standby = site.fleet._made, {"1": [2, 1], "2": [2, 1]}
        state = {"name": ONE, "pg_tag": 1, "access_state": "non_optimized"}
        await site.rpc("iscsi_target_node_set_access_state", **state)
        site.hear(1, event="access", node=ONE, access=standby, change=before)
        assert site.fleet.luggage(1)[1]["access"] == {ONE: {"1": [1, 2], "2": [2, 1]}}
        # What a transaction set that failed counts for nothing.
        calls = [
            {"method": "iscsi_target_node_set_access_state", "params": {**state, "access_state": "optimized"}},
            {"method": "iscsi_delete_target_node", "params": {"name": "nope"}},
        ]
        with pytest.raises(RuntimeError):
            await site.rpc("engine_apply", calls=calls)
        site.hear(1, event="access", node=ONE, access=standby)
        assert site.fleet.luggage(1)[1]["access"] == {ONE: standby}

    with_site(test)


def test_who_asked_for_a_change_does_not_wait_for_the_moves_of_the_next_one() -> None:
    async def test(site: Site) -> None:
        for name in ("third", "fourth"):
            await site.rpc("bdev_malloc_create", name=f"M-{name}", num_blocks=8, block_size=512)
            await site.node(name, f"M-{name}")
        first, second = asyncio.Event(), asyncio.Event()

        async def see_off(nodes: list[str], _seconds: int, until_rest: bool) -> None:
            del until_rest
            await (first if nodes == [OTHER] else second).wait()

        for recorder in site.recorders:
            recorder.see_off = see_off  # type: ignore[method-assign]
        moving = asyncio.ensure_future(site.rpc("iscsi_target_node_add_lun", name="other", bdev_name="M-one"))
        await asyncio.sleep(0)
        asking = asyncio.ensure_future(site.rpc("log_set_level", level="ERROR"))
        await asyncio.sleep(0)
        next_one = asyncio.ensure_future(site.rpc("iscsi_target_node_add_lun", name="fourth", bdev_name="M-one"))
        await asyncio.sleep(0)
        first.set()
        await asyncio.wait_for(asyncio.gather(moving, asking), 5)
        assert not next_one.done()
        second.set()
        await next_one

    with_site(test)
