# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker as the main process sees it: what is done when it cannot follow, is silent, or ends."""

from __future__ import annotations

import asyncio

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores import member as member_module
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.host import Call
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.member import all_of
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.outstanding import WorkerGone
from cores_stage import Stage, on_stage


def test_it_gets_the_configuration_and_then_every_change() -> None:
    async def play(stage: Stage) -> None:
        stage.member.call(Call("too early", None))  # the configuration will have it
        stage.member.take_over(["too early"], {})  # and this
        await stage.until(lambda: stage.member.ready)
        stage.member.call(Call("third", {"a": 1}))
        await stage.member.caught_up()
        assert [words.get("method", words["op"]) for words in stage.heard] == [
            "hello",
            "first",
            "second",
            "take_over",
            "begin",
            "third",
        ]
        assert stage.heard[3]["nodes"] == ["node of 1"]
        assert await all_of([stage.member], "question") == {1: "question"}

    on_stage(play)


def test_who_cannot_follow_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    async def play(stage: Stage) -> None:
        await stage.until(lambda: stage.member.ready)
        stage.error = "no room"
        stage.member.call(Call("third", None))
        await stage.until(lambda: stage.member.restarts)
        stage.error = None
        await stage.until(lambda: stage.member.ready)
        assert len(stage.processes) == 2

    on_stage(play)
    assert "third failed there, and not here: no room" in caplog.text


def test_who_cannot_have_all_of_the_configuration_serves_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    async def play(stage: Stage) -> None:
        stage.error = "the disk is gone"
        await stage.until(lambda: stage.member.ready)
        stage.member.call(Call("about the same disk", None))
        await stage.member.caught_up()
        assert stage.member.restarts == 0

    on_stage(play)
    assert "What needs it is not served" in caplog.text


@pytest.mark.parametrize("limit", ["_FOLLOW_SECONDS", "_PING_SECONDS"])
def test_who_is_silent_is_replaced(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(stage: Stage) -> None:
        await stage.until(lambda: stage.member.ready)
        stage.obeys = stage.lives = False
        monkeypatch.setattr(member_module, "_FOLLOW_SECONDS", 0.05)
        if limit == "_FOLLOW_SECONDS":
            stage.member.call(Call("third", None))
            await stage.member.caught_up()
        await stage.until(lambda: stage.member.restarts)

    if limit == "_PING_SECONDS":
        monkeypatch.setattr(member_module, "_PING_SECONDS", 0.05)
    on_stage(play)


def test_a_node_that_it_takes_over_is_seen_off_afterwards() -> None:
    """Else it would let initiators in while the node is deleted."""

    async def play(stage: Stage) -> None:
        await stage.until(lambda: stage.member.ready)
        stage.obeys = False
        stage.member.take_over(["n"], None)
        seeing_off = asyncio.ensure_future(stage.member.see_off(["n"], 5, until_rest=False))
        following = asyncio.ensure_future(stage.member.caught_up())
        asking = asyncio.ensure_future(stage.member.ask("question", None))
        await stage.until(lambda: stage.heard[-1]["op"] == "ask")
        asked = stage.heard[-1]["id"]
        assert [words["op"] for words in stage.heard[-2:]] == ["take_over", "ask"]
        assert not following.done()
        assert stage.worker
        stage.worker.send({"answer": asked, "result": None})
        stage.worker.send({"done": stage.heard[-2]["id"], "error": None})
        await stage.until(lambda: stage.heard[-1]["op"] == "see_off")
        stage.worker.send({"answer": stage.heard[-1]["id"], "result": True})
        await asyncio.gather(seeing_off, following, asking)

    on_stage(play)


def test_who_still_takes_nodes_over_with_its_configuration_is_waited_for() -> None:
    """It writes files, after which those of the nodes' next worker have to come."""

    async def play(stage: Stage) -> None:
        stage.obeys = False
        await stage.until(lambda: stage.member.follows)
        following = asyncio.ensure_future(stage.member.caught_up())
        await stage.until(lambda: stage.heard and stage.heard[-1]["op"] == "begin")
        ids = {words["op"] if words["op"] != "call" else words["method"]: words.get("id") for words in stage.heard}
        assert stage.worker
        for what in ("first", "second"):
            stage.worker.send({"done": ids[what], "error": None})
        stage.worker.send({"event": "sessions", "count": 3})
        await stage.until(lambda: stage.member.sessions)
        await asyncio.sleep(0)
        assert not following.done()
        stage.worker.send({"done": ids["take_over"], "error": None})
        await following

    on_stage(play)


def test_nobody_waits_for_a_worker_that_ended() -> None:
    async def play(stage: Stage) -> None:
        await stage.until(lambda: stage.member.ready)
        stage.obeys = False
        stage.member.call(Call("third", None))
        seeing_off = asyncio.ensure_future(stage.member.see_off(["n"], 5, until_rest=True))
        following = asyncio.ensure_future(stage.member.caught_up())
        await asyncio.sleep(0)
        stage.processes[-1].kill()
        await stage.until(lambda: stage.member.restarts)
        await following
        await seeing_off
        with pytest.raises(WorkerGone):
            await stage.member.ask("question", None)  # the new one is not ready
        assert await all_of([stage.member], "question") == {}

    on_stage(play)


def test_who_cannot_let_go_of_a_node_is_replaced() -> None:
    """Its sessions must not go on beside those with another worker."""

    async def play(stage: Stage) -> None:
        await stage.until(lambda: stage.member.ready)
        stage.obeys = False
        seeing_off = asyncio.ensure_future(stage.member.see_off(["n"], 5, until_rest=True))
        await stage.until(lambda: stage.heard[-1]["op"] == "see_off")
        assert stage.worker
        stage.worker.send({"answer": stage.heard[-1]["id"], "error": "bug"})
        await stage.until(seeing_off.done)
        seeing_off.result()
        assert stage.processes[0].poll() is not None

    on_stage(play)


def test_who_takes_long_to_be_configured_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(stage: Stage) -> None:
        stage.obeys = False
        await stage.until(lambda: stage.member.follows)
        assert stage.worker
        for number in range(1, 11):
            stage.member.call(Call("more", None))
            stage.worker.send({"done": number, "error": None})
            await asyncio.sleep(0.02)
        assert stage.member.restarts == 0
        await stage.until(lambda: stage.member.restarts)  # now it is silent

    monkeypatch.setattr(member_module, "_PING_SECONDS", 0.01)
    monkeypatch.setattr(member_module, "_FOLLOW_SECONDS", 0.1)
    on_stage(play)


def test_who_has_much_to_follow_is_waited_for_while_it_gets_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a new one, which has the whole configuration before it."""

    async def play(stage: Stage) -> None:
        await stage.until(lambda: stage.member.ready)
        stage.obeys = False
        for _each in range(10):
            stage.member.call(Call("third", None))
        following = asyncio.ensure_future(stage.member.caught_up())
        await stage.until(lambda: len(stage.heard) == 15)
        assert stage.worker
        for words in stage.heard[5:]:
            await asyncio.sleep(0.05)
            stage.worker.send({"done": words["id"], "error": None})
        await following
        assert stage.member.restarts == 0

    monkeypatch.setattr(member_module, "_FOLLOW_SECONDS", 0.2)
    on_stage(play)


def test_signs_of_life_are_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(stage: Stage) -> None:
        await stage.until(lambda: stage.member.ready)
        stage.obeys = False
        stage.member.call(Call("third", None))
        following = asyncio.ensure_future(stage.member.caught_up())
        while not following.done():
            assert stage.worker
            stage.worker.send({"event": "sessions", "count": 0})
            await asyncio.sleep(0.01)
        await stage.until(lambda: stage.member.restarts)

    monkeypatch.setattr(member_module, "_FOLLOW_SECONDS", 0.1)
    on_stage(play)


def test_who_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its end of the channel is closed already."""

    async def play(stage: Stage) -> None:
        await stage.until(lambda: stage.member.ready)
        stage.obeys = False
        stopping = asyncio.ensure_future(stage.member.stop(0))
        await stage.until(lambda: stage.heard[-1]["op"] == "stop")
        assert stage.worker
        stage.worker.close()
        await stopping
        assert stage.processes[-1].poll() is not None

    monkeypatch.setattr(member_module, "_END_SECONDS", 0.1)
    on_stage(play)


def test_what_it_said_last_is_heard() -> None:
    async def play(stage: Stage) -> None:
        await stage.until(lambda: stage.member.ready)
        assert stage.worker
        stage.worker.send({"event": "mirrors", "mirrors": {}})
        stage.processes[-1].kill()
        await stage.until(lambda: stage.member.restarts)
        assert stage.reports == [{"event": "mirrors", "mirrors": {}}]

    on_stage(play)


def test_who_may_rebuild_already_is_seen_to_its_end_though_it_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins with its configuration, before it serves."""

    async def play(stage: Stage) -> None:
        stage.obeys = False
        await stage.until(lambda: stage.heard and stage.heard[-1]["op"] == "begin")
        seeing_off = asyncio.ensure_future(stage.member.see_off(["a rebuild"], 5, until_rest=True))
        assert stage.worker
        for number in [words["id"] for words in stage.heard if "id" in words]:
            stage.worker.send({"done": number, "error": None})
        await stage.until(seeing_off.done)
        seeing_off.result()
        assert stage.processes[0].poll() is not None

    packed = {"units": {}, "access": {}, "rebuilds": {"R0": "B"}}
    monkeypatch.setattr(Stage, "luggage", lambda _stage, number: ([f"node of {number}"], packed))
    on_stage(play)
