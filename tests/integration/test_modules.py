# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target modules against a running engine: check, apply, again, change, absent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from engine_process import DEADLINE, NODE_BASE, Engine, Launch, free_port
from module_process import COLLECTIONS, run_module
from pdu import cdb
from pdu.initiator import NAME, Initiator, LoginRefused
from pdu.wire import ASYNC

MIB = 1 << 20
UNIT_ATTENTION, DATA_PROTECT = 6, 7
SECRET, MSECRET = "not-for-your-eyes", "nor-for-theirs"

Result = dict[str, Any]
Run = Callable[..., Result]


def on(engine: Engine) -> Run:
    """To run modules on an engine."""
    return partial(run_module, socket=str(engine.socket))


@pytest.fixture
def run(engine: Engine) -> Run:
    return on(engine)


SPDK = "OPENLUN_SPDK" in os.environ
WHO = "127.0.0.1" if SPDK else f"{NAME} (127.0.0.1)"
"""How a session is named: SPDK does not tell who is behind it."""
beyond_spdk = pytest.mark.skipif(SPDK, reason="SPDK has nothing like it")


def everything(engine: Engine) -> list[Any]:
    methods = [
        "bdev_get_bdevs",
        *(f"iscsi_get_{kind}" for kind in ("portal_groups", "initiator_groups", "target_nodes", "auth_groups")),
    ]
    return [engine.rpc(method) for method in methods]


def policy(answer: Result) -> tuple[Any, ...]:
    """What an engine says of CHAP."""
    return tuple(answer[name] for name in ("disable_chap", "require_chap", "mutual_chap", "chap_group"))


def serve(run: Run, tmp_path: Path) -> Result:
    """A configuration with one object of every kind and a free port; returns it."""
    config = {
        "bdevs": [
            {"name": "disk0", "type": "aio", "path": str(tmp_path / "disk0.img"), "size": "8MiB"},
            {"name": "Malloc0", "type": "malloc", "size": "16MiB"},
        ],
        "auth_groups": [{"tag": 1, "secrets": [{"user": "u1", "secret": SECRET}]}],
        "portal_groups": [{"tag": 1, "portals": [f"127.0.0.1:{free_port()}"]}],
        "initiator_groups": [{"tag": 2, "initiators": ["ANY"], "netmasks": ["127.0.0.0/8"]}],
        "target_nodes": [
            {
                "name": "disk1",
                "alias": "Disk 1",
                "luns": [{"id": 0, "bdev": "disk0"}],
                "maps": [{"portal_group": 1, "initiator_group": 2}],
            }
        ],
    }
    run("target_config", **config)
    return config


def connect(config: Result) -> Initiator:
    host, _colon, port = config["portal_groups"][0]["portals"][0].partition(":")
    return Initiator((host, int(port)))


def log_in(config: Result) -> Initiator:
    return connect(config).login(f"{NODE_BASE}:disk1")


def is_logged_in(initiator: Initiator) -> bool:
    """Whether the session still answers a ping, after what else the target has to tell."""
    initiator.send(initiator.nop_out(b"ping"))
    answer = initiator.receive()
    while answer.opcode == ASYNC:
        answer = initiator.receive()
    return answer.data == b"ping"


LIVES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    # module: (options that create, options that change, what the change does)
    "bdev": ({"name": "disk", "type": "aio", "path": "{tmp}/disk", "size": "4MiB"}, {"size": "8MiB"}, "edit"),
    "auth_group": (
        {"tag": 5, "secrets": [{"user": "u1", "secret": SECRET}, {"user": "u2", "secret": SECRET}]},
        {"secrets": [{"user": "u1", "secret": "another secret", "muser": "target", "msecret": MSECRET}]},
        "edit",
    ),
    "portal_group": ({"tag": 5, "portals": ["127.0.0.1:{port}"]}, {"private": True}, "replace"),
    "initiator_group": (
        {"tag": 5, "initiators": ["ANY"], "netmasks": ["10.0.0.0/8"]},
        {"initiators": ["!iqn.2020-01.test:evil", "ANY"], "netmasks": ["10.0.0.0/8", "[fd00::]/8"]},
        "edit",
    ),
    "target_node": (
        {"name": "n", "luns": [{"bdev": "Malloc0"}], "maps": [{"portal_group": 1, "initiator_group": 2}]},
        {
            "luns": [{"id": 0, "bdev": "Malloc0"}, {"id": 7, "bdev": "Malloc0"}],
            "auth_group": 1,
            **({} if SPDK else {"redirects": [{"portal_group": 1, "address": "[fd00::7]:3261"}]}),
        },
        "edit",
    ),
}


@pytest.mark.parametrize("module", LIVES)
def test_the_life_of_an_object(module: str, run: Run, engine: Engine, tmp_path: Path) -> None:
    serve(run, tmp_path)
    created, change, action = json.loads(
        json.dumps(LIVES[module]).replace("{tmp}", str(tmp_path)).replace("{port}", str(free_port()))
    )
    key = next(iter(created))
    at_first = everything(engine)
    for options, acts in (({**created}, "create"), ({key: created[key], **change}, action)):
        before = everything(engine)
        force = {"force": True} if acts == "replace" else {}
        if force:
            assert "Set force: true to allow it." in run(module, fails=True, **options)["msg"]
        foretold = run(module, check=True, **options, **force)
        assert [each["action"] for each in foretold["actions"]] == [acts]
        assert everything(engine) == before

        done = run(module, **options, **force)
        assert (done["changed"], done["actions"], done["diff"]) == (True, foretold["actions"], foretold["diff"])
        known = {name: value for name, value in foretold[module].items() if value is not None}
        assert {name: done[module][name] for name in known} == known

        again = run(module, **options)
        assert (again["changed"], again["actions"]) == (False, [])
        assert again["diff"] == {"before": {}, "after": {}}
        assert again[module] == done[module]

    gone = {key: created[key], "state": "absent"}
    assert run(module, check=True, **gone)["changed"]
    assert run(module, **gone)[module] is None
    assert not run(module, **gone)["changed"]
    assert everything(engine) == at_first


def test_a_whole_configuration(run: Run, engine: Engine, tmp_path: Path) -> None:
    config = serve(run, tmp_path)
    again = run("target_config", **config)
    assert (again["changed"], again["actions"]) == (False, [])
    assert again["target_nodes"][0]["name"] == f"{NODE_BASE}:disk1"

    config["bdevs"][0]["size"] = "12MiB"
    changed = run("target_config", **config)
    assert [(each["object"], each["why"]) for each in changed["actions"]] == [("bdev disk0", "size 8MiB → 12MiB")]
    assert (tmp_path / "disk0.img").stat().st_size == 12 * MIB

    pruned = run("target_config", bdevs=[{"name": "disk0"}], prune=True, force=True)
    assert {each["action"] for each in pruned["actions"]} == {"delete"}
    assert [len(each) for each in everything(engine)] == [1, 0, 0, 0, 0]


def test_a_served_configuration_survives_a_restart(launch: Launch, tmp_path: Path) -> None:
    engine = launch(state=True)
    run = on(engine)
    config = serve(run, tmp_path)
    config["discovery_auth"] = {"chap": "required", "auth_group": 1}
    config["target_nodes"][0]["redirects"] = [{"portal_group": 1, "address": "192.0.2.1"}]
    assert run("target_config", **config)["changed"] is True
    engine.restart()
    assert run("target_config", **config)["changed"] is False


def test_discovery_is_asked_for_secrets_and_asked_no_more(run: Run, engine: Engine, tmp_path: Path) -> None:
    serve(run, tmp_path)
    for options, flags in (
        ({"chap": "required", "auth_group": 1}, (False, True, False, 1)),
        ({"chap": "auto"}, (False, False, False, 1)),
        ({"chap": "none"}, (True, False, False, 0)),
    ):
        before = policy(engine.rpc("iscsi_get_options"))
        foretold = run("discovery_auth", check=True, **options)
        assert policy(engine.rpc("iscsi_get_options")) == before
        done = run("discovery_auth", **options)
        assert (done["actions"], done["discovery_auth"]) == (foretold["actions"], foretold["discovery_auth"])
        assert policy(engine.rpc("iscsi_get_options")) == flags
        assert not run("discovery_auth", **options)["changed"]
    failed = run("discovery_auth", fails=True, chap="required", auth_group=7)
    assert failed["problems"][0].startswith("auth_group: no auth group with tag 7.")


def test_options_are_compared_on_an_engine_that_serves(run: Run) -> None:
    assert not run("target_options", max_sessions=128)["changed"]
    failed = run("target_options", fails=True, max_sessions=64, nop_in_interval=61)
    assert [problem.partition(":")[0] for problem in failed["problems"]] == ["nop_in_interval", "max_sessions"]
    assert "--wait-for-rpc" in failed["problems"][1]


@pytest.mark.parametrize("module", ["target_options", "target_config"])
def test_options_are_set_on_an_engine_that_waits_for_them(launch: Launch, module: str) -> None:
    engine = launch("--wait-for-rpc", state=not SPDK)
    run = on(engine)
    disk: Result = {"name": "Malloc0", "type": "malloc", "size": "1MiB"}
    waiting = run("bdev", fails=True, **disk)
    assert "openlun.iscsi.target_options" in waiting["msg"]
    given = {"max_sessions": 64, "node_base": "iqn.2024-01.com.example"}
    options = given if module == "target_options" else {"target_options": given, "bdevs": [disk]}
    foretold = run(module, check=True, **options)
    assert "--wait-for-rpc" in str(foretold["warnings"])
    done = run(module, **options)
    assert done["actions"] == foretold["actions"]
    assert done["actions"][0]["object"] == "target options"
    assert not run(module, **options)["changed"]
    if SPDK:  # which forgets
        return

    engine.arguments.remove("--wait-for-rpc")
    engine.restart()
    assert {name: engine.rpc("iscsi_get_options")[name] for name in given} == given
    assert not run(module, **options)["changed"]


@beyond_spdk
def test_a_network_of_all_addresses_is_one(run: Run, tmp_path: Path) -> None:
    serve(run, tmp_path)
    everybody = ["0.0.0.0/0", "[::]/0"]
    assert run("initiator_group", tag=2, netmasks=everybody)["initiator_group"]["netmasks"] == everybody
    assert not run("initiator_group", tag=2, netmasks=everybody)["changed"]


@beyond_spdk
def test_a_redirect_sends_initiators_elsewhere(run: Run, tmp_path: Path) -> None:
    config = serve(run, tmp_path)
    with log_in(config) as initiator:
        run("target_node", name="disk1", redirects=[{"portal_group": 1, "address": "192.0.2.1:3261"}])
        assert is_logged_in(initiator)
        with connect(config) as other, pytest.raises(LoginRefused) as refusal:
            other.login(f"{NODE_BASE}:disk1")
        assert refusal.value.status == (1, 1)  # moved temporarily, RFC 7143 §11.13.5
        run("target_node", name="disk1", redirects=[])
        with log_in(config) as again:
            assert is_logged_in(again)


def test_sessions_are_named_and_kept_without_force(run: Run, tmp_path: Path) -> None:
    config = serve(run, tmp_path)
    with log_in(config) as initiator:
        for module, options, hit in (
            ("target_node", {"name": "disk1", "luns": [{"bdev": "Malloc0"}]}, "drops" if SPDK else "takes a LUN from"),
            ("target_node", {"name": "disk1", "state": "absent"}, "drops"),
            ("portal_group", {"tag": 1, "portals": [f"127.0.0.1:{free_port()}"]}, "closes the portal of"),
        ):
            refused = run(module, fails=True, **options)
            assert f"{hit} 1 session: {WHO}. Nothing was changed." in refused["msg"]
        [connection] = run("target_info")["connections"]
        assert connection.get("initiator_name") == (None if SPDK else NAME)
        assert is_logged_in(initiator)


def test_force_drops_sessions_and_tells_whose(run: Run, tmp_path: Path) -> None:
    config = serve(run, tmp_path)
    change: Result = {"queue_depth": 32} if SPDK else {"enabled": False}
    with log_in(config) as initiator, ThreadPoolExecutor() as pool:
        forced = pool.submit(run, "target_node", name="disk1", **change, force=True)
        initiator.socket.settimeout(DEADLINE)
        assert initiator.receive().opcode == ASYNC  # asked to log out, RFC 7143 §11.9
        initiator.close()
        assert forced.result()["actions"][0]["sessions"] == [WHO]
    if not SPDK:
        with connect(config) as early, pytest.raises(LoginRefused):
            early.login(f"{NODE_BASE}:disk1")
        run("target_node", name="disk1", enabled=True)
    with log_in(config) as again:
        assert is_logged_in(again)


def test_a_session_goes_on_while_its_portals_change(run: Run, tmp_path: Path) -> None:
    config = serve(run, tmp_path)
    with log_in(config) as initiator:
        run("portal_group", tag=1, portals=[f"127.0.0.1:{free_port()}"], force=True)
        assert is_logged_in(initiator)
        run("portal_group", tag=1, portals=config["portal_groups"][0]["portals"], force=True)
        with log_in(config) as again:
            assert is_logged_in(again)


def test_what_changes_live_keeps_sessions(run: Run, tmp_path: Path) -> None:
    config = serve(run, tmp_path)
    with log_in(config) as initiator:
        more = [{"id": 0, "bdev": "disk0"}, {"id": 1, "bdev": "Malloc0"}]
        added = run("target_node", fails=SPDK, name="disk1", luns=more)
        assert added.get("problems", []) == ([] if not SPDK else [added["msg"]])
        run("bdev", name="disk0", size="12MiB")
        run("initiator_group", tag=2, initiators=["iqn.2020-01.test:other"])
        assert is_logged_in(initiator)


@beyond_spdk
@pytest.mark.parametrize(
    "options", [{"alias": "Another"}, {"queue_depth": 16}, {"header_digest": True, "data_digest": True}], ids=str
)
def test_what_is_for_the_next_login_keeps_sessions_and_needs_no_force(
    run: Run, engine: Engine, tmp_path: Path, options: Result
) -> None:
    config = serve(run, tmp_path)
    with log_in(config) as initiator:
        edited = run("target_node", name="disk1", **options)
        assert [(each["action"], each["sessions"]) for each in edited["actions"]] == [("edit", [])]
        assert is_logged_in(initiator)
        assert not run("target_node", name="disk1", **options)["changed"]
    (node,) = engine.rpc("iscsi_get_target_nodes")
    live = {**node, "alias": node["alias_name"]}
    assert {name: live[name] for name in options} == options


@beyond_spdk
def test_luns_go_and_come_with_another_bdev_while_their_session_goes_on(run: Run, tmp_path: Path) -> None:
    config = serve(run, tmp_path)
    first, second = {"id": 0, "bdev": "disk0"}, {"id": 1, "bdev": "Malloc0"}
    run("target_node", name="disk1", luns=[first, second])
    with log_in(config) as initiator:
        for luns in ([first], [first, {**second, "readonly": True, "removable": True}], [second | {"id": 0}]):
            changed = run("target_node", name="disk1", luns=luns, force=True)
            assert {each["action"] for each in changed["actions"]} == {"edit"}
            assert is_logged_in(initiator)
            assert changed["target_node"]["luns"] == luns
            assert not run("target_node", name="disk1", luns=luns)["changed"]


@beyond_spdk
def test_a_read_only_lun_is_not_written(run: Run, tmp_path: Path) -> None:
    config = serve(run, tmp_path)
    run("target_node", name="disk1", luns=[{"id": 0, "bdev": "disk0", "readonly": True}])
    with log_in(config) as initiator:
        while (sense := initiator.write(cdb.write_10(0, 1), bytes(512)).response.sense)[0] == UNIT_ATTENTION:
            pass
        assert sense[0] == DATA_PROTECT


@beyond_spdk
def test_a_bdev_is_replaced_under_a_session_that_goes_on(run: Run, tmp_path: Path) -> None:
    config = serve(run, tmp_path)
    run("target_node", name="disk1", luns=[{"id": 0, "bdev": "disk0"}, {"id": 1, "bdev": "Malloc0"}])
    larger = {"name": "Malloc0", "size": "32MiB"}
    with log_in(config) as initiator:
        refused = run("target_config", fails=True, bdevs=[larger], target_nodes=[{"name": "disk1"}])
        assert f"takes a LUN from 1 session: {WHO}" in refused["msg"]
        run("target_config", bdevs=[larger], target_nodes=[{"name": "disk1"}], force=True)
        assert is_logged_in(initiator)
        assert not run("target_config", bdevs=[larger], target_nodes=[{"name": "disk1"}])["changed"]


@beyond_spdk
def test_a_portal_comes_and_goes_while_the_group_listens(run: Run, tmp_path: Path) -> None:
    config = serve(run, tmp_path)
    portals = config["portal_groups"][0]["portals"]
    more = [*portals, f"127.0.0.1:{free_port()}"]
    with log_in(config) as initiator:
        assert run("portal_group", tag=1, portals=more)["actions"][0]["sessions"] == []
        run("portal_group", tag=1, portals=more[1:], force=True)
        assert is_logged_in(initiator)
    with log_in({"portal_groups": [{"portals": more[1:]}]}) as another:
        assert is_logged_in(another)
    assert not run("portal_group", tag=1, portals=more[1:])["changed"]


def test_wrong_options_are_all_named_and_nothing_is_sent(run: Run, engine: Engine) -> None:
    failed = run(
        "target_config",
        fails=True,
        bdevs=[{"name": "fine", "type": "malloc", "size": "1MiB"}],
        portal_groups=[{"tag": 1, "portals": ["127.0.0.1:0"]}],
        target_nodes=[
            {"name": "n", "luns": [{"id": 0, "bdev": "disk7"}], "maps": [{"portal_group": 1, "initiator_group": 3}]}
        ],
    )
    assert [problem.partition(": ")[0] for problem in failed["problems"]] == [
        "portal_groups[0].portals[0]",
        "target_nodes[0].luns[0].bdev",
        "target_nodes[0].maps[0].initiator_group",
    ]
    assert "Known bdevs: fine." in failed["msg"]
    assert everything(engine) == [[], [], [], [], []]


def test_a_portal_the_host_lacks_leaves_the_old_group_serving(run: Run, engine: Engine, tmp_path: Path) -> None:
    config = serve(run, tmp_path)
    before = everything(engine)
    failed = run("portal_group", fails=True, tag=1, portals=["192.0.2.77:3260"], force=True)
    assert "192.0.2.77" in failed["msg"]
    assert not SPDK or "Put back as before: portal group 1" in failed["msg"]
    assert everything(engine) == before
    with log_in(config) as initiator:
        assert is_logged_in(initiator)


def test_check_mode_on_a_bare_host_tells_what_would_be_made(tmp_path: Path) -> None:
    options: Result = {"socket": str(tmp_path / "no.sock"), "name": "Malloc0", "type": "malloc", "size": "1MiB"}
    foretold = run_module("bdev", check=True, **options)
    assert [each["object"] for each in foretold["actions"]] == ["bdev Malloc0"]
    assert "as if a new engine" in str(foretold["warnings"])
    failed = run_module("bdev", fails=True, **options)
    assert str(tmp_path / "no.sock") in failed["msg"]
    assert "openlun.iscsi.engine" in failed["msg"]


def test_info_tells_what_there_is(run: Run, engine: Engine, tmp_path: Path) -> None:
    config = serve(run, tmp_path)
    info = run("target_info", check=True)
    assert info["changed"] is False
    assert info["engine"]["type"] == ("spdk" if SPDK else "builtin")
    assert info["engine"]["version"] == engine.rpc("spdk_get_version" if SPDK else "engine_get_info")["version"]
    assert info["options"]["node_base"] == NODE_BASE
    lists = ("bdevs", "auth_groups", "portal_groups", "initiator_groups", "target_nodes")
    kinds = (*lists, "discovery_auth", "target_options")
    assert not run("target_config", prune=True, **{kind: info[kind] for kind in kinds})["changed"]
    group = {"private": False, "chap": "inherit", "auth_group": None}
    assert info["portal_groups"] == [{**config["portal_groups"][0], **group}]


def test_rpc_calls_any_method_and_check_mode_only_those_that_read(run: Run) -> None:
    level = run("rpc", method="log_get_level")
    assert (level["changed"], level["result"]) == (False, "NOTICE")
    assert run("rpc", check=True, method="log_set_level", params={"level": "DEBUG"})["result"] is None
    assert run("rpc", method="log_get_level")["result"] == "NOTICE"
    assert run("rpc", method="log_set_level", params={"level": "DEBUG"})["changed"]
    assert run("rpc", check=True, method="log_get_level")["result"] == "DEBUG"
    assert "nothing_like_it" in run("rpc", fails=True, method="nothing_like_it")["msg"]


PLAY = """
- hosts: localhost
  gather_facts: false
  module_defaults:
    group/openlun.iscsi.target:
      socket: {socket}
  tasks:
    - openlun.iscsi.bdev:
        name: Malloc0
        type: malloc
        size: 1MiB
    - openlun.iscsi.target_info:
      register: target
    - ansible.builtin.assert:
        that: target.bdevs | map(attribute='name') | list == (['Malloc0'] if not ansible_check_mode else [])
"""


def play(text: str, directory: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a play on this host, with all files that Ansible makes in ``directory``."""
    path = directory / "play.yml"
    path.write_text(text)
    ansible = Path(sys.executable).with_name("ansible-playbook")
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_HOME": str(directory / "home"),
        "ANSIBLE_LOCAL_TEMP": str(directory / "local"),
        "ANSIBLE_REMOTE_TMP": str(directory / "remote"),
        "ANSIBLE_NOCOLOR": "1",
    }
    python = f"ansible_python_interpreter={sys.executable}"
    command = [ansible, "-i", "localhost,", "-c", "local", "-e", python, *options, path]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_play_reaches_the_engine_through_its_action_group(engine: Engine, tmp_path: Path) -> None:
    for options, recap in ((["--check", "--diff"], "changed=1"), (["-vvv"], "changed=1"), ([], "changed=0")):
        ended = play(PLAY.format(socket=engine.socket), tmp_path, *options)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert recap in ended.stdout
        if "--diff" in options:
            assert "1MiB" in ended.stdout


SECRET_PLAY = """
- hosts: localhost
  gather_facts: false
  vars_files: [secrets.yml]
  module_defaults:
    group/openlun.iscsi.target:
      socket: {socket}
  tasks:
    - openlun.iscsi.target_config:
        auth_groups:
          - tag: 1
            secrets:
              - {{user: u1, secret: "{{{{ one }}}}", muser: target, msecret: "{{{{ back }}}}"}}
        discovery_auth: {{chap: mutual, auth_group: 1}}
    - openlun.iscsi.auth_group:
        tag: 1
        secrets:
          - {{user: u1, secret: "{{{{ two }}}}", muser: target, msecret: "{{{{ back }}}}"}}
          - {{user: u2, secret: "{{{{ one }}}}"}}
      register: group
    - ansible.builtin.debug:
        var: group
    - openlun.iscsi.target_info:
    - openlun.iscsi.rpc:
        method: iscsi_get_auth_groups
    - openlun.iscsi.rpc:
        method: iscsi_auth_group_add_secret
        params: {{tag: 1, user: u3, secret: "{{{{ two }}}}"}}
    - openlun.iscsi.auth_group:
        tag: 1
        secrets: [{{user: u1, secret: "{{{{ one }}}}", msecret: "{{{{ one }}}}"}}]
      ignore_errors: true
    - openlun.iscsi.auth_group:
        tag: 1
        secrets: [{{secret: "{{{{ one }}}}"}}]
      ignore_errors: true
    - openlun.iscsi.auth_group:
        tag: 1
        secrets: [{{user: u1, secert: "{{{{ one }}}}"}}]
      ignore_errors: true
    - openlun.iscsi.target_config:
        auth_groups: [{{tag: 1, secrets: [{{user: u1, passphrase: "{{{{ two }}}}"}}, "{{{{ back }}}}"]}}]
      ignore_errors: true
    - openlun.iscsi.rpc:
        method: iscsi_create_auth_group
        params: {{tag: 1, secrets: [{{user: u1, secret: "{{{{ one }}}}"}}]}}
      ignore_errors: true
"""


def test_no_secret_is_shown_logged_or_left_in_a_file(launch: Launch, tmp_path: Path) -> None:
    engine = launch() if SPDK else launch("--log-level", "DEBUG", state=True)
    words = {"one": SECRET, "two": f"{SECRET}-2", "back": MSECRET}
    (tmp_path / "secrets.yml").write_text(json.dumps(words))
    shown = ""
    for options in (("--check", "--diff"), ("--diff",), ()):
        ended = play(SECRET_PLAY.format(socket=engine.socket), tmp_path, "-vvv", *options)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        shown += ended.stdout + ended.stderr
    assert engine.rpc("iscsi_get_auth_groups")[0]["secrets"][0]["secret"] == words["two"]
    assert "u1 with muser target" in shown
    assert "u1 with muser target (new secret)" in shown
    assert "secert" in shown
    kept = (tmp_path / "secrets.yml", engine.state_dir / "config.json")
    files = [path for place in (tmp_path, engine.directory) for path in place.rglob("*") if path.is_file()]
    texts = {str(path): path.read_text(errors="replace") for path in files if path not in kept}
    for place, text in {"the output": shown, "the engine's log": engine.words(), **texts}.items():
        assert not any(word in text for word in words.values()), place
    if not SPDK:
        assert (engine.state_dir / "config.json").stat().st_mode & 0o077 == 0
