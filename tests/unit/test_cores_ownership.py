# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which worker serves which target node."""

from __future__ import annotations

from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.ownership import MAIN, assign, moves
from hypothesis import given
from hypothesis import strategies as st

BASES = st.frozensets(st.sampled_from("abcdefgh"), max_size=3)
NODES = st.dictionaries(st.sampled_from([f"n{number}" for number in range(12)]), BASES)
WORKERS = st.integers(1, 4)


def test_nodes_are_spread_evenly_in_their_order() -> None:
    nodes = {f"n{number}": {f"b{number}"} for number in range(5)}
    assert list(assign(nodes, {}, 2).values()) == [1, 2, 1, 2, 1]


def test_nodes_on_one_disk_share_a_worker_through_others_too() -> None:
    nodes = {"a": {"x"}, "b": {"y"}, "c": {"z"}, "d": {"x", "z"}}
    owners = assign(nodes, {}, 3)
    assert owners["a"] == owners["c"] == owners["d"] != owners["b"]


def test_a_new_node_on_a_used_disk_goes_where_that_is() -> None:
    assert assign({"a": {"x"}, "b": {"y"}, "c": {"y"}}, {"a": 1, "b": 2}, 2)["c"] == 2


def test_of_nodes_that_come_to_share_a_disk_the_fewer_move() -> None:
    before = {"a": 1, "b": 2, "c": 2}
    after = assign({"a": {"x", "y"}, "b": {"y"}, "c": {"y"}}, before, 2)
    assert moves(before, after) == {"a": (1, 2)}


def test_what_the_main_process_drives_is_served_there() -> None:
    nodes = {"a": {"nvme"}, "b": {"x"}, "c": {"x", "nvme"}, "d": {"y"}}
    assert assign(nodes, {"b": 1}, 2, {"nvme"}) == {"a": MAIN, "b": MAIN, "c": MAIN, "d": 1}


def test_nobody_leaves_the_main_process() -> None:
    """Others come to it, however many they are."""
    before = {"a": MAIN, "b": 2, "c": 2}
    assert set(assign({"a": {"x", "y"}, "b": {"y"}, "c": {"y"}}, before, 2).values()) == {MAIN}


@given(NODES, NODES, WORKERS, st.frozensets(st.sampled_from("ah"), max_size=2))
def test_sharing_means_one_worker_and_nothing_else_moves(
    old: dict[str, frozenset[str]], new: dict[str, frozenset[str]], workers: int, of_main: frozenset[str]
) -> None:
    before = assign(old, {}, workers, of_main)
    after = assign(new, before, workers, of_main)
    assert set(after) == set(new)
    assert set(after.values()) <= set(range(workers + 1))
    for name, bases in new.items():
        for other, others in new.items():
            if bases & others:
                assert after[name] == after[other]
        if bases & of_main:
            assert after[name] == MAIN
    assert assign(new, after, workers, of_main) == after
    for name, (source, target) in moves(before, after).items():
        assert source not in (target, MAIN)
        # It has company on its disks: of nodes that were elsewhere, or of the main process's disks.
        company = _company(name, new)
        assert any(before.get(other, source) != source for other in company) or any(
            new[other] & of_main for other in company
        )


def _company(name: str, nodes: dict[str, frozenset[str]]) -> set[str]:
    """The nodes that share disks with it, through others too."""
    group, grown = {name}, True
    while grown:
        more = {each for each, bases in nodes.items() if any(bases & nodes[other] for other in group)}
        grown = not more <= group
        group |= more
    return group


@given(st.integers(1, 40), WORKERS)
def test_no_worker_has_two_more_than_another(count: int, workers: int) -> None:
    owners = list(assign({f"n{each}": {f"b{each}"} for each in range(count)}, {}, workers).values())
    loads = [owners.count(worker) for worker in range(1, workers + 1)]
    assert max(loads) - min(loads) <= 1
