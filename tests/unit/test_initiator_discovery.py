# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Discovery: records for what is offered, and for nothing else; and the name in which it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.discovery import Discovery
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.errors import InitiatorError
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.iscsiadm import Iscsiadm
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.names import NAME_FILE, InitiatorName
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.probe import Found, Request
from fake_open_iscsi import FakeOpenIscsi

ONE, TWO = "iqn.2016-06.io.spdk:one", "iqn.2016-06.io.spdk:two"
V4, V6 = "10.0.0.1:3260", "[fd00::1]:3260"
NAME = "iqn.2020-01.com.example:db1"


class Portals(FakeOpenIscsi):
    """The host, and portals that offer what a test says; one that offers nothing said does not answer."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, luns={ONE: {0: 512}, TWO: {0: 512}})
        self.offers: dict[str, list[Found]] = {V4: [Found(ONE, [f"{V4},1", f"{V6},1"])]}
        self.asked: list[Request] = []
        (root / NAME_FILE.lstrip("/")).write_text(f"## A comment\nInitiatorName={NAME}\n")

    def discover(self, *, check: bool = False, **options: Any) -> dict[str, Any]:
        given = {"portals": [V4], "interface": "default", "record": True, "prune": False, "ignore": [], "timeout": 1}
        return Discovery(self.host, self.run, self.answer).bring({**given, **options}, apply=not check)

    def answer(self, request: Request) -> list[Found]:
        self.asked.append(request)
        if str(request.portal) not in self.offers:
            raise InitiatorError(f"portal {request.portal}: cannot connect.")
        return self.offers[str(request.portal)]

    def rename(self, *, check: bool = False, **options: Any) -> dict[str, Any]:
        given = {"name": None, "unique": False, "prefix": "iqn.2020-01.com.example", "force": False, **options}
        return InitiatorName(self.host, self.run, Iscsiadm(self.run)).bring(given, apply=not check)


@pytest.fixture
def host(tmp_path: Path) -> Portals:
    return Portals(tmp_path)


def recorded(host: Portals) -> list[str]:
    return sorted(f"{name} {portal}" for name in (ONE, TWO) for portal in (V4, V6) if host.record(portal, name))


def test_every_portal_of_a_target_gets_a_record_and_a_second_run_changes_nothing(host: Portals) -> None:
    told = host.discover(check=True)
    assert recorded(host) == []
    done = host.discover()
    assert told["actions"] == done["actions"]
    assert done["targets"] == [{"name": ONE, "portals": [f"{V4},1", f"{V6},1"]}]
    assert recorded(host) == [f"{ONE} {V4}", f"{ONE} {V6}"]
    again = host.discover()
    assert (again["changed"], again["diff"]["before"], again["stale"]) == (False, again["diff"]["after"], [])


def test_the_settings_of_a_record_survive_a_discovery(host: Portals) -> None:
    host.bring(target=ONE, portals=[V4], startup="automatic", chap={"user": "db1", "secret": "not-for-your-eyes"})
    before = host.record(V4, ONE)
    host.discover()
    assert host.record(V4, ONE) == before
    assert before["node.startup"] == "automatic"


def test_discovery_is_asked_with_its_own_secret_in_the_name_of_the_host(host: Portals) -> None:
    host.discover(chap={"user": "finder", "secret": "find-them-all-now", "muser": None, "msecret": None})
    (request,) = host.asked
    assert request.initiator == NAME
    assert request.credentials is not None
    assert request.credentials.secret == "find-them-all-now"
    assert not any("find-them-all-now" in word for command in host.commands for word in command)


def test_a_record_that_is_not_offered_any_more_is_told_and_with_prune_deleted(host: Portals) -> None:
    host.discover()
    host.offers[V4] = [Found(TWO, [f"{V4},1"])]
    kept = host.discover()
    assert [(each["target"], each["portal"]) for each in kept["stale"]] == [(ONE, V4), (ONE, V6)]
    assert len(kept["warnings"]) == 2
    host.discover(prune=True)
    assert recorded(host) == [f"{TWO} {V4}"]


def test_prune_keeps_what_is_used_ignored_or_of_other_portals(host: Portals) -> None:
    host.bring(target=ONE, portals=[f"{V4},1"])
    host.bring(target=TWO, portals=["10.0.0.9:3260"], state="recorded")
    host.offers[V4] = []
    result = host.discover(prune=True)
    assert (result["actions"], len(result["stale"])) == ([], 1)
    host.bring(target=ONE, state="recorded")
    assert not host.discover(prune=True, ignore=["iqn.2016-06.*:one"])["changed"]
    assert host.discover(prune=True)["changed"]
    assert host.record("10.0.0.9:3260", TWO)


def test_nothing_is_pruned_while_a_portal_is_silent(host: Portals) -> None:
    host.discover()
    host.offers[V4] = []
    result = host.discover(portals=[V4, V6], prune=True)
    assert result["actions"] == []
    assert f"portal {V6}: cannot connect." in result["warnings"]


def test_portals_that_are_all_silent_are_an_error(host: Portals) -> None:
    with pytest.raises(InitiatorError, match="cannot connect"):
        host.discover(portals=[V6])


def test_only_the_targets_that_are_named_get_records(host: Portals) -> None:
    host.offers[V4].append(Found(TWO, [f"{V4},1"]))
    host.discover(targets=[TWO])
    assert recorded(host) == [f"{TWO} {V4}"]
    with pytest.raises(InitiatorError, match="no portal offers it to iqn"):
        host.discover(targets=["iqn.2016-06.io.spdk:three"])


def test_a_target_that_listens_everywhere_is_where_it_was_asked(host: Portals) -> None:
    host.offers[V4] = [Found(ONE, ["0.0.0.0:3260,1"]), Found(TWO, [])]
    host.discover()
    assert recorded(host) == [f"{ONE} {V4}", f"{TWO} {V4}"]


def test_looking_makes_no_records(host: Portals) -> None:
    assert not host.discover(record=False)["changed"]
    assert recorded(host) == []


def test_a_host_keeps_its_name_and_one_without_gets_one_of_its_own(host: Portals) -> None:
    assert host.rename()["name"] == NAME
    (host.root / NAME_FILE.lstrip("/")).unlink()
    with pytest.raises(InitiatorError, match="machine-id: is missing or empty"):
        host.rename()
    (host.root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    told, done = host.rename(check=True), host.rename()
    assert told["diff"] == done["diff"]
    assert done["name"].startswith("iqn.2020-01.com.example:")
    assert "0123456789ab" not in done["name"]
    assert not host.rename()["changed"]
    (host.root / "etc/machine-id").write_text("ffffffffffffffffffffffffffffffff\n")
    assert host.rename(unique=True)["name"] != done["name"]


def test_a_new_name_leaves_the_rest_of_the_file(host: Portals) -> None:
    host.rename(name="iqn.2020-01.com.example:db2")
    file = host.root / NAME_FILE.lstrip("/")
    assert file.read_text() == "## A comment\nInitiatorName=iqn.2020-01.com.example:db2\n"


def test_a_name_is_not_changed_under_sessions_unless_forced(host: Portals) -> None:
    host.bring(target=ONE, portals=[V4])
    (host.root / "sys/class/iscsi_session/session1").mkdir(parents=True)
    with pytest.raises(InitiatorError, match=f"this host is logged in to {ONE}"):
        host.rename(name="iqn.2020-01.com.example:db2")
    assert host.rename()["name"] == NAME
    assert host.rename(name="iqn.2020-01.com.example:db2", force=True)["changed"]


@pytest.mark.parametrize("name", ["db1", "iqn.2020-13.com.example:db1", "iqn.2020-01.com.example:d b"])
def test_a_name_that_is_none_is_refused(host: Portals, name: str) -> None:
    with pytest.raises(InitiatorError, match="name: "):
        host.rename(name=name)
