# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login redirection (RFC 7143 §11.13.5) and logout requests (§11.9.1): how initiators are moved to another portal."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from engine_process import Engine, Launch, RpcError, free_port, run
from pdu import wire
from pdu.initiator import Initiator
from pdu.wire import Pdu, parse_text

NODE = "iqn.2016-06.io.spdk:disk0"
PUBLIC, PRIVATE, NOBODY, OTHER = 1, 3, 4, 5
MOVED_TEMPORARILY = (1, 1)
MOVED_PERMANENTLY = (1, 2)


class Site(NamedTuple):
    """A node whose initiators come through a public portal group and may be moved to a private one."""

    engine: Engine
    public: int
    private: int

    def redirect(self, host: str | None = "127.0.0.1", port: int | str | None = None, **changed: Any) -> None:
        """To the private portal unless told otherwise; None leaves a parameter out."""
        place = {"redirect_host": host, "redirect_port": str(port or self.private)}
        params = {"name": NODE, "pg_tag": PUBLIC, **place, **changed}
        self.engine.rpc(
            "iscsi_target_node_set_redirect", **{key: value for key, value in params.items() if value is not None}
        )

    def stay(self) -> None:
        self.engine.rpc("iscsi_target_node_set_redirect", name=NODE, pg_tag=PUBLIC)

    def url(self) -> str:
        return f"iscsi://127.0.0.1:{self.public}/{NODE}/0"

    def login_answer(self, port: int) -> Pdu:
        keys = {"InitiatorName": "iqn.2026-01.test.openlun:initiator", "SessionType": "Normal", "TargetName": NODE}
        with Initiator(("127.0.0.1", port)) as initiator:
            initiator.send(initiator.login_pdu(keys))
            answer = initiator.receive()
            assert answer.status_class == 0 or initiator.is_closed()
            return answer

    def login(self, port: int, isid: int = 1) -> Initiator:
        return Initiator(("127.0.0.1", port), isid=bytes([0x80, 0, 0, 0, 0, isid])).login(NODE)


@pytest.fixture
def site(launch: Launch) -> Site:
    engine = launch(state=True)
    engine.initiator_group()
    engine.rpc("iscsi_create_initiator_group", tag=NOBODY, initiators=["!ANY"], netmasks=["ANY"])
    public, private = engine.portal_group(PUBLIC), free_port()
    portals = [{"host": "127.0.0.1", "port": str(private)}]
    engine.rpc("iscsi_create_portal_group", tag=PRIVATE, portals=portals, private=True)
    engine.node("disk0", engine.malloc("M0", 1))
    engine.rpc("iscsi_target_node_add_pg_ig_maps", name=NODE, pg_ig_maps=[{"pg_tag": PRIVATE, "ig_tag": 2}])
    return Site(engine, public, private)


def closed_to_everybody(site: Site) -> None:
    """Nobody may log in through the public portal group any more."""
    for method, group in (("add", NOBODY), ("remove", 2)):
        maps = [{"pg_tag": PUBLIC, "ig_tag": group}]
        site.engine.rpc(f"iscsi_target_node_{method}_pg_ig_maps", name=NODE, pg_ig_maps=maps)


# -- redirects -------------------------------------------------------------------------------------------------------


def test_a_login_is_sent_to_the_other_portal(site: Site) -> None:
    site.redirect()
    answer = site.login_answer(site.public)
    assert (answer.status_class, answer.status_detail) == MOVED_TEMPORARILY
    assert parse_text(answer.data) == [("TargetAddress", f"127.0.0.1:{site.private}")]
    assert (answer.flags, answer.tsih) == (0, 0)
    assert site.login_answer(site.private).status_class == 0


def test_a_login_is_sent_away_for_good(site: Site) -> None:
    site.redirect(permanent=True)
    site.engine.restart()
    answer = site.login_answer(site.public)
    assert (answer.status_class, answer.status_detail) == MOVED_PERMANENTLY
    assert parse_text(answer.data) == [("TargetAddress", f"127.0.0.1:{site.private}")]
    (shown,) = site.engine.rpc("iscsi_get_target_nodes")[0]["redirects"]
    assert shown["permanent"] is True


@pytest.mark.parametrize("host", ["fd00::9", "[fd00::9]"])
def test_an_ipv6_address_is_in_brackets(site: Site, host: str) -> None:
    site.redirect(host, 3262)
    assert parse_text(site.login_answer(site.public).data) == [("TargetAddress", "[fd00::9]:3262")]
    (shown,) = site.engine.rpc("iscsi_get_target_nodes")[0]["redirects"]
    assert shown == {"pg_tag": PUBLIC, "redirect_host": "fd00::9", "redirect_port": "3262"}


def test_a_redirect_comes_before_access_and_chap(site: Site) -> None:
    site.engine.rpc("iscsi_target_node_set_auth", name=NODE, require_chap=True, chap_group=7)
    assert (site.login_answer(site.public).status_class, site.login_answer(site.private).status_class) == (2, 2)
    closed_to_everybody(site)
    site.redirect()
    assert site.login_answer(site.public).status_class == MOVED_TEMPORARILY[0]


def test_a_real_initiator_follows(site: Site) -> None:
    closed_to_everybody(site)
    assert run("iscsi-inq", site.url(), check=False).returncode != 0
    site.redirect()
    assert "Vendor:" in run("iscsi-inq", site.url()).stdout


def test_discovery_shows_where_to_begin_and_not_where_it_leads(site: Site) -> None:
    site.redirect()
    listed = run("iscsi-ls", f"iscsi://127.0.0.1:{site.public}").stdout
    assert f"127.0.0.1:{site.public},{PUBLIC}" in listed
    assert str(site.private) not in listed


def test_a_redirect_ends_when_it_is_cleared(site: Site) -> None:
    site.redirect()
    site.stay()
    assert site.login_answer(site.public).status_class == 0
    assert "redirects" not in site.engine.rpc("iscsi_get_target_nodes")[0]
    site.stay()


def test_a_redirect_survives_a_restart_until_it_is_cleared(site: Site) -> None:
    site.redirect()
    site.engine.restart()
    assert site.login_answer(site.public).status_class == MOVED_TEMPORARILY[0]
    site.stay()
    site.engine.restart()
    assert site.login_answer(site.public).status_class == 0


def test_a_redirect_goes_with_its_portal_group(site: Site) -> None:
    site.redirect()
    portals = site.engine.rpc("iscsi_get_portal_groups")[0]["portals"]
    site.engine.rpc("iscsi_delete_portal_group", tag=PUBLIC)
    site.engine.rpc("iscsi_create_portal_group", tag=PUBLIC, portals=portals)
    site.engine.rpc("iscsi_target_node_add_pg_ig_maps", name=NODE, pg_ig_maps=[{"pg_tag": PUBLIC, "ig_tag": 2}])
    assert site.login_answer(site.public).status_class == 0


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"host": "san.example.com"}, "not an IP address"),
        ({"port": "iscsi"}, "the port is a number"),
        ({"port": "70000"}, "the port is a number"),
        ({"redirect_port": None}, "redirect_host and redirect_port go together"),
        ({"host": None}, "redirect_host and redirect_port go together"),
        ({"pg_tag": PRIVATE}, "portal group 3 is private"),
        ({"pg_tag": OTHER}, "portal group 5 is not mapped"),
        ({"pg_tag": 99}, "portal group 99 does not exist"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_refused(site: Site, changed: dict[str, Any], why: str) -> None:
    site.engine.portal_group(OTHER)
    with pytest.raises(RpcError, match=why) as refusal:
        site.redirect(**changed)
    assert refusal.value.code == -32602
    assert refusal.value.message.startswith(f"Failed to redirect target {NODE}, (-22): Invalid argument")
    assert site.login_answer(site.public).status_class == 0


def test_a_redirect_to_its_own_portal_group_is_refused(site: Site) -> None:
    with pytest.raises(RpcError, match="in circles"):
        site.redirect(port=site.public)


@pytest.mark.parametrize("method", ["set_redirect", "request_logout"])
def test_a_target_that_is_not_there_is_named(site: Site, method: str) -> None:
    with pytest.raises(RpcError) as refusal:
        site.engine.rpc(f"iscsi_target_node_{method}", name="iqn.2026-01.test:nope", pg_tag=1)
    assert refusal.value.code == -32602
    assert refusal.value.message.startswith("Target iqn.2026-01.test:nope is not found")


# -- logout requests -------------------------------------------------------------------------------------------------


def assert_asked_to_leave(initiator: Initiator) -> None:
    asked = initiator.receive()
    assert (asked.opcode, asked.async_event) == (wire.ASYNC, 1)
    assert int.from_bytes(asked.header[42:44], "big") == 30  # Parameter3: seconds to log out


def test_every_initiator_of_a_node_is_asked_to_leave(site: Site) -> None:
    with site.login(site.public, 1) as one, site.login(site.private, 2) as two:
        assert site.engine.rpc("iscsi_target_node_request_logout", name=NODE) is True
        for each in (one, two):
            assert_asked_to_leave(each)
            each.send(each.logout())
            assert each.receive().opcode == wire.LOGOUT_RESPONSE
            assert each.is_closed()
    assert site.engine.rpc("iscsi_get_connections") == []


def test_only_those_of_one_portal_group_are_asked_to_leave(site: Site) -> None:
    with site.login(site.public, 1) as one, site.login(site.private, 2) as two:
        site.engine.rpc("iscsi_target_node_request_logout", name=NODE, pg_tag=PUBLIC)
        assert_asked_to_leave(one)
        two.send(two.nop_out(b"still here"))
        assert two.receive().opcode == wire.NOP_IN


def test_an_initiator_is_moved_while_the_disk_stays(site: Site) -> None:
    with site.login(site.public) as initiator:
        site.redirect()
        assert initiator.execute(bytes(6)).status == 0
        site.engine.rpc("iscsi_target_node_request_logout", name=NODE, pg_tag=PUBLIC)
        assert_asked_to_leave(initiator)
        initiator.send(initiator.logout())
        assert initiator.receive().opcode == wire.LOGOUT_RESPONSE
    address = dict(parse_text(site.login_answer(site.public).data))["TargetAddress"]
    with site.login(int(address.rpartition(":")[2])) as moved:
        assert moved.execute(bytes(6)).status == 0
        (connection,) = site.engine.rpc("iscsi_get_connections")
        assert connection["portal_group_tag"] == PRIVATE


def test_the_engine_stops_while_initiators_are_asked_to_leave(site: Site) -> None:
    with site.login(site.public) as initiator:
        site.engine.rpc("iscsi_target_node_request_logout", name=NODE)
        assert_asked_to_leave(initiator)
        site.engine.stop()
    assert "never retrieved" not in site.engine.words()
    assert "destroyed" not in site.engine.words()
