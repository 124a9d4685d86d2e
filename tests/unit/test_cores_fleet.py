# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What workers are told, and when: changes, transactions, moves of target nodes, logins that wait."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.fleet import Fleet
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.member import Call
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.sources import GivenSources, OwnSources
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import Busy
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi import luggage, parting
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.portal import Portal
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.reception import Arrival
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.process import Logs
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.dispatch import Reply
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.method import Spread, State
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.methods import all_methods
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.service import Engine, Settings, WorkerPlace
from engine_process import free_port


class Recorder:
    """A worker that does what it is told at once, and remembers it."""

    sessions = 0
    core = 0

    def __init__(self, number: int, story: list[Any]) -> None:
        self.number = number
        self.ready = True
        self.story = story

    def call(self, call: Call) -> None:
        self.story.append((self.number, call.method, dict(call.params or {})))

    async def caught_up(self) -> None:
        pass

    async def see_off(self, nodes: list[str], _seconds: int, until_rest: bool) -> None:
        self.story.append((self.number, "see_off" if until_rest else "see_off_for_good", nodes))
        await asyncio.sleep(0.01)

    def take_over(self, nodes: list[str], luggage: Mapping[str, Any] | None) -> None:
        self.story.append((self.number, "take_over", nodes, luggage))

    def hand_over(self, arrival: Arrival, _elsewhere: int) -> None:
        self.story.append((self.number, "hand_over"))
        arrival.sock.close()


class Site:
    """An engine with two recorders, and target nodes ``one`` and ``other`` on a disk each."""

    def __init__(self) -> None:
        self.engine = Engine(Settings(socket="/nowhere"), Logs())
        self.engine.logs.level = "NOTICE"
        self.story: list[Any] = []
        self.engine.sources = OwnSources()
        self.fleet = self.engine.fleet = Fleet(self.engine, (0, 1))
        self.recorders = [Recorder(number, self.story) for number in (1, 2)]
        self.fleet.members = self.recorders  # type: ignore[assignment]
        self.engine.dispatcher.state = State.RUNTIME
        self.engine.dispatcher.workers = self.fleet
        self.engine.target.elsewhere = self.fleet

    async def rpc(self, method: str, **params: Any) -> Any:
        reply = self.engine.dispatcher.begin({"id": 1, "method": method, "params": params})
        answer = (reply if isinstance(reply, Reply) else await reply).answer or {}
        if "error" in answer:
            raise RuntimeError(answer["error"]["message"])
        await self.engine.commit()
        return answer["result"]

    async def build(self) -> Site:
        await self.rpc("iscsi_create_initiator_group", tag=2, initiators=["ANY"], netmasks=["ANY"])
        for name in ("one", "other"):
            await self.rpc("bdev_malloc_create", name=f"M-{name}", num_blocks=8, block_size=512)
            luns = [{"lun_id": 0, "bdev_name": f"M-{name}"}]
            await self.rpc(
                "iscsi_create_target_node", name=name, alias_name="", pg_ig_maps=[], luns=luns, queue_depth=8
            )
        self.story.clear()
        return self

    def hear(self, number: int, **words: Any) -> None:
        """What that worker tells, after all that it was told unless it is ``change``."""
        words.setdefault("change", self.fleet._made)
        self.fleet.reported(self.recorders[number - 1], words)  # type: ignore[arg-type]

    def close(self) -> None:
        for group in self.engine.target.portal_groups.values():
            group.close(asyncio.get_running_loop())
        self.engine.bdevs.close()
        self.fleet._launcher.close()


def with_site(test: Callable[[Site], Awaitable[None]]) -> None:
    async def run() -> None:
        site = await Site().build()
        try:
            await asyncio.wait_for(test(site), 20)
        finally:
            site.close()

    asyncio.run(run())


def arrival() -> tuple[Arrival, socket.socket]:
    ours, its = socket.socketpair()
    return Arrival(ours, Portal("127.0.0.1", "3260", 1)), its


ONE, OTHER = "iqn.2016-06.io.spdk:one", "iqn.2016-06.io.spdk:other"
REGISTERED: dict[str, Any] = {
    "modes": [False, False, False],
    "loaded": True,
    "reservations": {"registrants": [["a,i,0x1", "t,t,0x0001", 1, 7]], "holder": None, "type": None},
    "aptpl": False,
    "generation": 1,
    "erasure": None,
}


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


# -- places


def test_a_new_node_takes_the_place_of_one_that_is_gone() -> None:
    async def test(site: Site) -> None:
        await site.rpc("iscsi_delete_target_node", name="other")
        await site.rpc("bdev_malloc_create", name="M-new", num_blocks=8, block_size=512)
        luns = [{"lun_id": 0, "bdev_name": "M-new"}]
        await site.rpc("iscsi_create_target_node", name="new", pg_ig_maps=[], luns=luns, queue_depth=8)
        assert site.fleet.owners == {"iqn.2016-06.io.spdk:one": 1, "iqn.2016-06.io.spdk:new": 2}

    with_site(test)


# -- moves


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


def test_a_node_that_the_main_process_is_not_done_with_is_served_when_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Meanwhile everything else goes on, and the node can be deleted."""

    async def test(site: Site) -> None:
        working = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(parting, "_REST_SECONDS", 0.01)
        monkeypatch.setattr(site.engine.target.settling, "left_on", lambda _lun: [working])
        owners = {ONE: 1, OTHER: 1}
        site.fleet.owners.update(owners)
        moving = site.fleet._moving
        moves = {name: (0, owner) for name, owner in owners.items()}
        moving.begin(moves)
        await moving.go(moves)
        assert "its disks still work on 1 commands. Until these have ended nobody serves" in caplog.text
        come, peer = arrival()
        assert site.fleet.take(site.engine.target.node(ONE), come)
        await site.rpc("log_set_level", level="ERROR")
        await asyncio.wait_for(site.rpc("iscsi_delete_target_node", name=OTHER), 5)
        assert not [each for each in site.story if each[1] in ("take_over", "hand_over")]
        working.set_result(None)
        while (1, "hand_over") not in [each[:2] for each in site.story]:
            await asyncio.sleep(0.001)
        assert [each[2] for each in site.story if each[1] == "take_over"] == [[ONE]]
        peer.close()

    with_site(test)


def test_a_bug_keeps_no_node_away_for_ever(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def test(site: Site) -> None:
        outcomes = [Busy("its disks still work"), Busy("its disks still work"), RuntimeError("bug")]

        is_moved = asyncio.Event()

        async def at_rest(_target: Any, _names: Any) -> None:
            if len(outcomes) < 3:
                await is_moved.wait()
            raise outcomes.pop(0)

        monkeypatch.setattr(parting, "at_rest", at_rest)
        site.fleet.owners[ONE] = 1
        moves = {ONE: (0, 1)}
        site.fleet._moving.begin(moves)
        await site.fleet._moving.go(moves)
        assert site.story == []
        is_moved.set()
        while ONE in site.fleet._moving:
            await asyncio.sleep(0.001)
        assert [each[:3] for each in site.story] == [(1, "take_over", [ONE])]

    with_site(test)
    assert "at rest is not known because of a bug" in caplog.text


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
        await site.rpc("bdev_null_create", name="N1n1", num_blocks=8, block_size=512)
        site.engine.nvme = [SimpleNamespace(bdevs=[site.engine.bdevs.get("N1n1")])]  # type: ignore[assignment]
        await site.rpc("iscsi_target_node_add_lun", name="one", bdev_name="N1n1")
        assert (site.engine.owner_of("iqn.2016-06.io.spdk:one"), site.engine.owner_of(OTHER)) == (0, 2)
        assert (1, "see_off", ["iqn.2016-06.io.spdk:one"]) in site.story
        come, peer = arrival()
        assert not site.fleet.take(site.engine.target.node("one"), come)
        come.sock.close()
        peer.close()
        site.engine.nvme = SimpleNamespace(config=lambda: ())  # type: ignore[assignment]

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


class Controllers:
    """NVMe controllers of the main process."""

    def __init__(self, attached: list[Any], attach: tuple[str, dict[str, Any]]) -> None:
        self._attached, self._attach = attached, attach

    def __iter__(self) -> Iterator[Any]:
        return iter(self._attached)

    def get(self, _name: str) -> Any:
        return self._attached[0]

    def config(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield self._attach


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
