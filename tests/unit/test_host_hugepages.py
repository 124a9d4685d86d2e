# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools of hugepages: what is asked of the kernel, and what is said when it gives something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.page_sizes import (
    parse_amount,
    parse_pages,
    show_amount,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._host.reservation import Reservation
from fake_hugepages import FakeKernel, FakeMounts, bring
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def host(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path)


@pytest.fixture
def two_nodes(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path, nodes=2)


@pytest.mark.parametrize("text", ["2M", "2MiB", "2MB", "2048kB", "2048K", " 2 m "])
def test_a_size_can_be_written_in_many_ways(text: str) -> None:
    assert parse_amount(text) == 2 << 20


@given(st.integers(1, 1 << 40))
def test_an_amount_that_is_shown_can_be_read(kib: int) -> None:
    assert parse_amount(show_amount(kib << 10)) == kib << 10


@pytest.mark.parametrize(
    ("pages", "says"),
    [
        ({"two": 1}, "'two' is not an amount"),
        ({"2M": -1}, "-1 is no number of pages"),
        ({"2M": True}, "True is no number of pages"),
        ({"2M": "many"}, "'many' is no number of pages"),
        ({"2M": "3MiB"}, "3MiB is no multiple of 2M. Write 4M."),
        ({"2M": 1, "2048kB": 1}, "2M is declared twice"),
        ({"2M": {}}, "no node is named"),
        ({"2M": {"left": 1}}, "'left' is no NUMA node"),
        ({"2M": {0: "x"}}, "2M: node 0: 'x'"),
    ],
)
def test_pages_that_make_no_sense_are_named(pages: dict[str, Any], says: str) -> None:
    with pytest.raises(HostError) as error:
        parse_pages(pages)
    assert says in str(error.value)


def test_pages_grow_and_a_second_run_asks_nothing(host: FakeKernel) -> None:
    result = bring(host, pages={"2M": 8})
    assert result["actions"][0] == {"action": "grow", "object": "hugepages 2M", "why": "0 → 8 pages"}
    assert host.pages() == 8
    host.asked.clear()
    assert not bring(host, pages={"2MiB": "16MiB"})["changed"]
    assert host.asked == []


def test_check_mode_tells_what_a_run_does_and_does_nothing(host: FakeKernel, tmp_path: Path) -> None:
    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    options: dict[str, Any] = {"pages": {"2M": 8}, "mount": {"path": "/huge", "mode": "0750"}, "memlock_user": "db"}
    before = files()
    told = bring(host, check=True, **options)
    assert files() == before
    done = bring(host, **options)
    assert (told["actions"], told["diff"]) == (done["actions"], done["diff"])


def test_after_a_run_the_diff_ends_where_the_next_begins(two_nodes: FakeKernel) -> None:
    options: dict[str, Any] = {
        "pages": {"2M": {0: 3, 1: 5}},
        "mount": {"path": "/huge", "mode": "0700"},
        "memlock_user": "db",
    }
    done = bring(two_nodes, **options)
    again = bring(two_nodes, **options)
    assert done["diff"]["before"] != done["diff"]["after"] == again["diff"]["before"] == again["diff"]["after"]
    assert again["actions"] == []


def test_a_node_that_is_not_named_is_left_alone(two_nodes: FakeKernel) -> None:
    bring(two_nodes, pages={"2M": {"1": 4}})
    bring(two_nodes, pages={"2M": {0: "6M"}})
    assert (two_nodes.pages(node=0), two_nodes.pages(node=1)) == (3, 4)


def test_a_size_that_is_not_named_is_left_alone(host: FakeKernel) -> None:
    bring(host, pages={"2M": 4})
    bring(host, pages={"1G": 1})
    assert (host.pages(), host.pages(1048576)) == (4, 1)
    assert Reservation(host, FakeMounts(host)).look()["declared"] == {"2M": 4, "1G": 1}


def test_when_the_kernel_gives_too_little_memory_is_compacted_first(host: FakeKernel) -> None:
    host.limits[2048], host.compacted[2048] = 5, 8
    bring(host, pages={"2M": 8})
    assert (host.pages(), host.compactions) == (8, 1)


def test_a_shortage_names_what_was_asked_for_and_given_and_takes_everything_back(two_nodes: FakeKernel) -> None:
    bring(two_nodes, pages={"2M": {0: 1, 1: 3}})
    two_nodes.limits[1048576] = 2
    with pytest.raises(HostError) as error:
        bring(two_nodes, pages={"2M": {0: 5}, "1G": 3})
    assert "hugepages 1G: 3 pages were requested, the kernel gave 2." in str(error.value)
    assert "hugepagesz=1G hugepages=3" in str(error.value)
    assert error.value.details["shortage"] == {"size": "1G", "node": None, "requested": 3, "got": 2}
    assert error.value.details["boot_parameters"] == ["hugepagesz=1G", "hugepages=3"]
    assert [two_nodes.pages(2048, node) for node in (0, 1)] == [1, 3]
    assert two_nodes.pages(1048576) == 0
    assert Reservation(two_nodes, FakeMounts(two_nodes)).look()["declared"] == {"2M": {"0": 1, "1": 3}}


def test_a_kernel_that_refuses_gigantic_pages_has_given_none(host: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, text: str) -> None:
        raise OSError(22, "Invalid argument", f"{path} {text}")

    monkeypatch.setattr(host, "tell", refuse)
    with pytest.raises(HostError, match="1 pages were requested, the kernel gave 0"):
        bring(host, pages={"1G": 1})


def test_more_than_the_host_has_is_not_even_asked_for(host: FakeKernel) -> None:
    with pytest.raises(HostError, match="needs 20000 MiB more, and the host has 7812 MiB available"):
        bring(host, pages={"2M": 10000})
    assert host.asked == []


def test_pages_shrink_only_when_it_is_allowed(host: FakeKernel) -> None:
    bring(host, pages={"2M": 8})
    (warning,) = bring(host, pages={"2M": 3})["warnings"]
    assert "8 pages stay, 3 are declared" in warning
    assert host.pages() == 8
    bring(host, pages={"2M": 3}, allow_shrink=True)
    assert host.pages() == 3


@pytest.mark.parametrize("place", [3, {0: 3}])
def test_pages_in_use_are_not_taken(host: FakeKernel, place: Any) -> None:
    bring(host, pages={"2M": 8})
    host.use(4, promised=1)
    with pytest.raises(HostError, match="In use are 4, reserved by processes 1 more"):
        bring(host, pages={"2M": place}, allow_shrink=True)
    assert host.pages() == 8
    bring(host, pages={"2M": 5}, allow_shrink=True)
    assert host.pages() == 5


def test_promised_pages_are_not_taken_from_a_node_either(two_nodes: FakeKernel) -> None:
    bring(two_nodes, pages={"2M": {0: 4, 1: 4}})
    two_nodes.use(2, promised=3)
    with pytest.raises(HostError, match="In use are 2, reserved by processes 3 more"):
        bring(two_nodes, pages={"2M": {1: 0}}, allow_shrink=True)


def test_surplus_pages_do_not_count(host: FakeKernel) -> None:
    bring(host, pages={"2M": 4})
    for node in (None, 0):
        host.put(f"{host.pool(2048, node)}/nr_hugepages", "6\n")
        host.put(f"{host.pool(2048, node)}/surplus_hugepages", "2\n")
    assert not bring(host, pages={"2M": 4})["changed"]


@pytest.mark.parametrize(
    ("pages", "says"),
    [({"16M": 1}, "no pages of that size, but 2M, 1G"), ({"2M": {7: 1}}, "no NUMA node 7. Its nodes are: 0.")],
)
def test_what_the_host_lacks_is_named(host: FakeKernel, pages: dict[str, Any], says: str) -> None:
    with pytest.raises(HostError) as error:
        bring(host, pages=pages)
    assert says in str(error.value)


def test_a_host_without_hugepages_says_so(tmp_path: Path) -> None:
    host = FakeKernel(tmp_path, sizes=())
    with pytest.raises(HostError, match="This host has no hugepages"):
        bring(host, pages={"2M": 1})
    assert not bring(host, absent=True)["changed"]
    assert Reservation(host, FakeMounts(host)).look()["supported"] is False


def test_absent_gives_back_what_was_declared(two_nodes: FakeKernel) -> None:
    bring(two_nodes, pages={"2M": {0: 2}, "1G": 1})
    two_nodes.tell(f"{two_nodes.pool(2048, 1)}/nr_hugepages", "7")
    warnings = bring(two_nodes, absent=True, check=True)["warnings"]
    assert "hugepages 2M on node 0: 2 pages stay until the next boot. Set allow_shrink." in warnings
    result = bring(two_nodes, absent=True, allow_shrink=True)
    assert result["files"] == []
    assert [two_nodes.pages(2048, node) for node in (0, 1)] == [0, 7]
    assert two_nodes.pages(1048576) == 0
    assert not bring(two_nodes, absent=True, allow_shrink=True)["changed"]
