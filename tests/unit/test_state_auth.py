# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CHAP, redirects and options: what is planned, what is refused, and that no secret is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.facts import TARGET_OPTION_RANGES
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.methods import all_methods
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.schema import Mismatch
from ansible_collections.openlun.iscsi.plugins.module_utils._rpc import Call, CallError
from ansible_collections.openlun.iscsi.plugins.module_utils._state.auth import (
    secrets_in,
    without_secrets,
    words_beside_users,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._state.declaration import declare, entries_of
from ansible_collections.openlun.iscsi.plugins.module_utils._state.executor import Failed, execute
from ansible_collections.openlun.iscsi.plugins.module_utils._state.planner import Refused
from ansible_collections.openlun.iscsi.plugins.module_utils._state.reader import Waiting, read
from ansible_collections.openlun.iscsi.plugins.module_utils._state.report import (
    actions,
    difference,
    objects_by_option,
    outcome,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._state.startup import first_operation, let_start
from fake_engine import FakeEngine
from planning import planned, problems

BASE = "iqn.2016-06.io.spdk"
OLD, NEW, BACK = "old and secret", "new and secret", "back and secret"
MAPS = [{"portal_group": 1, "initiator_group": 2}]
U1 = {"user": "u1", "secret": OLD}
U2 = {"user": "u2", "secret": OLD, "muser": "target", "msecret": BACK}
NODE = {"name": "n1", "luns": [{"id": 0, "bdev": "mem"}], "maps": MAPS, "chap": "required", "auth_group": 1}
CONFIG: dict[str, Any] = {
    "bdevs": [{"name": "mem", "type": "malloc", "size": "64MiB"}],
    "auth_groups": [{"tag": 1, "secrets": [U1, U2]}],
    "portal_groups": [{"tag": 1, "portals": ["10.0.0.1:3260"]}, {"tag": 9, "portals": ["10.0.0.9"], "private": True}],
    "initiator_groups": [{"tag": 2, "initiators": ["ANY"], "netmasks": ["ANY"]}],
    "target_nodes": [NODE],
    "discovery_auth": {"chap": "required", "auth_group": 1},
}


def sent(engine: FakeEngine, **variables: Any) -> list[Call]:
    """The calls that bring the engine there."""
    engine.written.clear()
    execute(planned(engine, **variables), engine)
    return [call for call in engine.written if call.method != "rpc_get_methods" and "_get_" not in call.method]


def secrets(*entries: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"auth_groups": [{"tag": 1, "secrets": list(entries), **options}]}


@pytest.fixture
def engine() -> FakeEngine:
    engine = FakeEngine()
    execute(planned(engine, **CONFIG), engine)
    return engine


@pytest.fixture
def discreet(engine: FakeEngine) -> FakeEngine:
    """One that does not show secrets."""
    engine.discreet = True
    return engine


def test_the_same_again_changes_nothing(engine: FakeEngine) -> None:
    assert planned(engine, **CONFIG, prune=True) == []
    assert planned(engine, **secrets(U2, U1)) == []


def test_an_auth_group_is_there_before_who_uses_it_and_goes_after_them(engine: FakeEngine) -> None:
    fresh = FakeEngine()
    created = [each.ref[0] for each in planned(fresh, **CONFIG)]
    assert created.index("auth_group") < min(created.index("target_node"), created.index("discovery_auth"))
    absent: dict[str, Any] = {"target_nodes": [{"name": "n1", "state": "absent"}], "discovery_auth": {"chap": "none"}}
    removed = planned(engine, auth_groups=[{"tag": 1, "state": "absent"}], **absent)
    assert removed[-1].ref == ("auth_group", 1)
    execute(removed, engine)
    assert engine.auth_groups == {}


def test_secrets_come_and_go_one_by_one(engine: FakeEngine) -> None:
    assert sent(engine, **secrets({**U1, "secret": NEW}, {"user": "u3", "secret": NEW})) == [
        Call("iscsi_auth_group_remove_secret", {"tag": 1, "user": "u1"}),
        Call("iscsi_auth_group_add_secret", {"tag": 1, "user": "u1", "secret": NEW}),
        Call("iscsi_auth_group_remove_secret", {"tag": 1, "user": "u2"}),
        Call("iscsi_auth_group_add_secret", {"tag": 1, "user": "u3", "secret": NEW}),
    ]


def test_more_secrets_than_one_call_takes() -> None:
    engine = FakeEngine()
    many = [{"user": f"u{number}", "secret": f"{NEW} {number}"} for number in range(100)]
    calls = sent(engine, **secrets(*many))
    assert (len(calls), len(engine.auth_groups[1])) == (1 + 36, 100)


@pytest.mark.parametrize("hidden", [{}, {"secret": "********"}])
def test_a_secret_that_is_left_out_or_masked_stays(engine: FakeEngine, hidden: dict[str, str]) -> None:
    masked = {"user": "u2", "muser": "target", **hidden}
    assert planned(engine, **secrets({"user": "u1", **hidden}, masked)) == []
    assert planned(engine, **objects_by_option(read(engine).state), prune=True) == []


def test_a_new_user_needs_a_secret(engine: FakeEngine) -> None:
    found = problems(engine, **secrets(U1, {"user": "u3"}, {"user": "u4", "secret": NEW, "muser": "target"}))
    assert found == [
        "auth_groups[0].secrets[1].secret: user u3 of auth group 1 needs a secret.",
        "auth_groups[0].secrets[2].msecret: user u4 of auth group 1 needs a msecret.",
    ]


def test_an_engine_that_hides_secrets_is_given_them_every_time_or_only_once(discreet: FakeEngine) -> None:
    assert [each.action for each in planned(discreet, **secrets(U1, U2))] == ["edit"]
    assert planned(discreet, **secrets(U1, U2, update_secret="on_create")) == []
    assert [
        call.params
        for call in sent(discreet, **secrets(U1, U2, {"user": "u3", "secret": NEW}, update_secret="on_create"))
    ] == [{"tag": 1, "user": "u3", "secret": NEW}]
    assert planned(discreet, **secrets({"user": "u1"}, {"user": "u2"}, {"user": "u3"})) == []


def test_on_create_leaves_secrets_alone_that_can_be_compared(engine: FakeEngine) -> None:
    changed = {**U1, "secret": NEW}
    assert planned(engine, **secrets(changed, U2, update_secret="on_create")) == []
    assert len(planned(engine, **secrets(changed, U2))) == 1


def test_what_is_told_of_secrets_names_users_and_no_secret(engine: FakeEngine) -> None:
    changed = secrets({**U1, "secret": NEW}, {"user": "u3", "secret": NEW, "muser": "target", "msecret": BACK})
    operations = planned(engine, **changed)
    shown = difference(operations)
    assert shown["before"]["auth group 1"]["secrets"] == ["u1", "u2 with muser target"]
    assert shown["after"]["auth group 1"]["secrets"] == ["u1 (new secret)", "u3 with muser target"]
    assert [str(each) for each in operations] == [
        "edit auth group 1: secrets u1, u2 with muser target → u1 (new secret), u3 with muser target"
    ]
    state = outcome(read(engine).state, operations)
    everything = json.dumps([actions(operations), shown, objects_by_option(state)]) + repr(operations) + repr(state)
    assert not any(secret in everything for secret in (OLD, NEW, BACK))
    assert objects_by_option(state)["auth_groups"][0]["secrets"][1]["msecret"] == "********"


def test_an_engine_that_repeats_a_secret_in_its_error_is_not_quoted(engine: FakeEngine) -> None:
    operations = planned(engine, **secrets({**U1, "secret": NEW}, U2))

    def call_batch(calls: list[Call]) -> list[Any]:
        return [CallError(-32602, f"Invalid parameters {call.params}", call.method) for call in calls]

    engine.call_batch = call_batch  # type: ignore[assignment,method-assign]
    with pytest.raises(Failed) as failure:
        execute(operations, engine)
    assert "Invalid parameters" in str(failure.value)
    assert not any(secret in str(failure.value) for secret in (OLD, NEW))


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        ({"user": "", "secret": NEW}, "the user is empty."),
        ({"user": "u", "secret": ""}, "the secret is empty."),
        ({"user": "u", "secret": f"{NEW}\n"}, "the secret holds characters that cannot be printed"),
        ({"user": "u", "secret": NEW * 99}, "the secret is longer than 255 bytes."),
        ({"user": "u", "secret": NEW, "msecret": BACK}, "the msecret of user u needs a muser."),
        ({"user": "u", "secret": NEW, "muser": "t", "msecret": NEW}, "secret and msecret of user u are the same."),
    ],
)
def test_what_is_no_secret_is_told_without_it(engine: FakeEngine, secret: dict[str, str], problem: str) -> None:
    [found] = problems(engine, **secrets(secret))
    assert found.startswith(f"auth_groups[0].secrets[0]: {problem}")
    assert NEW not in found


def test_a_policy_changes_while_the_node_serves(engine: FakeEngine) -> None:
    engine.log_in("n1")
    assert sent(engine, target_nodes=[{"name": "n1", "chap": "mutual"}]) == [
        Call(
            "iscsi_target_node_set_auth",
            {
                "name": f"{BASE}:n1",
                "disable_chap": False,
                "require_chap": True,
                "mutual_chap": True,
                "chap_group": 1,
            },
        )
    ]


def test_an_auth_group_by_itself_asks_for_chap_and_no_chap_forgets_it(engine: FakeEngine) -> None:
    execute(planned(engine, target_nodes=[{"name": "n1", "chap": "none"}]), engine)
    assert engine.nodes[f"{BASE}:n1"]["chap_group"] == 0
    [operation] = planned(engine, target_nodes=[{"name": "n1", "auth_group": 1}])
    assert operation.why == "chap none → required, auth group none → 1"
    new = {**NODE, "name": "n2", "chap": None}
    [creation] = planned(engine, target_nodes=[new])
    assert creation.after is not None
    assert creation.after.show()["chap"] == "required"


def test_a_stricter_policy_comes_first_and_a_more_open_one_last(engine: FakeEngine) -> None:
    groups = [{"tag": 3, "initiators": ["ANY"]}]
    both = [*MAPS, {"portal_group": 1, "initiator_group": 3}]
    opened = sent(engine, initiator_groups=groups, target_nodes=[{"name": "n1", "chap": "none", "maps": both}])
    assert [call.method for call in opened[-2:]] == ["iscsi_target_node_add_pg_ig_maps", "iscsi_target_node_set_auth"]
    closed = sent(engine, target_nodes=[{"name": "n1", "auth_group": 1, "maps": MAPS}])
    assert [call.method for call in closed] == ["iscsi_target_node_set_auth", "iscsi_target_node_remove_pg_ig_maps"]


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        (
            {"target_nodes": [{"name": "n1", "auth_group": 5}]},
            "target_nodes[0].auth_group: no auth group with tag 5. Declare it in auth_groups or create it first. ",
        ),
        (
            {"discovery_auth": {"auth_group": 5}},
            "discovery_auth.auth_group: no auth group with tag 5.",
        ),
        (
            {"target_nodes": [{**NODE, "name": "n2", "auth_group": None}]},
            "target_nodes[0].auth_group: chap required needs the auth group that has the secrets.",
        ),
        (
            {"target_nodes": [{"name": "n1", "chap": "none", "auth_group": 1}]},
            "target_nodes[0].auth_group: with chap none nobody asks for its secrets.",
        ),
        (
            {"auth_groups": [{"tag": 3, "secrets": [U1]}], "discovery_auth": {"chap": "mutual", "auth_group": 3}},
            "discovery_auth.chap: no secret of auth group 3 has a muser, so nobody could log in.",
        ),
        (
            {"auth_groups": [{"tag": 1, "state": "absent"}], "discovery_auth": {"chap": "none"}},
            f"auth_groups[0].tag: auth group 1 cannot be removed: target node {BASE}:n1 authenticates with it.",
        ),
        (
            {"auth_groups": [{"tag": 1, "state": "absent"}], "target_nodes": [{"name": "n1", "state": "absent"}]},
            "auth_groups[0].tag: auth group 1 cannot be removed: discovery auth authenticates with it.",
        ),
        (
            {"auth_groups": [{"tag": 3}]},
            "auth_groups[0].secrets: auth group 3 does not exist yet and needs at least one",
        ),
        ({"auth_groups": [{"tag": 1, "secrets": [U1, U1]}]}, "auth_groups[0].secrets[1]: repeats auth_groups[0].secr"),
        ({"auth_groups": [{"tag": 0, "secrets": [U1]}]}, "auth_groups[0].tag: tag 0 is not between 1 and"),
        (
            {"target_nodes": [{"name": "n1", "redirects": [{"portal_group": 9, "address": "10.0.0.2"}]}]},
            "target_nodes[0].redirects[0].portal_group: the node is not mapped to portal group 9, so nobody comes b",
        ),
        (
            {"target_nodes": [{"name": "n1", "redirects": [{"portal_group": 1, "address": "10.0.0.1:3260"}]}]},
            f"target_nodes[0].redirects[0]: target node {BASE}:n1 sends initiators from portal group 1 to 10.0.0.1:",
        ),
        (
            {"target_nodes": [{"name": "n1", "redirects": [{"portal_group": 1, "address": "fd00::1"}]}]},
            "target_nodes[0].redirects[0]: 'fd00::1': an IPv6 address needs brackets. Write [fd00::1]:3260.",
        ),
        (
            {"target_nodes": [{"name": "n1", "redirects": [{"portal_group": 1, "address": "*"}]}]},
            "target_nodes[0].redirects[0]: 0.0.0.0:3260 is no address to go to.",
        ),
        (
            {"target_options": {"max_sessions": 64}},
            "target_options.max_sessions: the engine has 128 and takes 64 only before it serves. Start it with --wait",
        ),
        (
            {"target_options": {"nop_in_interval": 61}},
            "target_options.nop_in_interval: nop_in_interval 61 is not between",
        ),
    ],
)
def test_a_problem_is_named_with_its_path(engine: FakeEngine, variables: dict[str, Any], problem: str) -> None:
    assert any(found.startswith(problem) for found in problems(engine, **variables))


def test_prune_keeps_the_auth_group_that_something_uses(engine: FakeEngine) -> None:
    kept = {**CONFIG, "auth_groups": [{"tag": 4, "secrets": [U1]}]}
    assert [each.ref for each in planned(engine, prune=True, **kept)] == [("auth_group", 4)]


def test_a_portal_group_that_is_replaced_keeps_its_own_policy(engine: FakeEngine) -> None:
    policy = {"disable_chap": False, "require_chap": True, "mutual_chap": False, "chap_group": 1}
    engine.portal_groups[9].update(policy)
    execute(planned(engine, force=True, portal_groups=[{"tag": 9, "portals": ["10.0.0.8"]}]), engine)
    assert {name: engine.portal_groups[9][name] for name in policy} == policy


@pytest.mark.parametrize("address", ["192.0.2.7:3261", "[fd00::7]:3261"])
def test_a_redirect_comes_changes_and_goes(engine: FakeEngine, address: str) -> None:
    host = address.rpartition(":")[0].strip("[]")
    redirected = {"name": "n1", "redirects": [{"portal_group": 1, "address": address}]}
    [call] = sent(engine, target_nodes=[redirected])
    assert call.params == {"name": f"{BASE}:n1", "pg_tag": 1, "redirect_host": host, "redirect_port": "3261"}
    assert planned(engine, target_nodes=[redirected]) == []
    assert planned(engine, target_nodes=[{"name": "n1"}]) == []
    [operation] = planned(engine, target_nodes=[{"name": "n1", "redirects": []}])
    assert operation.why == f"redirects 1 to {address} → none"
    execute([operation], engine)
    assert engine.nodes[f"{BASE}:n1"]["redirects"] == []


def test_a_redirect_becomes_permanent_and_is_so_no_more(engine: FakeEngine) -> None:
    redirect = {"portal_group": 1, "address": "192.0.2.7:3261"}
    for_good = {"name": "n1", "redirects": [{**redirect, "permanent": True}]}
    execute(planned(engine, target_nodes=[{"name": "n1", "redirects": [redirect]}]), engine)
    [operation] = planned(engine, target_nodes=[for_good])
    assert operation.why == "redirects 1 to 192.0.2.7:3261 → 1 to 192.0.2.7:3261 for good"
    execute([operation], engine)
    assert engine.nodes[f"{BASE}:n1"]["redirects"][0]["permanent"] is True
    assert planned(engine, target_nodes=[for_good]) == []
    [call] = sent(engine, target_nodes=[{"name": "n1", "redirects": [redirect]}])
    assert call.params is not None
    assert "permanent" not in call.params


def test_a_redirect_survives_when_its_portal_group_or_its_node_is_replaced(engine: FakeEngine) -> None:
    execute(
        planned(engine, target_nodes=[{"name": "n1", "redirects": [{"portal_group": 1, "address": "10.9.9.9"}]}]),
        engine,
    )
    before = engine.nodes[f"{BASE}:n1"]["redirects"]
    assert before
    execute(planned(engine, force=True, portal_groups=[{"tag": 1, "portals": ["10.0.0.5"]}]), engine)
    assert engine.nodes[f"{BASE}:n1"]["redirects"] == before
    execute(planned(engine, force=True, target_nodes=[{"name": "n1", "queue_depth": 8}]), engine)
    assert engine.nodes[f"{BASE}:n1"]["redirects"] == before


def test_a_redirect_goes_with_its_last_map(engine: FakeEngine) -> None:
    execute(
        planned(engine, target_nodes=[{"name": "n1", "redirects": [{"portal_group": 1, "address": "10.9.9.9"}]}]),
        engine,
    )
    moved = [{"name": "n1", "maps": [{"portal_group": 9, "initiator_group": 2}]}]
    execute(planned(engine, target_nodes=moved), engine)
    assert planned(engine, target_nodes=moved) == []
    assert engine.nodes[f"{BASE}:n1"]["redirects"] == []


def test_a_portal_group_from_which_a_node_sends_away_does_not_become_private(engine: FakeEngine) -> None:
    execute(
        planned(engine, target_nodes=[{"name": "n1", "redirects": [{"portal_group": 1, "address": "10.9.9.9"}]}]),
        engine,
    )
    [problem] = problems(engine, portal_groups=[{"tag": 1, "private": True}])
    assert problem.startswith(f"portal_groups[0].private: target node {BASE}:n1 sends initiators from portal group 1")


def test_redirects_that_an_engine_does_not_tell_are_not_declared_on_it(engine: FakeEngine) -> None:
    engine.builtin = False
    assert planned(engine, target_nodes=[{"name": "n1", "redirects": []}]) == []
    [problem] = problems(
        engine, target_nodes=[{"name": "n1", "redirects": [{"portal_group": 1, "address": "10.9.9.9"}]}]
    )
    assert problem.startswith("target_nodes[0].redirects: spdk does not tell which redirects there are")


def test_options_that_are_as_declared_are_fine(engine: FakeEngine) -> None:
    assert planned(engine, target_options={"max_sessions": 128, "node_base": BASE}) == []


def test_an_engine_that_waits_gets_its_options_and_starts() -> None:
    engine = FakeEngine(waiting=True)
    with pytest.raises(Waiting, match=r"module openlun\.iscsi\.target_options sets them"):
        read(engine)
    with pytest.raises(Waiting):
        first_operation(declare(entries_of(CONFIG), BASE))
    with pytest.raises(Refused, match="max_sessions 0 is not between"):
        first_operation(declare(entries_of({"target_options": {"max_sessions": 0}}), BASE))
    operation = first_operation(declare(entries_of({"target_options": {"max_sessions": 64}}), BASE))
    let_start(operation, engine)
    assert planned(engine, target_options={"max_sessions": 64}) == []
    assert "max_sessions" in problems(engine, target_options={"max_sessions": 65})[0]


def test_a_start_that_broke_off_is_finished() -> None:
    engine = FakeEngine(waiting=True)
    engine.fail_at = lambda call: call.method == "framework_start_init"
    operation = first_operation(declare(entries_of({"target_options": {"max_sessions": 64}}), BASE))
    with pytest.raises(CallError):
        let_start(operation, engine)
    engine.fail_at = lambda _call: False
    let_start(operation, engine)
    assert not engine.waiting


@pytest.mark.parametrize("option", TARGET_OPTION_RANGES)
def test_the_modules_and_the_engine_agree_on_what_an_option_may_be(option: str) -> None:
    [method] = [method for method in all_methods() if method.name == "iscsi_set_options"]
    assert method.params is not None
    decode = method.params[option].decoder
    low, high = TARGET_OPTION_RANGES[option]
    assert [decode(value, option) for value in (low, high)] == [low, high]
    for value in (low - 1, high + 1):
        with pytest.raises(Mismatch):
            decode(value, option)


def test_secrets_are_found_in_parameters_and_masked_in_answers() -> None:
    params = {"tag": 1, "secrets": [{"user": "u", "secret": OLD, "muser": "t", "msecret": BACK}]}
    assert list(secrets_in(params)) == [OLD, BACK]
    assert without_secrets([params]) == [
        {"tag": 1, "secrets": [{"user": "u", "secret": "********", "muser": "t", "msecret": "********"}]}
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"secrets": [{"user": "u1", "secert": "one"}, {"muser": "t", "msecret": "two", "secret": None}]},
        {"auth_groups": [{"tag": 1, "secrets": [{"password": "one"}, "two"]}, "nonsense"], "secrets": "nonsense"},
    ],
)
def test_whatever_stands_in_secrets_beside_the_users_is_hidden(options: dict[str, Any]) -> None:
    assert list(words_beside_users(options)) == ["one", "two"]
