# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rebuilds of mirrors with several processes: where they are at work, and when a base counts as rebuilt."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.mirror import MirrorBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores import member, moving
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import Busy
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.methods import bdev_raid
from cores_site import Site, with_site

GAIN, LOSE = "engine_worker_gain_mirror", "engine_worker_lose_mirror"


def with_mirror(test: Callable[[Site, MirrorBdev], Awaitable[None]]) -> None:
    """``R0`` on A, shown by the node ``mirror`` of worker 1; B is a new base of it."""

    async def run(site: Site) -> None:
        for name in "AB":
            await site.rpc("bdev_null_create", name=name, num_blocks=2048, block_size=512)
        await site.rpc("bdev_raid_create", name="R0", raid_level="raid1", base_bdevs=["A"])
        assert site.fleet.owners[await site.node("mirror", "R0")] == 1
        await site.rpc("bdev_raid_add_base_bdev", raid_bdev="R0", base_bdev="B")
        mirror = site.engine.bdevs.get("R0")
        assert isinstance(mirror, MirrorBdev)
        await test(site, mirror)

    with_site(run)


def hear(site: Site, number: int, mirror: MirrorBdev, base: str, is_gained: bool, **words: int) -> None:
    site.hear(number, event="mirror", mirror=mirror.uuid, base=base, gained=is_gained, **words)


def names(mirror: MirrorBdev) -> list[str]:
    return [base.name for base in mirror.bases]


def begun(site: Site) -> list[tuple[int, Mapping[str, Any]]]:
    return [(number, packed["rebuilds"]) for number, _names, packed in site.taken() if "rebuilds" in packed]


def test_it_begins_with_the_worker_that_serves_the_mirror_when_it_knows_the_base() -> None:
    async def test(site: Site, mirror: MirrorBdev) -> None:
        assert begun(site) == [(1, {"R0": "B"})]
        told = [each[1] for each in site.story if each[0] == 1]
        assert told[-2:] == ["bdev_raid_add_base_bdev", "take_over"]
        assert mirror.rebuild
        assert not mirror.rebuild.is_at_work
        # So it does with the next one.
        assert [site.fleet.luggage(number)[1].get("rebuilds") for number in (1, 2)] == [{"R0": "B"}, None]

    with_mirror(test)


def test_what_its_worker_rebuilt_is_a_base_everywhere() -> None:
    async def test(site: Site, mirror: MirrorBdev) -> None:
        site.story.clear()
        hear(site, 1, mirror, "B", is_gained=True)
        assert names(mirror) == ["A", "B"]
        assert site.story == [(number, GAIN, {"name": "R0", "base": "B"}) for number in (1, 2)]
        assert "rebuilds" not in site.fleet.luggage(1)[1]

    with_mirror(test)


def test_what_another_worker_believes_to_be_rebuilt_is_not() -> None:
    async def test(site: Site, mirror: MirrorBdev) -> None:
        hear(site, 2, mirror, "B", is_gained=True)
        assert names(mirror) == ["A"]

    with_mirror(test)


@pytest.mark.parametrize("is_gained", [False, True])
def test_what_was_told_of_a_base_before_it_was_added_anew_does_not_count(is_gained: bool) -> None:
    async def test(site: Site, mirror: MirrorBdev) -> None:
        before = site.fleet._made
        await site.rpc("bdev_raid_remove_base_bdev", name="B")
        await site.rpc("bdev_raid_add_base_bdev", raid_bdev="R0", base_bdev="B")
        hear(site, 1, mirror, "B", is_gained, change=before)
        assert [base.name for base in mirror.below()] == ["A", "B"]
        assert names(mirror) == ["A"]
        hear(site, 1, mirror, "B", is_gained)
        assert [base.name for base in mirror.below()] == ["A", "B"][: 1 + is_gained]

    with_mirror(test)


def test_how_far_it_is_is_known_here() -> None:
    async def test(site: Site, mirror: MirrorBdev) -> None:
        assert mirror.rebuild
        for number, copied in ((1, 4096), (2, 8192)):
            site.hear(number, event="rebuild", mirror=mirror.uuid, base="B", copied=copied)
        assert mirror.rebuild.copied == 4096
        site.fleet.luggage(1)  # a new worker begins anew
        assert mirror.rebuild.copied == 0

    with_mirror(test)


async def move_to_worker_2(site: Site) -> None:
    """Most of the nodes that come to share a disk are there."""
    for number in range(3):
        node = await site.node(f"more{number}", "M-other")
        assert site.fleet.owners[node] == 2
    site.story.clear()
    await site.rpc("iscsi_target_node_add_lun", name="mirror", bdev_name="M-other")


def test_it_goes_where_the_nodes_go() -> None:
    async def test(site: Site, mirror: MirrorBdev) -> None:
        await move_to_worker_2(site)
        (left,) = [each for each in site.story if each[1] == "see_off"]
        assert (left[0], [name.startswith("rebuild ") for name in left[2]]) == (1, [False, True])
        assert begun(site) == [(2, {"R0": "B"})]
        hear(site, 1, mirror, "B", is_gained=True)
        assert names(mirror) == ["A"]
        hear(site, 2, mirror, "B", is_gained=True)
        assert names(mirror) == ["A", "B"]

    with_mirror(test)


def test_what_is_rebuilt_while_it_is_seen_off_is_known_where_it_goes() -> None:
    async def test(site: Site, mirror: MirrorBdev) -> None:
        adding = asyncio.ensure_future(move_to_worker_2(site))
        while not [each for each in site.story if each[1] == "see_off"]:
            await asyncio.sleep(0)
        hear(site, 1, mirror, "B", is_gained=True)
        hear(site, 1, mirror, "A", is_gained=False)
        await adding
        story = [each[1] for each in site.story if each[0] == 2]
        assert story.index(GAIN) < story.index(LOSE) < story.index("take_over")
        assert begun(site) == []
        assert names(mirror) == ["B"]

    with_mirror(test)


def test_it_waits_with_the_nodes_whose_worker_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(site: Site, mirror: MirrorBdev) -> None:
        site.recorders[0].refuses = Busy("worker 1 is killed but does not end")
        await move_to_worker_2(site)
        assert begun(site) == []
        hear(site, 1, mirror, "A", is_gained=False)  # the last one
        assert names(mirror) == ["A"]
        site.recorders[0].refuses = None
        while not begun(site):
            await asyncio.sleep(0.001)
        assert begun(site) == [(2, {"R0": "B"})]

    monkeypatch.setattr(moving, "_AGAIN_SECONDS", 0.001)
    with_mirror(test)


def test_it_is_the_main_processs_where_that_drives_a_disk() -> None:
    async def test(site: Site, mirror: MirrorBdev) -> None:
        await site.node_of_main()
        site.story.clear()
        await site.rpc("iscsi_target_node_add_lun", name="nvme", bdev_name="R0")
        while mirror.rebuild is not None:
            await asyncio.sleep(0)
        assert names(mirror) == ["A", "B"]
        assert [each[0] for each in site.story if each[1] == GAIN] == [1, 2]
        assert begun(site) == []

    with_mirror(test)


def test_what_is_taken_from_a_mirror_is_told_in_its_turn() -> None:
    """The answer waits for what is on its way to it."""

    async def test(site: Site, mirror: MirrorBdev) -> None:
        site.story.clear()
        await site.rpc("bdev_raid_remove_base_bdev", name="B")
        assert mirror.rebuild is None
        assert [each[:2] for each in site.story] == [(number, "bdev_raid_remove_base_bdev") for number in (1, 2)]

    with_mirror(test)


def test_a_base_that_is_given_up_while_workers_have_yet_to_make_the_mirror_is_none_there() -> None:
    async def test(site: Site, mirror: MirrorBdev) -> None:
        hear(site, 1, mirror, "B", is_gained=True)
        site.story.clear()
        with site.fleet.holding():
            hear(site, 1, mirror, "B", is_gained=False)
        assert [each[:2] for each in site.story] == [(1, LOSE), (2, LOSE)] * 2

    with_mirror(test)


@pytest.mark.parametrize(("method", "name"), [("bdev_raid_delete", "R0"), ("bdev_null_delete", "B")])
def test_what_takes_a_disk_from_it_is_about_the_worker_that_it_is_at(method: str, name: str) -> None:
    """Though no node shows the mirror: what is copied to the disk has to be there, or never come."""

    async def test(site: Site) -> None:
        for disk in "AB":
            await site.rpc("bdev_null_create", name=disk, num_blocks=2048, block_size=512)
        await site.rpc("bdev_raid_create", name="R0", raid_level="raid1", base_bdevs=["A"])
        await site.rpc("bdev_raid_add_base_bdev", raid_bdev="R0", base_bdev="B")
        ((number, _bases),) = begun(site)
        await site.rpc(method, name=name)
        assert [each.number for each in site.recorders if each.is_concerned] == [number]

    with_site(test)


def test_a_disk_that_hangs_ends_no_worker() -> None:
    """Each waits for it when a mirror gives it up, and is itself waited for."""
    assert bdev_raid._PATIENCE < member._FOLLOW_SECONDS
