# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CHAP policies, auth groups and redirects as objects, and the calls that make them again."""

from __future__ import annotations

import itertools
import string
import traceback

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import Exists, Invalid, NoDevice
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.facts import MAX_SECRETS_PER_CALL
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.access import InitiatorGroup
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.auth import Auth, AuthGroup, Secret
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.node import Map, Redirect, TargetNode
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.options import Options
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.portal import Portal, PortalGroup
from hypothesis import given
from hypothesis import strategies as st

WORDS = st.text(string.ascii_letters, min_size=1, max_size=4)
SECRETS = st.lists(
    st.builds(Secret, WORDS, WORDS) | st.builds(Secret, WORDS, WORDS, WORDS, WORDS),
    max_size=MAX_SECRETS_PER_CALL + 6,
    unique_by=lambda secret: secret.user,
)

# -- policies


def test_chap_is_left_open_or_disabled_or_required_one_way_or_both() -> None:
    legal = []
    for fields in itertools.product((False, True), repeat=3):
        try:
            Auth(*fields).check("discovery")
            legal.append(fields)
        except Invalid:
            pass
    assert legal == [(False, False, False), (False, True, False), (False, True, True), (True, False, False)]


def test_an_impossible_policy_is_explained_with_the_name_of_its_owner() -> None:
    with pytest.raises(Invalid, match=r"^portal group 7: .* mutual_chap needs require_chap"):
        Auth(mutual_chap=True).check("portal group 7")


def test_the_policy_for_discovery_is_part_of_the_options() -> None:
    options = Options()
    options.discovery_auth = Auth(False, True, True, 9)
    shown = options.to_rpc()
    assert [shown[name] for name in Auth._fields] == [False, True, True, 9]
    assert options.discovery_auth == Auth(False, True, True, 9)


# -- secrets


def test_a_secret_shows_its_user_only() -> None:
    secret = Secret("alice", "hush-1", "bob", "hush-2")
    assert "alice" in repr(secret)
    assert "hush" not in f"{secret!r} {secret} {[secret]}"


def test_no_failure_tells_a_secret() -> None:
    group = AuthGroup(7, [Secret("alice", "hush-1")])
    for secret in (Secret("alice", "hush-2"), Secret("bob", "hush-3", "carol")):
        with pytest.raises((Exists, Invalid), match="auth group 7") as failure:
            group.add(secret)
        assert "hush" not in str(failure.value)


def test_a_secret_in_a_traceback_of_a_bug_is_not_shown() -> None:
    with pytest.raises(ValueError, match="alice") as bug:
        raise ValueError(Secret("alice", "hush-1", "bob", "hush-2"))
    text = "".join(traceback.format_exception(bug.type, bug.value, bug.tb))
    assert "alice" in text.rpartition("ValueError")[2]
    assert "hush" not in text.rpartition("ValueError")[2]


def test_a_user_has_one_secret_in_a_group() -> None:
    group = AuthGroup(7, [Secret("alice", "one")])
    with pytest.raises(Exists, match="alice"):
        group.add(Secret("alice", "two"))
    group.remove("alice")
    group.add(Secret("alice", "two"))
    assert group.to_rpc() == {"tag": 7, "secrets": [{"user": "alice", "secret": "two"}]}


def test_removing_a_user_who_is_not_there_names_those_who_are() -> None:
    with pytest.raises(NoDevice, match=r"no secret of user bob\. Known users: alice\."):
        AuthGroup(7, [Secret("alice", "one")]).remove("bob")


def test_half_a_mutual_secret_is_refused_or_dropped_as_spdk_does() -> None:
    with pytest.raises(Invalid, match="muser needs msecret"):
        AuthGroup(7, [Secret("alice", "one", muser="bob")])
    shown = AuthGroup(7, [Secret("alice", "one", msecret="two")]).to_rpc()
    assert shown["secrets"] == [{"user": "alice", "secret": "one"}]


@given(SECRETS)
def test_the_calls_of_a_group_make_it_again(secrets: list[Secret]) -> None:
    group = AuthGroup(7, secrets)
    method, params = group.config()
    assert method == "iscsi_create_auth_group"
    assert len(params["secrets"]) <= MAX_SECRETS_PER_CALL
    again = AuthGroup(params["tag"], (Secret(**each) for each in params["secrets"]))
    for method, params in group.further_config():
        assert method == "iscsi_auth_group_add_secret"
        assert params.pop("tag") == 7
        again.add(Secret(**params))
    assert again.to_rpc() == group.to_rpc()
    assert list(again.secrets) == [secret.user for secret in secrets]


# -- portal groups


def portal_group(tag: int, *portals: str, private: bool = False) -> PortalGroup:
    places = (portal.rsplit(":", 1) for portal in portals)
    return PortalGroup(tag, [Portal(host, port, tag) for host, port in places], private, wait=False)


def test_a_portal_groups_own_policy_is_shown_and_saved_in_a_call_of_its_own() -> None:
    group = portal_group(1, "127.0.0.1:3260")
    plain = group.to_rpc()
    assert list(group.further_config()) == []
    group.auth = Auth(require_chap=True, chap_group=7)
    policy = {"disable_chap": False, "require_chap": True, "mutual_chap": False, "chap_group": 7}
    assert group.to_rpc() == {**plain, **policy}
    assert group.config() == ("iscsi_create_portal_group", plain)
    assert list(group.further_config()) == [("iscsi_portal_group_set_auth", {"tag": 1, **policy})]


@pytest.mark.parametrize("port", ["0", "65536", "-1", "", "http", "3260 ", "³²⁶⁰"])
def test_a_port_is_a_number(port: str) -> None:
    with pytest.raises(Invalid, match="the port is a number from 1 to 65535"):
        Portal("127.0.0.1", port, 1)


# -- redirects


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("10.0.0.9", "3260", "10.0.0.9:3260"),
        ("fd00::9", "3261", "[fd00::9]:3261"),
        ("[fd00::9]", "3261", "[fd00::9]:3261"),
    ],
)
def test_a_redirect_is_written_as_a_target_address_without_a_tag(host: str, port: str, address: str) -> None:
    assert str(Redirect.parse(host, port)) == address  # RFC 7143 §13.8


@pytest.mark.parametrize(("host", "port"), [("san.example.com", "3260"), ("*", "3260"), ("10.0.0.9", "iscsi")])
def test_a_redirect_is_numeric(host: str, port: str) -> None:
    with pytest.raises(Invalid, match=r"^redirect to "):
        Redirect.parse(host, port)


@pytest.fixture
def public() -> PortalGroup:
    return portal_group(1, "127.0.0.1:3260", "[::1]:3260")


def node_in(*groups: PortalGroup) -> TargetNode:
    anybody = InitiatorGroup(2, ["ANY"], ["ANY"])
    return TargetNode("iqn.2026-01.test:disk", "", [Map(group, anybody) for group in groups], 8, Auth())


def test_a_redirect_is_shown_and_saved_in_a_call_of_its_own(public: PortalGroup) -> None:
    node = node_in(public)
    plain = node.to_rpc()
    node.set_redirect(public, Redirect("fd00::9", 3261))
    place = {"pg_tag": 1, "redirect_host": "fd00::9", "redirect_port": "3261"}
    assert node.to_rpc() == {**plain, "redirects": [place]}
    assert node.config()[1] == {**plain, "alias_name": "", "without_lun_0": True}
    assert list(node.further_config()) == [("iscsi_target_node_set_redirect", {"name": node.name, **place})]
    node.set_redirect(public, None)
    assert node.to_rpc() == plain


def test_a_redirect_needs_a_public_portal_group_of_the_node(public: PortalGroup) -> None:
    private, other = portal_group(3, "127.0.0.1:3261", private=True), portal_group(4, "127.0.0.1:3262")
    node = node_in(public, private)
    with pytest.raises(Invalid, match="portal group 3 is private"):
        node.set_redirect(private, Redirect("10.0.0.9", 3260))
    with pytest.raises(Invalid, match=r"portal group 4 is not mapped to it\. Its portal groups: 1, 3\."):
        node.set_redirect(other, None)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]"])
def test_a_redirect_leads_out_of_its_portal_group(public: PortalGroup, host: str) -> None:
    with pytest.raises(Invalid, match="in circles"):
        node_in(public).set_redirect(public, Redirect.parse(host, "3260"))


def test_a_redirect_goes_with_the_last_map_of_its_portal_group(public: PortalGroup) -> None:
    node = node_in(public)
    second = Map(public, InitiatorGroup(5, ["ANY"], ["ANY"]))
    first = node.maps[0]
    node.add_maps([second])
    node.set_redirect(public, Redirect("10.0.0.9", 3260))
    node.remove_maps([first])
    assert node.redirects
    node.drop_maps(lambda each: each.portal_group is public)
    node.add_maps([first])
    assert node.redirects == {}
