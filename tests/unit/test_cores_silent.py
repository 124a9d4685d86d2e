# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers that do not answer, or do not even end: nobody waits for them without limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores import member as member_module
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.host import Call
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.member import all_of
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.outstanding import Outstanding, WorkerGone
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import Busy
from cores_stage import Stage, on_stage

# -- who does not even end


def in_no_time(monkeypatch: pytest.MonkeyPatch, *but: str) -> None:
    """Nobody is patient."""
    for limit in {"_FOLLOW_SECONDS", "_SILENT_SECONDS", "_GONE_SECONDS", "_PART_SECONDS", "_END_SECONDS"} - {*but}:
        monkeypatch.setattr(member_module, limit, 0.05)


@pytest.mark.parametrize("what", ["a change", "all changes", "a node"])
def test_who_waits_for_one_that_a_disk_keeps_learns_of_it(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(stage: Stage) -> None:
        member = stage.member
        await stage.until(lambda: member.ready)
        pid = member.pid
        stage.obeys, stage.disk_hangs = False, True
        member.call(Call("third", None, change=7, concerns=frozenset((1,))))
        waits: dict[str, Callable[[], Awaitable[None]]] = {
            "a change": lambda: member.followed({7}, False),
            "all changes": member.caught_up,
            "a node": lambda: member.see_off(["n"], 0, until_rest=False),
        }
        with pytest.raises(Busy, match=rf"worker 1 \(pid {pid}, core 0\) is killed but does not end: a disk keeps it"):
            await asyncio.wait_for(waits[what](), 10)
        assert not member.restarts
        await member.followed({8}, False)  # others need not know
        with pytest.raises(Busy, match="a disk keeps it"):
            await member.followed({8}, True)
        stage.obeys, stage.disk_hangs = True, False
        stage.processes[0].kill()
        await stage.until(lambda: member.ready)
        await member.see_off(["n"], 0, until_rest=False)
        await member.followed({9}, True)

    in_no_time(monkeypatch)
    on_stage(play)


def test_a_worker_that_does_not_let_go_of_its_nodes_in_time_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(stage: Stage) -> None:
        await stage.until(lambda: stage.member.ready)
        stage.obeys = False
        await asyncio.wait_for(stage.member.see_off(["n"], 0, until_rest=True), 10)
        assert stage.processes[0].poll() is not None

    in_no_time(monkeypatch)
    on_stage(play)


def test_nobody_waits_for_the_answer_of_one_that_is_given_up() -> None:
    """Its end may come much later."""

    async def play(stage: Stage) -> None:
        await stage.until(lambda: stage.member.ready)
        stage.obeys, stage.disk_hangs = False, True
        asking = asyncio.ensure_future(stage.member.ask("question", None))
        await stage.until(lambda: stage.heard[-1]["op"] == "ask")
        stage.member.give_up("the test wants it")
        with pytest.raises(WorkerGone, match="ended, or was killed"):
            await asyncio.wait_for(asking, 1)

    on_stage(play)


def test_it_is_told_that_a_killed_one_is_still_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(stage: Stage) -> None:
        await stage.until(lambda: stage.member.ready)
        stage.disk_hangs = True
        assert stage.worker
        stage.worker.close()
        await stage.until(lambda: "Until it ends nobody serves its target nodes" in caplog.text)
        assert len(stage.processes) == 1

    in_no_time(monkeypatch)
    on_stage(play)


@pytest.mark.parametrize("is_silent", [False, True])
def test_the_engine_ends_without_one_that_a_disk_keeps(
    is_silent: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(stage: Stage) -> None:
        await stage.until(lambda: stage.member.ready)
        stage.obeys, stage.lives, stage.disk_hangs = False, not is_silent, True
        await asyncio.wait_for(stage.member.stop(0), 10)
        assert stage.processes[0].poll() is None

    in_no_time(monkeypatch)
    on_stage(play)
    assert "The engine ends without it" in caplog.text


def test_one_that_is_silent_is_not_waited_for_as_long_as_one_that_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(stage: Stage) -> None:
        await stage.until(lambda: stage.member.ready)
        stage.obeys = stage.lives = False
        await asyncio.wait_for(stage.member.stop(1000), 10)
        assert stage.processes[0].poll() is not None

    in_no_time(monkeypatch)
    on_stage(play)


# -- what others have to do with it


def test_changes_that_are_not_about_it_wait_a_little_and_only_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(stage: Stage) -> None:
        member = stage.member
        await stage.until(lambda: member.ready)
        stage.obeys = False
        member.call(Call("theirs", None, change=7, concerns=frozenset((2,))))
        await asyncio.wait_for(member.followed({7}, False), 10)
        monkeypatch.setattr(member_module, "_SILENT_SECONDS", 1000.0)
        member.call(Call("its own", None, change=8, concerns=frozenset((1,))))
        member.call(Call("theirs", None, change=9))
        await asyncio.wait_for(member.followed({9}, False), 10)
        waiting = asyncio.ensure_future(member.followed({8}, True))
        await stage.until(lambda: stage.heard[-1].get("change") == 9)
        assert not waiting.done()
        assert stage.worker
        for words in stage.heard[-3:]:
            stage.worker.send({"done": words["id"], "error": None})
        await waiting
        assert (member.restarts, caplog.text.count("does not get on")) == (0, 1)
        # Now it is waited for again.
        member.call(Call("theirs", None, change=10))
        waiting = asyncio.ensure_future(member.followed({10}, False))
        await stage.until(lambda: stage.heard[-1].get("change") == 10)
        assert not waiting.done()
        stage.worker.send({"done": stage.heard[-1]["id"], "error": None})
        await waiting

    monkeypatch.setattr(member_module, "_SILENT_SECONDS", 0.05)
    on_stage(play)


def test_who_did_not_answer_is_not_asked_again_until_it_is_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(stage: Stage) -> None:
        await stage.until(lambda: stage.member.ready)
        stage.obeys = False
        monkeypatch.setattr(member_module, "_ASK_SECONDS", 0.01)
        assert await all_of([stage.member], "question") == {}
        monkeypatch.setattr(member_module, "_ASK_SECONDS", 1000.0)
        asked = len(stage.heard)
        assert await asyncio.wait_for(all_of([stage.member], "question"), 10) == {}
        assert len(stage.heard) == asked
        assert stage.worker
        stage.obeys = True
        stage.worker.send({"event": "sessions", "count": 3})
        await stage.until(lambda: stage.member.sessions)
        assert await all_of([stage.member], "question") == {1: "question"}

    on_stage(play)


def test_who_had_nothing_to_do_for_long_does_not_stand_still() -> None:
    async def play() -> None:
        outstanding = Outstanding()
        assert outstanding.stands_still(10)
        outstanding.tell("something")
        assert not outstanding.stands_still(10)

    asyncio.run(play())
