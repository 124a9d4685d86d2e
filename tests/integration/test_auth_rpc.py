# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Auth groups and CHAP policies over RPC: SPDK's answers, what logins make of them, what is saved, what is not told."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from control import saved
from engine_process import Engine, Launch, RpcError, free_port, run
from pdu.initiator import Initiator, LoginRefused

NODE = "iqn.2016-06.io.spdk:disk1"
AUTHENTICATION_FAILED = (2, 1)
ALICE = {"user": "alice", "secret": "hush-alice-1", "muser": "target", "msecret": "hush-target-1"}
BOB = {"user": "bob", "secret": "hush-bob-1"}
REQUIRED = {"disable_chap": False, "require_chap": True, "mutual_chap": False, "chap_group": 7}
OPEN = {"disable_chap": False, "require_chap": False, "mutual_chap": False, "chap_group": 0}


def spdk_rpc(engine: Engine, *words: str | Path) -> Any:
    printed = run(Path(sys.executable).with_name("spdk-rpc"), "-s", engine.socket, *words).stdout
    return json.loads(printed) if printed.strip() else None


def policy(shown: dict[str, Any]) -> dict[str, Any]:
    """What an answer says about CHAP."""
    return {name: shown[name] for name in REQUIRED if name in shown}


def build(engine: Engine) -> dict[int, int]:
    """A node behind two public portal groups, 1 and 3, and a private one, 4; gives their ports."""
    ports = {tag: free_port() for tag in (1, 3, 4)}
    for tag, port in ports.items():
        portals = [{"host": "127.0.0.1", "port": str(port)}]
        engine.rpc("iscsi_create_portal_group", tag=tag, portals=portals, private=tag == 4)
    engine.initiator_group()
    engine.node("disk1", engine.malloc("M0", 1))
    maps = [{"pg_tag": tag, "ig_tag": 2} for tag in (3, 4)]
    engine.rpc("iscsi_target_node_add_pg_ig_maps", name=NODE, pg_ig_maps=maps)
    return ports


def configure(engine: Engine) -> None:
    """Everything about authentication, and a redirect."""
    engine.rpc("iscsi_set_discovery_auth", require_chap=True, chap_group=7)
    engine.rpc("iscsi_target_node_set_auth", name=NODE, require_chap=True, mutual_chap=True, chap_group=7)
    engine.rpc("iscsi_portal_group_set_auth", tag=3, disable_chap=True)
    engine.rpc("iscsi_target_node_set_redirect", name=NODE, pg_tag=3, redirect_host="::1", redirect_port="3262")
    engine.rpc("iscsi_create_auth_group", tag=7, secrets=[ALICE])
    engine.rpc("iscsi_auth_group_add_secret", tag=7, **BOB)
    engine.rpc("iscsi_create_auth_group", tag=8)


def everything(engine: Engine) -> list[Any]:
    looks = ("options", "portal_groups", "initiator_groups", "target_nodes", "auth_groups")
    return [engine.rpc(f"iscsi_get_{look}") for look in looks]


def outcome(port: int, target: str | None = None) -> tuple[int, int]:
    """Status class and detail of a login, without a target to discovery."""
    with Initiator(("127.0.0.1", port)) as initiator:
        try:
            initiator.login(target)
        except LoginRefused as refused:
            return refused.status
        return 0, 0


# -- SPDK's clients --------------------------------------------------------------------------------------------------


def test_spdks_client_works_unchanged(launch: Launch) -> None:
    engine = launch()
    build(engine)
    spdk_rpc(engine, "iscsi_create_auth_group", "7", "-c", "user:u1 secret:s1 muser:mu1 msecret:ms1,user:u2 secret:s2")
    spdk_rpc(engine, "iscsi_create_auth_group", "8")
    spdk_rpc(engine, "iscsi_auth_group_add_secret", "8", "-u", "u3", "-s", "s3", "-m", "mu3", "-r", "ms3")
    spdk_rpc(engine, "iscsi_auth_group_remove_secret", "7", "-u", "u2")
    assert spdk_rpc(engine, "iscsi_get_auth_groups") == [
        {"tag": 7, "secrets": [{"user": "u1", "secret": "s1", "muser": "mu1", "msecret": "ms1"}]},
        {"tag": 8, "secrets": [{"user": "u3", "secret": "s3", "muser": "mu3", "msecret": "ms3"}]},
    ]
    spdk_rpc(engine, "iscsi_delete_auth_group", "8")
    spdk_rpc(engine, "iscsi_set_discovery_auth", "-r", "-m", "-g", "7")
    mutual = {**REQUIRED, "mutual_chap": True}
    assert policy(spdk_rpc(engine, "iscsi_get_options")) == mutual
    spdk_rpc(engine, "iscsi_portal_group_set_auth", "-r", "-g", "7", "1")
    assert [policy(group) for group in spdk_rpc(engine, "iscsi_get_portal_groups")] == [REQUIRED, {}, {}]
    spdk_rpc(engine, "iscsi_target_node_set_auth", NODE, "-r", "-m", "-g", "7")
    spdk_rpc(engine, "iscsi_target_node_set_redirect", NODE, "1", "-a", "10.0.0.9", "-p", "3260")
    (node,) = spdk_rpc(engine, "iscsi_get_target_nodes")
    assert policy(node) == mutual
    assert node["redirects"] == [{"pg_tag": 1, "redirect_host": "10.0.0.9", "redirect_port": "3260"}]
    spdk_rpc(engine, "iscsi_target_node_set_redirect", NODE, "1")
    assert "redirects" not in spdk_rpc(engine, "iscsi_get_target_nodes")[0]
    spdk_rpc(engine, "iscsi_target_node_request_logout", NODE)
    spdk_rpc(engine, "iscsi_target_node_request_logout", NODE, "-t", "1")


def test_what_spdks_client_saves_it_can_load(launch: Launch, tmp_path: Path) -> None:
    first = launch()
    build(first)
    configure(first)
    config = tmp_path / "saved.json"
    config.write_text(json.dumps(spdk_rpc(first, "save_config")))
    before = everything(first)
    first.stop()
    second = launch("--wait-for-rpc")
    spdk_rpc(second, "load_config", "-j", config)
    assert everything(second) == before


def test_the_methods_beyond_spdk_are_told(engine: Engine) -> None:
    assert {
        "iscsi_get_portal_groups.chap_group",
        "iscsi_get_target_nodes.redirects",
        "iscsi_portal_group_set_auth.inherit",
    } <= set(engine.rpc("engine_get_info")["extensions"])


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "params", "message"),
    [
        ("create_auth_group", {"tag": 7}, "Could not add auth group (7), File exists"),
        (
            "create_auth_group",
            {"tag": 9, "secrets": [BOB, BOB]},
            "Could not add secret to auth group (9), File exists",
        ),
        ("create_auth_group", {"tag": 9, "secrets": [BOB] * 65}, "Invalid parameters: secrets: 65 items"),
        ("auth_group_add_secret", {"tag": 99, **BOB}, "Could not find auth group (99)"),
        ("auth_group_add_secret", {"tag": 7, **ALICE}, "Could not add secret to auth group (7), File exists"),
        (
            "auth_group_add_secret",
            {"tag": 7, **BOB, "muser": "half"},
            "Could not add secret to auth group (7), Invalid argument",
        ),
        ("auth_group_add_secret", {"tag": 7, "user": "u" * 256, "secret": "s"}, "Invalid parameters: user: 256 bytes"),
        ("auth_group_add_secret", {"tag": 7, "user": "bob"}, "Invalid parameters: secret is missing"),
        ("auth_group_remove_secret", {"tag": 99, "user": "bob"}, "Could not find auth group (99)"),
        (
            "auth_group_remove_secret",
            {"tag": 7, "user": "bob"},
            "Could not delete secret from CHAP group (7), No such device",
        ),
        ("delete_auth_group", {"tag": 99}, "Could not find auth group (99): auth group 99 does not exist. Known"),
        ("portal_group_set_auth", {"tag": 99}, "Could not find portal group 99"),
        ("portal_group_set_auth", {"tag": 1, "mutual_chap": True}, "Invalid combination of auth params"),
        ("portal_group_set_auth", {"tag": 1, **REQUIRED, "inherit": True}, "Invalid combination of auth params"),
        ("target_node_set_auth", {"name": "nope"}, "Could not find target nope"),
        (
            "target_node_set_auth",
            {"name": NODE, "disable_chap": True, "require_chap": True},
            "Invalid combination of auth params",
        ),
        ("set_discovery_auth", {"mutual_chap": True}, "Invalid combination of CHAP params"),
        ("set_discovery_auth", {"disable_chap": True, "mutual_chap": True}, "Invalid combination of CHAP params"),
        (
            "create_target_node",
            {
                "name": "disk2",
                "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 2}],
                "luns": [{"bdev_name": "M0"}],
                "queue_depth": 1,
                "mutual_chap": True,
            },
            "Invalid parameters: target node iqn.2016-06.io.spdk:disk2: disable_chap excludes",
        ),
        ("get_auth_groups", {"tag": 7}, "iscsi_get_auth_groups requires no parameters"),
    ],
)
def test_a_refusal_begins_with_spdks_words_and_changes_nothing(
    crowded: Engine, method: str, params: dict[str, Any], message: str
) -> None:
    before = everything(crowded)
    with pytest.raises(RpcError) as refusal:
        crowded.rpc(f"iscsi_{method}", **params)
    assert refusal.value.code == -32602
    assert refusal.value.message.startswith(message)
    assert everything(crowded) == before


@pytest.fixture(scope="module")
def crowded(launch_shared: Launch) -> Engine:
    engine = launch_shared()
    build(engine)
    engine.rpc("iscsi_create_auth_group", tag=7, secrets=[ALICE])
    return engine


# -- what logins make of it ------------------------------------------------------------------------------------------


def test_discovery_is_refused_where_it_requires_chap(launch: Launch) -> None:
    engine = launch()
    ports = build(engine)
    engine.rpc("iscsi_set_discovery_auth", require_chap=True, chap_group=7)
    assert {tag: outcome(port) for tag, port in ports.items()} == dict.fromkeys(ports, AUTHENTICATION_FAILED)
    assert outcome(ports[1], NODE) == (0, 0)
    engine.rpc("iscsi_portal_group_set_auth", tag=3, **OPEN)
    assert (outcome(ports[1]), outcome(ports[3])) == (AUTHENTICATION_FAILED, (0, 0))
    engine.rpc("iscsi_set_discovery_auth")
    engine.rpc("iscsi_portal_group_set_auth", tag=3, **REQUIRED)
    assert (outcome(ports[1]), outcome(ports[3])) == ((0, 0), AUTHENTICATION_FAILED)
    assert outcome(ports[3], NODE) == (0, 0)
    engine.rpc("iscsi_portal_group_set_auth", tag=3, inherit=True)
    assert outcome(ports[3]) == (0, 0)
    assert policy(engine.rpc("iscsi_get_portal_groups")[1]) == {}


def test_a_node_may_name_an_auth_group_that_comes_later(launch: Launch) -> None:
    engine = launch()
    ports = build(engine)
    engine.rpc("iscsi_target_node_set_auth", name="disk1", require_chap=True, chap_group=7)
    assert outcome(ports[1], NODE) == AUTHENTICATION_FAILED
    engine.rpc("iscsi_create_auth_group", tag=7, secrets=[BOB])
    assert outcome(ports[1], NODE) == AUTHENTICATION_FAILED
    assert policy(engine.rpc("iscsi_get_target_nodes")[0]) == REQUIRED
    engine.rpc("iscsi_delete_auth_group", tag=7)
    assert policy(engine.rpc("iscsi_get_target_nodes")[0]) == REQUIRED


# -- what is saved ---------------------------------------------------------------------------------------------------


def test_the_configuration_survives_a_restart(launch: Launch) -> None:
    engine = launch(state=True)
    build(engine)
    configure(engine)
    before, file = everything(engine), saved(engine)["iscsi"]
    assert [call["method"].partition("_")[2] for call in file] == [
        "set_options",
        *["create_portal_group"] * 3,
        "create_initiator_group",
        "create_target_node",
        *["create_auth_group"] * 2,
        "portal_group_set_auth",
        "target_node_set_redirect",
    ]
    engine.restart()
    assert everything(engine) == before
    assert engine.rpc("engine_get_info")["unrestored"] == []
    engine.malloc("M1", 1)
    assert saved(engine)["iscsi"] == file


def test_secrets_are_saved_for_the_owner_of_the_file_only(launch: Launch) -> None:
    engine = launch(state=True)
    engine.rpc("iscsi_create_auth_group", tag=7, secrets=[ALICE])
    state = engine.state_dir / "config.json"
    assert "hush-alice-1" in state.read_text()
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert stat.S_IMODE(engine.state_dir.stat().st_mode) == 0o700


def test_an_auth_group_of_more_secrets_than_a_call_takes_survives_a_restart(launch: Launch) -> None:
    engine = launch(state=True)
    engine.rpc("iscsi_create_auth_group", tag=7, secrets=[{"user": f"u{n}", "secret": f"s{n}"} for n in range(64)])
    for number in range(64, 70):
        engine.rpc("iscsi_auth_group_add_secret", tag=7, user=f"u{number}", secret=f"s{number}")
    before = engine.rpc("iscsi_get_auth_groups")
    assert len(before[0]["secrets"]) == 70
    engine.restart()
    assert engine.rpc("iscsi_get_auth_groups") == before


def lose_portal_group_3(engine: Engine) -> list[dict[str, Any]]:
    """Restart without the address of portal group 3, and give what was not restored."""
    engine.stop()
    state = engine.state_dir / "config.json"
    calls = json.loads(state.read_text())
    for call in calls["subsystems"][-1]["config"]:
        if call["method"] == "iscsi_create_portal_group" and call["params"]["tag"] == 3:
            call["params"]["portals"][0]["host"] = "192.0.2.77"
    state.write_text(json.dumps(calls))
    engine.start()
    unrestored: list[dict[str, Any]] = engine.rpc("engine_get_info")["unrestored"]
    return unrestored


def test_what_belongs_to_a_lost_portal_group_is_kept_with_it(launch: Launch) -> None:
    engine = launch(state=True)
    build(engine)
    configure(engine)
    lost = lose_portal_group_3(engine)
    methods = [each["method"].partition("_")[2] for each in lost]
    assert methods == [
        *("create_portal_group", "create_target_node", "portal_group_set_auth", "target_node_set_redirect"),
    ]
    assert "portal group 3 does not exist" in lost[2]["error"]
    engine.malloc("M1", 1)
    kept = [call["method"].partition("_")[2] for call in saved(engine)["iscsi"]]
    assert [method for method in kept if method in methods] == ["create_portal_group", *methods[:1] * 2, *methods[1:]]


def test_what_belongs_to_a_lost_portal_group_is_forgotten_with_it(launch: Launch) -> None:
    engine = launch(state=True)
    build(engine)
    configure(engine)
    lose_portal_group_3(engine)
    engine.rpc("iscsi_delete_portal_group", tag=3)
    engine.rpc("iscsi_delete_target_node", name="disk1")
    assert engine.rpc("engine_get_info")["unrestored"] == []
    methods = {call["method"] for call in saved(engine)["iscsi"]}
    assert methods.isdisjoint({"iscsi_portal_group_set_auth", "iscsi_target_node_set_redirect"})


# -- what is never told ----------------------------------------------------------------------------------------------

SECRET = "correct-horse-battery"
HALF = {"user": "bob", "secret": SECRET, "muser": "half"}
BAD_CALLS: tuple[tuple[str, Any], ...] = (
    ("iscsi_create_auth_group", {"tag": 7, "secrets": [{"user": "bob", "secret": SECRET}] * 2}),
    ("iscsi_create_auth_group", {"tag": 7, "secrets": [HALF]}),
    ("iscsi_create_auth_group", {"tag": 7, "secrets": [{"user": "bob", "secret": SECRET * 30}]}),
    ("iscsi_create_auth_group", {"tag": 7, "secrets": [{"user": "bob", "secret": [SECRET]}]}),
    ("iscsi_create_auth_group", {"tag": 7, "secrets": [{"user": "bob", "secret": SECRET + "\0"}]}),
    ("iscsi_create_auth_group", {"tag": 7, "secrets": [{"secret": SECRET}]}),
    ("iscsi_create_auth_group", {"tag": 7, "secrets": [["bob", SECRET]]}),
    ("iscsi_create_auth_group", {"tag": 7, "secrets": SECRET}),
    ("iscsi_create_auth_group", {"tag": SECRET, "secrets": [{"user": "bob", "secret": SECRET}]}),
    ("iscsi_create_auth_group", {"tag": 7, "secret": SECRET}),
    ("iscsi_create_auth_group", [7, SECRET]),
    ("iscsi_auth_group_add_secret", {"tag": 99, "user": "bob", "secret": SECRET}),
    ("iscsi_auth_group_add_secret", {"tag": 6, "user": "alice", "secret": SECRET}),
    ("iscsi_auth_group_add_secret", {"tag": 6, **HALF}),
    ("iscsi_auth_group_add_secret", {"tag": 6, "user": "bob", "secret": {"of": SECRET}}),
    ("iscsi_auth_group_add_secret", {"tag": 6, "user": "bob", "secret": SECRET, "extra": SECRET}),
    ("iscsi_create_auth_groups", {"tag": 6, "user": "bob", "secret": SECRET}),
)


def test_no_error_and_no_log_tells_a_secret(launch: Launch) -> None:
    engine = launch("--log-level", "DEBUG", state=True)
    engine.rpc("iscsi_create_auth_group", tag=6, secrets=[{"user": "alice", "secret": SECRET}])
    for method, params in BAD_CALLS:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        whole = json.dumps(request)
        for text in (whole, whole[:-1] + ",}", json.dumps({**request, "id": [SECRET]})):
            answer = engine.exchange(text.encode()).decode()
            assert '"error"' in answer
            assert SECRET not in answer
    repeated = '{"id": 1, "method": "iscsi_create_auth_group", "params": {"tag": 5, "tag": 6, "secrets": ["%s"]}}'
    assert SECRET not in engine.exchange((repeated % SECRET).encode()).decode()
    engine.restart()
    assert SECRET not in engine.words()
    assert "Traceback" not in engine.words()
    assert engine.rpc("iscsi_get_auth_groups")[0]["secrets"][0]["secret"] == SECRET


def test_an_auth_group_that_is_not_restored_is_shown_without_its_secrets(launch: Launch) -> None:
    engine = launch("--log-level", "DEBUG", state=True)
    engine.rpc("iscsi_create_auth_group", tag=7, secrets=[ALICE, BOB])
    engine.stop()
    state = engine.state_dir / "config.json"
    state.write_text(state.read_text().replace('"bob"', '"alice"'))
    engine.start()
    (lost,) = engine.rpc("engine_get_info")["unrestored"]
    assert lost["error"].startswith("Could not add secret to auth group (7), File exists")
    masked = {"secret": "********", "msecret": "********"}
    assert lost["params"]["secrets"] == [{**ALICE, **masked}, {"user": "alice", "secret": "********"}]
    assert "hush" not in engine.words()
    engine.malloc("M0", 1)
    assert saved(engine)["iscsi"][-1]["params"]["secrets"][1]["secret"] == BOB["secret"]
    assert engine.rpc("iscsi_delete_auth_group", tag=7) is True
    assert "hush" not in state.read_text()
