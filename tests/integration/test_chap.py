# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CHAP on the wire (RFC 7143 §12.1.3): one way and mutual, right and wrong, by raw PDUs and by libiscsi's tools."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from engine_process import Engine, Launch, run
from pdu import wire
from pdu.chap import ChapLogin
from pdu.checks import answers_pings
from pdu.initiator import Initiator, LoginRefused

REFUSED = (2, 1)
USER, SECRET = "alice", "wonderland-0001"
TARGET_USER, TARGET_SECRET = "queen", "of-hearts-00002"
ONE_WAY, MUTUAL, OPEN, NOBODY = "one-way", "mutual", "open", "nobody"
SAME_USER, SAME_SECRET = "tweedledee", "tweedledum-0003"
BARE_USER, BARE_SECRET = "hatter", "tea-at-six-00004"
SECRETS = (SECRET, TARGET_SECRET, SAME_SECRET, BARE_SECRET)
POLICIES = {
    ONE_WAY: {"require_chap": True, "chap_group": 7},
    MUTUAL: {"require_chap": True, "mutual_chap": True, "chap_group": 7},
    OPEN: {"chap_group": 7},
    NOBODY: {"require_chap": True, "chap_group": 99},
}


class Site(NamedTuple):
    """An engine with a node for each policy; node ``one-way`` also behind portal group 3."""

    engine: Engine
    port: int
    other_port: int

    def name(self, policy: str) -> str:
        return f"iqn.2016-06.io.spdk:{policy}"

    def connect(self) -> Initiator:
        return Initiator(("127.0.0.1", self.port))

    def url(self, policy: str, user: str = USER, secret: str = SECRET, more: str = "") -> str:
        return f"iscsi://{user}%{secret}@127.0.0.1:{self.port}/{self.name(policy)}/0{more}"


@pytest.fixture(scope="module")
def site(launch_shared: Launch) -> Site:
    engine = launch_shared()
    engine.initiator_group()
    port, other_port = engine.portal_group(), engine.portal_group(3)
    engine.rpc(
        "iscsi_create_auth_group",
        tag=7,
        secrets=[
            {"user": USER, "secret": SECRET, "muser": TARGET_USER, "msecret": TARGET_SECRET},
            {"user": SAME_USER, "secret": SAME_SECRET, "muser": TARGET_USER, "msecret": SAME_SECRET},
            {"user": BARE_USER, "secret": BARE_SECRET},
            {"user": "empty", "secret": ""},
        ],
    )
    for policy, fields in POLICIES.items():
        name = engine.node(policy, engine.malloc(f"M-{policy}", 1))
        engine.rpc("iscsi_target_node_set_auth", name=name, **fields)
    return Site(engine, port, other_port)


@pytest.fixture(autouse=True)
def _nothing_leaks(site: Site) -> Iterator[None]:
    yield
    words = site.engine.words()
    assert "Traceback" not in words
    assert not [secret for secret in SECRETS if secret in words]


def refusal(login: ChapLogin, user: str = USER, secret: str = SECRET, **more: str) -> tuple[int, int]:
    with pytest.raises(LoginRefused) as refused:
        login.prove(user, secret, **more)
    assert login.initiator.is_closed()
    return refused.value.status


# -- one way ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["5", "6", "7", "8"])
def test_who_knows_the_secret_comes_in(site: Site, algorithm: str) -> None:
    with site.connect() as initiator:
        login = ChapLogin(initiator, site.name(ONE_WAY)).ask(algorithm)
        assert (login.answers["AuthMethod"], login.answers["CHAP_A"]) == ("CHAP", algorithm)
        response = login.prove(USER, SECRET)
        assert response.flags & 0x8F == wire.FINAL | 1
        assert "CHAP_R" not in login.answers
        assert answers_pings(login.finish())


@pytest.mark.parametrize(("offered", "chosen"), [("7,5", "7"), ("5,7", "5"), ("99,8,6", "8"), ("0x6,5", "6")], ids=str)
def test_the_first_algorithm_that_both_know_is_taken(site: Site, offered: str, chosen: str) -> None:
    with site.connect() as initiator:
        assert ChapLogin(initiator, site.name(ONE_WAY)).ask(offered).algorithm == chosen


@pytest.mark.parametrize("offered", ["9", "", "md5", "5x", ","])
def test_algorithms_nobody_knows_are_refused(site: Site, offered: str) -> None:
    with site.connect() as initiator, pytest.raises(LoginRefused) as refused:
        ChapLogin(initiator, site.name(ONE_WAY)).ask(offered)
    assert refused.value.status == REFUSED


def test_a_response_in_base64_counts_too(site: Site) -> None:
    with site.connect() as initiator:
        login = ChapLogin(initiator, site.name(ONE_WAY)).ask("7")
        text = base64.b64encode(bytes.fromhex(login.response(SECRET)[2:])).decode()
        login.say({"CHAP_N": USER, "CHAP_R": f"0b{text}"}, transit=True)
        assert login.finish().tsih != 0


@pytest.mark.parametrize(
    ("user", "secret"),
    [
        (USER, "wrong-secret-01"),
        ("nobody", SECRET),
        (BARE_USER, SECRET),
        (USER.upper(), SECRET),
        ("", ""),
        ("empty", ""),
    ],
)
def test_a_wrong_name_or_secret_is_refused(site: Site, user: str, secret: str) -> None:
    with site.connect() as initiator:
        assert refusal(ChapLogin(initiator, site.name(ONE_WAY)).ask(), user, secret) == REFUSED


@pytest.mark.parametrize(
    "response",
    ["", "0x", "0xzz", "0b!", "password", "0x00", "0x" + "00" * 16, "0x" + "00" * 1025, "0x" + "ff" * 3000],
    ids=["empty", "no digits", "no hex", "no base64", "plain", "short", "zeros", "1025 bytes", "3000 bytes"],
)
def test_a_response_that_is_none_is_refused(site: Site, response: str) -> None:
    with site.connect() as initiator, pytest.raises(LoginRefused) as refused:
        ChapLogin(initiator, site.name(ONE_WAY)).ask().say({"CHAP_N": USER, "CHAP_R": response}, transit=True)
    assert refused.value.status == REFUSED


def test_no_two_challenges_are_alike(site: Site) -> None:
    challenges = set()
    for _each in range(8):
        with site.connect() as initiator:
            challenges.add(ChapLogin(initiator, site.name(ONE_WAY)).ask("7").challenge)
    assert len(challenges) == 8
    assert {len(each) for each in challenges} == {32}


def test_a_response_is_good_for_its_own_challenge_only(site: Site) -> None:
    with site.connect() as one, site.connect() as two:
        heard = ChapLogin(one, site.name(ONE_WAY)).ask().response(SECRET)
        login = ChapLogin(two, site.name(ONE_WAY)).ask()
        with pytest.raises(LoginRefused):
            login.say({"CHAP_N": USER, "CHAP_R": heard}, transit=True)


# -- the order of things ---------------------------------------------------------------------------------------------


def test_who_skips_the_security_stage_is_refused(site: Site) -> None:
    with site.connect() as initiator, pytest.raises(LoginRefused) as refused:
        initiator.login(site.name(ONE_WAY))
    assert refused.value.status == REFUSED


@pytest.mark.parametrize("methods", ["None", "KRB5,None", "SRP"])
def test_who_offers_no_chap_is_refused(site: Site, methods: str) -> None:
    with site.connect() as initiator, pytest.raises(LoginRefused) as refused:
        ChapLogin(initiator, site.name(ONE_WAY), methods)
    assert refused.value.status == REFUSED


def test_who_offers_nothing_and_wants_to_go_on_is_refused(site: Site) -> None:
    with site.connect() as initiator:
        identity = {"InitiatorName": initiator.name, "TargetName": site.name(ONE_WAY)}
        initiator.send(initiator.login_pdu(identity, csg=0, nsg=1))
        response = initiator.receive()
        assert (response.status_class, response.status_detail) == REFUSED


@pytest.mark.parametrize("nsg", [1, 3])
def test_nobody_leaves_the_stage_before_the_proof(site: Site, nsg: int) -> None:
    with site.connect() as initiator:
        identity = {"InitiatorName": initiator.name, "TargetName": site.name(ONE_WAY), "AuthMethod": "CHAP"}
        initiator.send(initiator.login_pdu(identity, csg=0, nsg=nsg))
        response = initiator.receive()
        assert (response.status_class, response.flags & wire.FINAL) == (0, 0)
        initiator.send(initiator.login_pdu({"CHAP_A": "5"}, csg=0, nsg=nsg))
        response = initiator.receive()
        assert (response.status_class, response.flags & wire.FINAL, response.tsih) == (0, 0, 0)


PARTS = {
    "nothing": {},
    "a response": {"CHAP_N": USER, "CHAP_R": "0x00"},
    "no response": {"CHAP_N": USER},
    "no name": {"CHAP_R": "0x" + "00" * 16},
    "a challenge": {"CHAP_I": "1", "CHAP_C": "0x01"},
}


@pytest.mark.parametrize("keys", PARTS.values(), ids=PARTS)
def test_nothing_comes_before_the_algorithms(site: Site, keys: dict[str, str]) -> None:
    with site.connect() as initiator:
        login = ChapLogin(initiator, site.name(ONE_WAY))
        with pytest.raises(LoginRefused) as refused:
            login.say(keys, transit=True)
    assert refused.value.status == REFUSED


@pytest.mark.parametrize("keys", [*PARTS.values(), {"AuthMethod": "None"}], ids=[*PARTS, "another method"])
def test_only_a_whole_response_answers_the_challenge(site: Site, keys: dict[str, str]) -> None:
    with site.connect() as initiator:
        login = ChapLogin(initiator, site.name(ONE_WAY)).ask()
        with pytest.raises(LoginRefused) as refused:
            login.say(keys, transit=True)
    assert refused.value.status in (REFUSED, (2, 0))


def test_no_step_is_done_twice(site: Site) -> None:
    with site.connect() as initiator:
        login = ChapLogin(initiator, site.name(ONE_WAY)).ask()
        with pytest.raises(LoginRefused) as refused:
            login.ask("7")
    assert refused.value.status == (2, 0)


def test_chap_keys_without_chap_are_refused(site: Site) -> None:
    with site.connect() as initiator:
        login = ChapLogin(initiator, site.name(OPEN), "None")
        with pytest.raises(LoginRefused) as refused:
            login.ask()
    assert refused.value.status == REFUSED


def test_chap_may_begin_with_the_offer(site: Site) -> None:
    with site.connect() as initiator:
        login = ChapLogin(initiator, site.name(ONE_WAY), "CHAP\0CHAP_A=5")
        assert login.answers["CHAP_A"] == "5"


def test_the_proof_may_lead_to_full_feature_phase_at_once(site: Site) -> None:
    with site.connect() as initiator:
        login = ChapLogin(initiator, site.name(ONE_WAY)).ask()
        keys = {"CHAP_N": USER, "CHAP_R": login.response(SECRET)}
        response = login.say(keys, transit=True, nsg=3)
        assert response.flags & 0x83 == wire.FINAL | 3
        assert response.tsih != 0


# -- mutual ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["5", "6", "7", "8"])
@pytest.mark.parametrize("node", [MUTUAL, ONE_WAY])
def test_the_target_proves_itself(site: Site, node: str, algorithm: str) -> None:
    challenge = os.urandom(1024)
    with site.connect() as initiator:
        login = ChapLogin(initiator, site.name(node)).ask(algorithm)
        login.prove(USER, SECRET, CHAP_I="0x21", CHAP_C="0x" + challenge.hex())
        assert login.answers["CHAP_N"] == TARGET_USER
        assert login.proves_it(TARGET_SECRET, 0x21, challenge)
        assert answers_pings(login.finish())


def test_where_it_is_mutual_one_way_is_refused(site: Site) -> None:
    with site.connect() as initiator:
        assert refusal(ChapLogin(initiator, site.name(MUTUAL)).ask()) == REFUSED


def test_the_target_proves_nothing_to_who_proves_nothing(site: Site) -> None:
    with site.connect() as initiator:
        login = ChapLogin(initiator, site.name(MUTUAL)).ask()
        assert refusal(login, USER, "wrong-secret-01", CHAP_I="1", CHAP_C="0x0102") == REFUSED
        assert "CHAP_R" not in login.answers


def test_its_own_challenge_is_not_answered(site: Site) -> None:
    with site.connect() as initiator:
        login = ChapLogin(initiator, site.name(MUTUAL)).ask()
        assert refusal(login, CHAP_I="1", CHAP_C="0x" + login.challenge.hex()) == REFUSED


def test_the_same_secret_both_ways_is_refused(site: Site) -> None:
    with site.connect() as initiator:
        login = ChapLogin(initiator, site.name(MUTUAL)).ask()
        assert refusal(login, SAME_USER, SAME_SECRET, CHAP_I="1", CHAP_C="0x0102") == REFUSED


def test_a_user_without_a_secret_of_the_target_gets_no_proof(site: Site) -> None:
    with site.connect() as initiator:
        login = ChapLogin(initiator, site.name(ONE_WAY)).ask()
        assert refusal(login, BARE_USER, BARE_SECRET, CHAP_I="1", CHAP_C="0x0102") == REFUSED


@pytest.mark.parametrize(
    "challenge",
    [
        {"CHAP_I": "1"},
        {"CHAP_C": "0x0102"},
        {"CHAP_I": "256", "CHAP_C": "0x0102"},
        {"CHAP_I": "one", "CHAP_C": "0x0102"},
        {"CHAP_I": "1", "CHAP_C": ""},
        {"CHAP_I": "1", "CHAP_C": "0x" + "01" * 1025},
    ],
)
def test_a_challenge_that_is_none_is_refused(site: Site, challenge: dict[str, str]) -> None:
    with site.connect() as initiator:
        assert refusal(ChapLogin(initiator, site.name(MUTUAL)).ask(), **challenge) == REFUSED


# -- policies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("methods", ["CHAP,None", "None", "None,CHAP"])
def test_where_it_is_left_open_the_initiator_s_first_choice_counts(site: Site, methods: str) -> None:
    with site.connect() as initiator:
        login = ChapLogin(initiator, site.name(OPEN), methods)
        assert login.answers["AuthMethod"] == methods.partition(",")[0]
        if methods.startswith("CHAP"):
            login.ask().prove(USER, SECRET)
        else:
            login.say({}, transit=True)
        assert login.finish().tsih != 0


def test_where_it_is_left_open_the_stage_may_be_skipped(site: Site) -> None:
    with site.connect().login(site.name(OPEN)) as initiator:
        assert initiator.tsih != 0


def test_an_auth_group_that_does_not_exist_lets_nobody_in(site: Site) -> None:
    with site.connect() as initiator, pytest.raises(LoginRefused) as refused:
        ChapLogin(initiator, site.name(NOBODY))
    assert refused.value.status == REFUSED
    assert "auth group 99 does not exist or is empty" in site.engine.words()


def test_discovery_has_policies_of_its_own(site: Site) -> None:
    site.engine.rpc("iscsi_set_discovery_auth", require_chap=True, mutual_chap=True, chap_group=7)
    site.engine.rpc("iscsi_portal_group_set_auth", tag=3, require_chap=True, chap_group=7)
    try:
        with site.connect() as initiator:
            login = ChapLogin(initiator, None).ask()
            login.prove(USER, SECRET, CHAP_I="1", CHAP_C="0x0102")
            assert login.finish().tsih != 0
        with site.connect() as initiator:
            assert refusal(ChapLogin(initiator, None).ask()) == REFUSED
        with Initiator(("127.0.0.1", site.other_port)) as initiator:
            login = ChapLogin(initiator, None).ask()
            login.prove(USER, SECRET)
            assert login.finish().tsih != 0
    finally:
        site.engine.rpc("iscsi_set_discovery_auth")
        site.engine.rpc("iscsi_portal_group_set_auth", tag=3, inherit=True)


def test_a_secret_is_changed_while_initiators_use_it(site: Site) -> None:
    site.engine.rpc("iscsi_auth_group_add_secret", tag=7, user="dormouse", secret="asleep-all-day-1")
    with site.connect() as initiator:
        login = ChapLogin(initiator, site.name(ONE_WAY)).ask()
        login.prove("dormouse", "asleep-all-day-1")
        session = login.finish()
        site.engine.rpc("iscsi_auth_group_remove_secret", tag=7, user="dormouse")
        assert answers_pings(session)
        with site.connect() as another:
            assert refusal(ChapLogin(another, site.name(ONE_WAY)).ask(), "dormouse", "asleep-all-day-1") == REFUSED


def test_weak_secrets_are_told_in_the_log(site: Site) -> None:
    site.engine.rpc("iscsi_create_auth_group", tag=8, secrets=[{"user": "knave", "secret": "tarts"}])
    try:
        words = site.engine.words()
        assert "auth group 8: user knave: secret is shorter than 12 bytes" in words
        assert "tarts" not in words
        assert f"auth group 7: user {SAME_USER}: secret and msecret are the same" in words
    finally:
        site.engine.rpc("iscsi_delete_auth_group", tag=8)


# -- libiscsi --------------------------------------------------------------------------------------------------------

IN_RETURN = f"?target_user={TARGET_USER}&target_password={TARGET_SECRET}"


@pytest.mark.parametrize("node", [ONE_WAY, OPEN])
def test_libiscsi_logs_in_with_chap(site: Site, node: str) -> None:
    assert "Peripheral Device Type:DIRECT_ACCESS" in run("iscsi-inq", site.url(node)).stdout


def test_libiscsi_takes_its_secrets_from_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "USERNAME": USER,
        "PASSWORD": SECRET,
        "TARGET_USERNAME": TARGET_USER,
        "TARGET_PASSWORD": TARGET_SECRET,
    }.items():
        monkeypatch.setenv(f"LIBISCSI_CHAP_{name}", value)
    url = f"iscsi://127.0.0.1:{site.port}/{site.name(MUTUAL)}/0"
    assert "Total size:1048576" in run("iscsi-readcapacity16", url).stdout


@pytest.mark.parametrize("node", [ONE_WAY, MUTUAL])
def test_libiscsi_logs_in_with_mutual_chap(site: Site, node: str) -> None:
    assert "Total size:1048576" in run("iscsi-readcapacity16", site.url(node, more=IN_RETURN)).stdout


def test_libiscsi_with_another_secret_is_refused(site: Site) -> None:
    for url in (site.url(ONE_WAY, secret="wrong-secret-01"), site.url(MUTUAL), site.url(ONE_WAY, user="nobody")):
        result = run("iscsi-inq", url, check=False)
        assert result.returncode != 0
        assert "Authentication" in result.stderr


def test_libiscsi_notices_a_target_that_does_not_know_its_secret(site: Site) -> None:
    wrong = site.url(MUTUAL, more=f"?target_user={TARGET_USER}&target_password=another-secret-1")
    assert run("iscsi-inq", wrong, check=False).returncode != 0


def test_libiscsi_discovers_with_chap(site: Site) -> None:
    portal = f"iscsi://127.0.0.1:{site.other_port}"
    site.engine.rpc("iscsi_target_node_add_pg_ig_maps", name=site.name(OPEN), pg_ig_maps=[{"pg_tag": 3, "ig_tag": 2}])
    site.engine.rpc("iscsi_portal_group_set_auth", tag=3, require_chap=True, chap_group=7)
    try:
        assert run("iscsi-ls", portal, check=False).returncode != 0
        assert site.name(OPEN) in run("iscsi-ls", portal.replace("//", f"//{USER}%{SECRET}@")).stdout
    finally:
        site.engine.rpc("iscsi_portal_group_set_auth", tag=3, inherit=True)
