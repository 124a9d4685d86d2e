# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Target nodes that cannot leave their worker yet, and those that share disks with them: one process at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.mirror import MirrorBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores import moving
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.moving import Moving
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import Busy
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.unit import UnitState
from cores_site import ONE, OTHER, REGISTERED, Site, arrival, with_site


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "_AGAIN_SECONDS", 0.001)


def with_stuck_node(test: Callable[[Site], Awaitable[None]]) -> None:
    """The node ``other`` has to go to worker 1, and worker 2 was killed and does not end."""

    async def run(site: Site) -> None:
        site.hear(2, event="unit", uuid=site.engine.bdevs.get("M-other").uuid, unit=REGISTERED)
        site.recorders[1].refuses = Busy("worker 2 is killed but does not end")
        await site.rpc("iscsi_target_node_add_lun", name="other", bdev_name="M-one")
        assert site.fleet.owners[OTHER] == 1
        site.story.clear()
        await test(site)

    with_site(run)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def unit_of(site: Site, bdev: str) -> UnitState:
    unit = site.engine.target.units.get(site.engine.bdevs.get(bdev))
    assert unit is not None
    return unit


def test_a_node_whose_worker_does_not_end_is_served_when_it_has(caplog: pytest.LogCaptureFixture) -> None:
    async def test(site: Site) -> None:
        assert f"target nodes {OTHER} cannot be moved yet: worker 2 is killed but does not end" in caplog.text
        come, peer = arrival()
        assert site.fleet.take(site.engine.target.node(OTHER), come)
        await site.rpc("log_set_level", level="ERROR")  # other changes go on
        assert not [each for each in site.story if each[1] in ("take_over", "hand_over")]
        site.recorders[1].refuses = None
        await until(lambda: (1, "hand_over") in site.story)
        assert [each[:2] for each in site.taken()] == [(1, [OTHER])]
        peer.close()

    with_stuck_node(test)


def test_a_node_that_is_stuck_can_be_deleted() -> None:
    async def test(site: Site) -> None:
        await asyncio.wait_for(site.rpc("iscsi_delete_target_node", name=OTHER), 5)
        site.recorders[1].refuses = None
        await until(lambda: OTHER not in site.fleet._moving)
        assert site.taken() == []

    with_stuck_node(test)


def test_a_node_whose_worker_is_killed_and_does_not_end_is_not_deleted() -> None:
    async def test(site: Site) -> None:
        site.recorders[0].refuses = Busy("worker 1 is killed but does not end")
        with pytest.raises(RuntimeError, match=f"target node {ONE} stays: worker 1 is killed but does not end"):
            await site.rpc("iscsi_delete_target_node", name="one")
        assert not site.engine.target.node(ONE).is_closed
        site.recorders[0].refuses = None
        await site.rpc("iscsi_delete_target_node", name="one")
        assert list(site.engine.target.nodes) == [OTHER]

    with_site(test)


def test_who_shows_the_disk_of_a_stuck_node_newly_waits_with_it(caplog: pytest.LogCaptureFixture) -> None:
    """Its reservations, which only the killed worker's successor is told, would be missing there."""

    async def test(site: Site) -> None:
        new = await site.node("new", "M-other")
        assert f"target nodes {new}: nobody serves them either" in caplog.text
        assert site.fleet.owners[new] == 1
        come, peer = arrival()
        assert site.fleet.take(site.engine.target.node(new), come)
        await site.rpc("log_set_level", level="ERROR")
        assert (1, "hand_over") not in site.story
        site.recorders[1].refuses = None
        await until(lambda: (1, "hand_over") in site.story)
        ((worker, names, packed),) = site.taken()
        assert (worker, names, packed["units"]["M-other"]) == (1, sorted([new, OTHER]), REGISTERED)
        peer.close()

    with_stuck_node(test)


def test_who_is_served_already_is_seen_off_before_it_shows_such_a_disk() -> None:
    async def test(site: Site) -> None:
        await site.rpc("iscsi_target_node_add_lun", name=ONE, bdev_name="M-other")
        story = [each[:2] for each in site.story if each[2:3] != ([OTHER],)]
        assert story[:2] == [(1, "see_off"), (1, "iscsi_target_node_add_lun")]
        assert ONE in site.fleet._moving
        site.recorders[1].refuses = None
        await until(lambda: ONE not in site.fleet._moving)
        ((worker, names, packed),) = site.taken()
        assert (worker, names, packed["units"]["M-other"]) == (1, [ONE, OTHER], REGISTERED)

    with_stuck_node(test)


def test_who_has_nothing_to_do_with_it_is_served() -> None:
    async def test(site: Site) -> None:
        await site.rpc("bdev_malloc_create", name="M-new", num_blocks=8, block_size=512)
        assert await site.node("new", "M-new") not in site.fleet._moving

    with_stuck_node(test)


def test_a_move_that_ends_in_a_bug_is_told_by_name_and_the_next_ones_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(site: Site) -> None:
        async def leave(*_arguments: Any) -> None:
            raise RuntimeError("bug")

        with monkeypatch.context() as patch:
            patch.setattr(Moving, "_leave", leave)
            await asyncio.wait_for(site.rpc("iscsi_target_node_add_lun", name="other", bdev_name="M-one"), 5)
        assert f"target nodes {OTHER} could not be moved because of a bug" in caplog.text
        await until(lambda: OTHER not in site.fleet._moving)  # its worker was asked anew
        assert [each[:2] for each in site.taken()] == [(1, [OTHER])]
        await site.rpc("bdev_malloc_create", name="M-third", num_blocks=8, block_size=512)
        third = await site.node("third", "M-third")
        assert site.fleet.owners[third] == 2
        site.story.clear()
        await asyncio.wait_for(site.rpc("iscsi_target_node_add_lun", name="third", bdev_name="M-one"), 5)
        assert [each[:2] for each in site.taken()] == [(1, [third])]

    with_site(test)


def test_a_worker_that_cannot_be_asked_because_of_a_bug_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async def test(site: Site) -> None:
        site.recorders[1].refuses = RuntimeError("bug")
        await site.rpc("iscsi_target_node_add_lun", name="other", bdev_name="M-one")
        await until(lambda: OTHER not in site.fleet._moving)
        assert [each[1] for each in site.story if each[0] == 2].index("give_up") > 0
        assert [each[:2] for each in site.taken()] == [(1, [OTHER])]

    with_site(test)
    assert f"target nodes {OTHER} could not be seen off because of a bug" in caplog.text


# -- where the main process serves


def test_a_disk_that_a_node_of_the_main_process_shows_newly_is_away_until_its_worker_is_done() -> None:
    async def test(site: Site) -> None:
        nvme = await site.node_of_main()
        assert (site.fleet.owners[nvme], unit_of(site, "N1n1").is_away) == (0, False)
        site.story.clear()
        adding = asyncio.ensure_future(site.rpc("iscsi_target_node_add_lun", name="nvme", bdev_name="M-one"))
        while not [each for each in site.story if each[1] == "see_off"]:
            await asyncio.sleep(0)
        assert (unit_of(site, "M-one").is_away, unit_of(site, "M-one").guarded) == (True, True)
        assert not unit_of(site, "N1n1").is_away
        await adding
        assert (site.fleet.owners[ONE], unit_of(site, "M-one").is_away) == (0, False)

    with_site(test)


def test_a_disk_on_top_of_it_is_away_too() -> None:
    async def test(site: Site) -> None:
        await site.node_of_main()
        await site.rpc("bdev_passthru_create", base_bdev_name="M-one", name="P0")
        site.recorders[0].refuses = Busy("worker 1 is killed but does not end")
        await site.rpc("iscsi_target_node_add_lun", name="nvme", bdev_name="P0")
        assert (unit_of(site, "P0").is_away, unit_of(site, "N1n1").is_away) == (True, False)
        site.recorders[0].refuses = None
        await until(lambda: not unit_of(site, "P0").is_away)
        assert not unit_of(site, "M-one").is_away

    with_site(test)


def test_a_transaction_that_fails_leaves_the_disks_of_the_main_process_as_they_were() -> None:
    async def test(site: Site) -> None:
        await site.node_of_main()
        calls = [
            {"method": "iscsi_target_node_remove_lun", "params": {"name": "nvme", "lun_id": 0}},
            {"method": "iscsi_delete_target_node", "params": {"name": "nope"}},
        ]
        with pytest.raises(RuntimeError):
            await site.rpc("engine_apply", calls=calls)
        assert not unit_of(site, "N1n1").is_away

    with_site(test)


def test_a_node_that_two_workers_do_not_let_go_of_waits_for_both() -> None:
    async def test(site: Site) -> None:
        site.recorders[0].refuses = Busy("worker 1 is killed but does not end")
        moves = {OTHER: (1, 2)}
        site.fleet.owners[OTHER] = 2
        site.fleet._moving.begin(moves)
        await site.fleet._moving.go(moves)
        site.recorders[0].refuses = None
        await until(lambda: (OTHER, 1) not in site.fleet._moving._restless)
        assert OTHER in site.fleet._moving
        site.recorders[1].refuses = None
        await until(lambda: OTHER not in site.fleet._moving)
        assert [each[:2] for each in site.taken()] == [(2, [OTHER])]

    with_stuck_node(test)


@pytest.mark.parametrize("is_early", [True, False])
def test_the_main_process_rebuilds_nothing_on_a_disk_that_a_stuck_node_is_on(is_early: bool) -> None:
    """Else what the worker writes last would be missing on the new base, and be read from it."""

    async def test(site: Site) -> None:
        for name in "AB":
            await site.rpc("bdev_null_create", name=name, num_blocks=2048, block_size=512)
        await site.rpc("bdev_raid_create", name="R0", raid_level="raid1", base_bdevs=["A"])
        await site.node("mirror", "R0")
        await site.node_of_main()
        add = "bdev_raid_add_base_bdev", {"raid_bdev": "R0", "base_bdev": "B"}
        if is_early:
            await site.rpc(add[0], **add[1])
        site.recorders[0].refuses = Busy("worker 1 is killed but does not end")
        await site.rpc("iscsi_target_node_add_lun", name="nvme", bdev_name="R0")
        if not is_early:
            await site.rpc(add[0], **add[1])
        mirror = site.engine.bdevs.get("R0")
        assert isinstance(mirror, MirrorBdev)
        assert mirror.rebuild
        assert not mirror.rebuild.is_at_work
        site.recorders[0].refuses = None
        await until(lambda: len(mirror.bases) == 2)

    with_site(test)
