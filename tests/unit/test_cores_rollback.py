# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mirror that a transaction took away and put back is the one that workers have, and is rebuilt on."""

from __future__ import annotations

import asyncio

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.mirror import MirrorBdev
from cores_site import Site, with_site


async def make(site: Site, *bases: str) -> None:
    """``R0`` of these; A and B are there."""
    for name in "AB":
        await site.rpc("bdev_null_create", name=name, num_blocks=2048, block_size=512)
    await site.rpc("bdev_raid_create", name="R0", raid_level="raid1", base_bdevs=list(bases))


async def fail(site: Site) -> MirrorBdev:
    """A transaction that deletes ``R0`` and then does what cannot be done; gives what is put back."""
    before = mirror(site)
    calls = [
        {"method": "bdev_raid_delete", "params": {"name": "R0"}},
        {"method": "iscsi_delete_target_node", "params": {"name": "nope"}},
    ]
    with pytest.raises(RuntimeError, match="nothing was changed"):
        await site.rpc("engine_apply", calls=calls)
    assert mirror(site) is not before
    return mirror(site)


def mirror(site: Site) -> MirrorBdev:
    found = site.engine.bdevs.get("R0")
    assert isinstance(found, MirrorBdev)
    return found


def hear(site: Site, base: str, is_gained: bool) -> None:
    site.hear(1, event="mirror", mirror=mirror(site).uuid, base=base, gained=is_gained)


def test_a_base_that_a_worker_gives_up_is_none_afterwards() -> None:
    async def test(site: Site) -> None:
        await make(site, "A", "B")
        await site.node("mirror", "R0")
        restored = await fail(site)
        hear(site, "A", is_gained=False)
        assert [base.name for base in restored.bases] == ["B"]

    with_site(test)


def test_a_worker_rebuilds_it_on() -> None:
    async def test(site: Site) -> None:
        await make(site, "A")
        await site.node("mirror", "R0")
        await site.rpc("bdev_raid_add_base_bdev", raid_bdev="R0", base_bdev="B")
        restored = await fail(site)
        assert [base.name for base in restored.below()] == ["A", "B"]
        assert restored.rebuild
        assert not restored.rebuild.is_at_work
        hear(site, "B", is_gained=True)
        assert [base.name for base in restored.bases] == ["A", "B"]

    with_site(test)


def test_the_main_process_rebuilds_it_anew() -> None:
    async def test(site: Site) -> None:
        await make(site, "A")
        await site.node_of_main()
        await site.rpc("iscsi_target_node_add_lun", name="nvme", bdev_name="R0")
        site.engine.tuning.raid.update(process_window_size_kb=4, process_max_bandwidth_mb_sec=1)
        await site.rpc("bdev_raid_add_base_bdev", raid_bdev="R0", base_bdev="B")
        restored = await fail(site)
        assert restored.rebuild
        assert restored.rebuild.is_at_work
        assert [base.name for base in restored.below()] == ["A", "B"]

    with_site(test)


def test_a_rebuild_that_waits_for_a_move_does_not_begin_before() -> None:
    """What the worker writes to the mirror meanwhile would be missing on the new base."""

    async def test(site: Site) -> None:
        await make(site, "A")
        await site.node("mirror", "R0")
        await site.node_of_main()
        may_end = asyncio.Event()

        async def see_off(nodes: list[str], _seconds: int, until_rest: bool) -> None:
            del nodes, until_rest
            await may_end.wait()

        site.recorders[0].see_off = see_off  # type: ignore[method-assign]
        moving = asyncio.ensure_future(site.rpc("iscsi_target_node_add_lun", name="nvme", bdev_name="R0"))
        adding = asyncio.ensure_future(site.rpc("bdev_raid_add_base_bdev", raid_bdev="R0", base_bdev="B"))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            await site.rpc("engine_apply", calls=[{"method": "iscsi_delete_target_node", "params": {"name": "nope"}}])
        rebuild = mirror(site).rebuild
        assert rebuild
        assert not rebuild.is_at_work
        may_end.set()
        await asyncio.gather(moving, adding)
        while len(mirror(site).bases) < 2:
            await asyncio.sleep(0)

    with_site(test)
