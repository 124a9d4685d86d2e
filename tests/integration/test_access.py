# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may log in where, and that discovery lists exactly that (RFC 7143 §4.2.7, appendix C)."""

from __future__ import annotations

import socket
from typing import NamedTuple

import pytest
from engine_process import NODE_BASE, Engine, Launch, free_port, run
from pdu.checks import answers_pings
from pdu.initiator import Initiator, LoginRefused
from pdu.wire import parse_text

DB1, DB2, WEB = (f"iqn.2026-01.test.openlun:{name}" for name in ("db1", "db2", "web"))
NOT_AUTHORIZED = (2, 2)
PUBLIC, SECOND, PRIVATE, WAITING = 1, 3, 4, 5
GROUPS = {
    2: (["ANY"], ["127.0.0.0/8"]),
    3: ([f"!{DB2}", "ANY"], ["ANY"]),
    4: ([DB1.upper().replace("IQN", "iqn")], ["127.0.0.1/32"]),
    5: (["ANY"], ["10.0.0.0/8", "[fd00::]/8"]),
    6: (["!ANY"], ["ANY"]),
}
# node: (portal group, initiator group) pairs
MAPS = {
    "all": [(PUBLIC, 2), (SECOND, 2)],
    "not-db2": [(PUBLIC, 3)],
    "db1-only": [(PUBLIC, 4), (SECOND, 4)],
    "elsewhere": [(PUBLIC, 5)],
    "elsewhere-or-db1": [(PUBLIC, 5), (PUBLIC, 4)],
    "nobody-first": [(PUBLIC, 6), (PUBLIC, 2)],
    "hidden": [(PRIVATE, 2)],
    "half-hidden": [(PUBLIC, 2), (PRIVATE, 2)],
    "not-yet": [(WAITING, 2)],
    "nowhere": [],
}
ADMITTED = {
    DB1: {"all", "not-db2", "db1-only", "elsewhere-or-db1", "half-hidden"},
    DB2: {"all", "half-hidden"},
    WEB: {"all", "not-db2", "half-hidden"},
}


class Site(NamedTuple):
    engine: Engine
    ports: dict[int, int]

    def discover(self, name: str, what: str = "All", tag: int = PUBLIC) -> dict[str, list[str]]:
        """Addresses of the targets that are listed for that initiator, by short name."""
        with Initiator(("127.0.0.1", self.ports[tag]), name=name).login() as initiator:
            initiator.send(initiator.text({"SendTargets": what}))
            found: dict[str, list[str]] = {}
            for key, value in parse_text(initiator.receive().data):
                if key == "TargetName":
                    addresses = found.setdefault(value.rpartition(":")[2], [])
                else:
                    addresses.append(value)
            return found

    def outcome(self, name: str, node: str, tag: int = PUBLIC) -> tuple[int, int]:
        with Initiator(("127.0.0.1", self.ports[tag]), name=name) as initiator:
            try:
                initiator.login(f"{NODE_BASE}:{node}")
            except LoginRefused as refused:
                return refused.status
            return 0, 0


@pytest.fixture(scope="module")
def site(launch_shared: Launch) -> Site:
    engine = launch_shared()
    ports = {tag: free_port() for tag in (PUBLIC, SECOND, PRIVATE, WAITING)}
    for tag, port in ports.items():
        portals = [{"host": "127.0.0.1", "port": str(port)}]
        engine.rpc("iscsi_create_portal_group", tag=tag, portals=portals, private=tag == PRIVATE, wait=tag == WAITING)
    for tag, (initiators, netmasks) in GROUPS.items():
        engine.rpc("iscsi_create_initiator_group", tag=tag, initiators=initiators, netmasks=netmasks)
    for node, maps in MAPS.items():
        engine.rpc(
            "iscsi_create_target_node",
            name=node,
            alias_name="",
            pg_ig_maps=[{"pg_tag": portal_group, "ig_tag": initiator_group} for portal_group, initiator_group in maps],
            luns=[{"lun_id": 0, "bdev_name": engine.malloc(f"M-{node}", 1)}],
            queue_depth=8,
            disable_chap=True,
        )
    return Site(engine, ports)


@pytest.mark.parametrize("initiator", ADMITTED)
def test_discovery_lists_what_the_initiator_may_log_in_to(site: Site, initiator: str) -> None:
    assert set(site.discover(initiator)) == ADMITTED[initiator]


@pytest.mark.parametrize("initiator", ADMITTED)
def test_it_may_log_in_to_what_is_listed_and_to_nothing_else(site: Site, initiator: str) -> None:
    may = {node for node in MAPS if site.outcome(initiator, node) == (0, 0)}
    assert may == ADMITTED[initiator]
    assert {site.outcome(initiator, node) for node in set(MAPS) - may} == {NOT_AUTHORIZED}


def test_a_target_is_listed_with_all_its_public_portals_that_admit_the_initiator(site: Site) -> None:
    first, second = (f"127.0.0.1:{site.ports[tag]},{tag}" for tag in (PUBLIC, SECOND))
    found = site.discover(DB1)
    assert found["all"] == found["db1-only"] == [first, second]
    assert found["half-hidden"] == [first]


def test_discovery_by_another_portal_finds_the_same(site: Site) -> None:
    assert site.discover(DB1, tag=SECOND) == site.discover(DB1)


def test_a_private_portal_group_takes_those_who_know_it(site: Site) -> None:
    assert site.outcome(WEB, "hidden", PRIVATE) == (0, 0)


def test_one_name_is_listed_under_the_same_rules(site: Site) -> None:
    assert list(site.discover(DB1, f"{NODE_BASE}:db1-only")) == ["db1-only"]
    assert list(site.discover(DB1, f"{NODE_BASE}:DB1-ONLY")) == ["db1-only"]
    assert site.discover(WEB, f"{NODE_BASE}:db1-only") == {}


def test_a_portal_group_that_waits_takes_nobody_and_is_not_listed_until_it_is_started(site: Site) -> None:
    with pytest.raises(ConnectionRefusedError):
        site.outcome(DB1, "not-yet", WAITING)
    site.engine.rpc("iscsi_start_portal_group", tag=WAITING)
    try:
        assert site.outcome(DB1, "not-yet", WAITING) == (0, 0)
        assert site.discover(DB1)["not-yet"] == [f"127.0.0.1:{site.ports[WAITING]},{WAITING}"]
    finally:
        site.engine.rpc("iscsi_delete_portal_group", tag=WAITING)


def test_who_is_no_longer_admitted_stays_and_does_not_come_back(site: Site) -> None:
    with Initiator(("127.0.0.1", site.ports[PUBLIC]), name=WEB).login(f"{NODE_BASE}:not-db2") as initiator:
        site.engine.rpc("iscsi_initiator_group_remove_initiators", tag=3, initiators=["ANY"])
        try:
            assert answers_pings(initiator)
            assert site.outcome(WEB, "not-db2") == NOT_AUTHORIZED
        finally:
            site.engine.rpc("iscsi_initiator_group_add_initiators", tag=3, initiators=["ANY"])


# -- addresses -------------------------------------------------------------------------------------------------------


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.fixture
def both(launch: Launch) -> tuple[Engine, int]:
    """A node behind the wildcards of both families, on one port, for initiators of either loopback network."""
    if not has_ipv6():
        pytest.skip("this host has no IPv6 loopback address")
    engine = launch()
    port = free_port()
    portals = [{"host": host, "port": str(port)} for host in ("*", "[*]")]
    engine.rpc("iscsi_create_portal_group", tag=1, portals=portals)
    engine.rpc("iscsi_create_initiator_group", tag=2, initiators=["ANY"], netmasks=["127.0.0.0/8", "[::1]"])
    engine.node("disk0", engine.malloc("M0", 1))
    return engine, port


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_wildcard_is_listed_as_the_address_that_was_reached(both: tuple[Engine, int], host: str) -> None:
    _engine, port = both
    listed = run("iscsi-ls", f"iscsi://{host}:{port}").stdout
    assert listed.count("Portal:") == 1
    assert f"Portal:{host}:{port},1" in listed
    assert "DIRECT_ACCESS" in run("iscsi-inq", f"iscsi://{host}:{port}/{NODE_BASE}:disk0/0").stdout


def test_netmasks_tell_the_families_apart(both: tuple[Engine, int]) -> None:
    engine, port = both
    engine.rpc("iscsi_initiator_group_remove_initiators", tag=2, netmasks=["[::1]"])
    assert run("iscsi-ls", f"iscsi://[::1]:{port}").stdout == ""
    assert run("iscsi-inq", f"iscsi://[::1]:{port}/{NODE_BASE}:disk0/0", check=False).returncode != 0
    assert "disk0" in run("iscsi-ls", f"iscsi://127.0.0.1:{port}").stdout
