# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ALUA by RPC: the state of the paths through a portal group, told to initiators, saved, and undone."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from engine_process import Engine, Launch, RpcError, Target
from pdu import cdb
from pdu.initiator import Initiator

GOOD = 0
BLOCK = 512
CHANGED, STANDBY = (6, 0x2A, 0x06), (2, 0x04, 0x0B)


class Paths(NamedTuple):
    """One disk behind portal groups 1 and 3."""

    engine: Engine
    one: Target
    other: Target

    def set(self, tag: int, state: str) -> None:
        self.engine.rpc("iscsi_target_node_set_access_state", name=self.one.name, pg_tag=tag, access_state=state)

    def shown(self) -> Any:
        return self.engine.rpc("iscsi_get_target_nodes")[0].get("access_states")


@pytest.fixture
def paths(launch: Launch) -> Paths:
    engine = launch(state=True)
    engine.initiator_group()
    ports = [engine.portal_group(tag) for tag in (1, 3)]
    name = engine.node("disk", engine.malloc("M", 1))
    engine.rpc("iscsi_target_node_add_pg_ig_maps", name=name, pg_ig_maps=[{"pg_tag": 3, "ig_tag": 2}])
    one, other = (Target(engine, port, name) for port in ports)
    return Paths(engine, one, other)


def read(initiator: Initiator) -> tuple[int, ...] | None:
    """The sense of a READ that failed."""
    outcome = initiator.read(cdb.read_10(0, 1), BLOCK)
    return None if outcome.status == GOOD else outcome.response.sense


def states(initiator: Initiator) -> list[int]:
    data = initiator.read(bytes.fromhex("a30a00000000000000ff0000"), 255).data
    return [data[at] & 0x0F for at in range(4, len(data), 12)]


def test_initiators_are_told_and_find_a_path_that_works(paths: Paths) -> None:
    with paths.one.login() as one, paths.other.login() as other:
        paths.set(1, "standby")
        paths.set(1, "standby")
        assert [read(one), read(one)] == [CHANGED, STANDBY]
        assert [read(other), read(other)] == [CHANGED, None]
        assert states(one) == states(other) == [2, 0]
        assert paths.shown() == [{"pg_tag": 1, "access_state": "standby"}]
        paths.set(1, "optimized")
        assert [read(one), read(one)] == [CHANGED, None]
        assert paths.shown() is None


def test_the_state_is_kept_over_a_restart_and_goes_with_the_portal_group(paths: Paths) -> None:
    paths.set(3, "unavailable")
    paths.set(1, "non_optimized")
    paths.engine.restart()
    assert {each["pg_tag"]: each["access_state"] for each in paths.shown()} == {1: "non_optimized", 3: "unavailable"}
    with paths.one.login() as one:
        assert read(one) is None
        assert states(one) == [1, 3]
        maps = {"name": paths.one.name, "pg_ig_maps": [{"pg_tag": 3, "ig_tag": 2}]}
        paths.engine.rpc("iscsi_target_node_remove_pg_ig_maps", **maps)
        assert [read(one), read(one)] == [CHANGED, None]
        assert states(one) == [1]
        paths.engine.rpc("iscsi_target_node_add_pg_ig_maps", **maps)
        assert [read(one), read(one)] == [CHANGED, None]
        assert states(one) == [1, 0]
    assert paths.shown() == [{"pg_tag": 1, "access_state": "non_optimized"}]


def test_what_an_initiator_sets_is_shown_and_ends_with_the_engine(paths: Paths) -> None:
    with paths.one.login() as one:
        change = bytes((0, 0, 0, 0, 2, 0, 0, 3))
        assert one.write(bytes.fromhex("a40a00000000000000080000"), change, immediate=8).status == GOOD
    assert paths.shown() == [{"pg_tag": 3, "access_state": "standby"}]
    paths.engine.restart()
    assert paths.shown() is None


def test_changes_as_one_are_undone_as_one(paths: Paths) -> None:
    paths.set(3, "standby")
    calls = [
        {
            "method": "iscsi_target_node_remove_pg_ig_maps",
            "params": {"name": paths.one.name, "pg_ig_maps": [{"pg_tag": 3, "ig_tag": 2}]},
        },
        {
            "method": "iscsi_target_node_set_access_state",
            "params": {"name": paths.one.name, "pg_tag": 1, "access_state": "unavailable"},
        },
        {"method": "iscsi_delete_portal_group", "params": {"tag": 9}},
    ]
    with pytest.raises(RpcError, match="nothing was changed"):
        paths.engine.rpc("engine_apply", calls=calls)
    assert paths.shown() == [{"pg_tag": 3, "access_state": "standby"}]
    with paths.one.login() as one:
        assert states(one) == [0, 2]


@pytest.mark.parametrize(
    ("tag", "state", "words"),
    [(3, "asleep", "standby"), (7, "standby", "portal group 7"), (2, "standby", "is not mapped to it.*: 1, 3")],
)
def test_what_cannot_be_set_is_refused_by_name(paths: Paths, tag: int, state: str, words: str) -> None:
    paths.engine.portal_group(2)
    with pytest.raises(RpcError, match=words):
        paths.set(tag, state)
    assert paths.shown() is None
