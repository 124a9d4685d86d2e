# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target modules against an engine behind an HTTP server, with and without TLS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_process import NODE_BASE, Engine, free_port
from http_proxy import PASSWORD, USER, Answer, Proxy
from module_process import COLLECTIONS, run_module

LOGIN: dict[str, Any] = {"url_username": USER, "url_password": PASSWORD}

Serve = Callable[..., str]


@pytest.fixture
def serve(engine: Engine) -> Iterator[Serve]:
    """Put an HTTP server in front of the engine; gives its URL."""
    proxies: list[Proxy] = []

    def ask(body: bytes) -> Answer:
        try:
            return Answer(engine.exchange(body))
        except OSError:
            return Answer(None)

    def start(certificate: Path | None = None) -> str:
        proxies.append(Proxy(ask, certificate))
        return proxies[-1].address

    yield start
    for proxy in proxies:
        proxy.close()


def configuration() -> dict[str, Any]:
    return {
        "bdevs": [{"name": "Malloc0", "type": "malloc", "size": "1MiB"}],
        "portal_groups": [{"tag": 1, "portals": [f"127.0.0.1:{free_port()}"]}],
        "initiator_groups": [{"tag": 2, "initiators": ["ANY"], "netmasks": ["127.0.0.0/8"]}],
        "target_nodes": [
            {"name": "disk0", "luns": [{"bdev": "Malloc0"}], "maps": [{"portal_group": 1, "initiator_group": 2}]}
        ],
    }


def check_life(connection: dict[str, Any]) -> None:
    """Foretell, make, repeat and look at a configuration."""
    config = configuration()
    foretold = run_module("target_config", check=True, **connection, **config)
    done = run_module("target_config", **connection, **config)
    assert done["actions"] == foretold["actions"]
    assert len(done["actions"]) == 4
    assert not run_module("target_config", **connection, **config)["changed"]
    info = run_module("target_info", **connection)
    assert [node["name"] for node in info["target_nodes"]] == [f"{NODE_BASE}:disk0"]
    assert run_module("bdev", **connection, name="Malloc1", type="malloc", size="1MiB")["changed"]
    assert run_module("rpc", **connection, method="log_get_level")["result"] == "NOTICE"


def test_an_engine_is_configured_over_http(serve: Serve) -> None:
    check_life({"url": serve(), **LOGIN})


def test_an_engine_is_configured_over_https(serve: Serve, certificate: Path) -> None:
    check_life({"url": serve(certificate), "ca_path": str(certificate), **LOGIN})


def test_a_certificate_that_nobody_trusts(serve: Serve, certificate: Path) -> None:
    url = serve(certificate)
    refused = run_module("target_info", fails=True, url=url, **LOGIN)
    assert refused["msg"].startswith(f"{url}: its certificate is not trusted (self")
    assert "ca_path" in refused["msg"]
    assert run_module("target_info", url=url, validate_certs=False, **LOGIN)["bdevs"] == []


def test_a_certificate_of_another_name(serve: Serve, certificate: Path) -> None:
    url = serve(certificate).replace("127.0.0.1", "localhost")
    refused = run_module("target_info", fails=True, url=url, ca_path=str(certificate), **LOGIN)
    assert "its certificate is not trusted (Hostname mismatch" in refused["msg"]


def test_a_file_that_holds_no_certificate(serve: Serve, certificate: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    failed = run_module("target_info", fails=True, url=serve(certificate), ca_path=str(empty), **LOGIN)
    assert "TLS failed" in failed["msg"]


def test_wrong_credentials_change_nothing_and_are_not_shown(serve: Serve, engine: Engine) -> None:
    options = {"url": serve(), "url_username": USER, "url_password": "not-for-your-eyes"}
    for check in (False, True):
        failed = run_module("target_config", check=check, fails=True, **options, **configuration())
        assert "does not accept these credentials" in failed["msg"]
        assert "not-for-your-eyes" not in json.dumps(failed)
    assert engine.rpc("bdev_get_bdevs") == []


def test_an_engine_that_is_gone_is_not_taken_for_a_new_one(serve: Serve, engine: Engine) -> None:
    url = serve()
    engine.stop()
    failed = run_module("target_config", check=True, fails=True, url=url, **LOGIN, **configuration())
    assert "See whether the engine behind it runs" in failed["msg"]


def test_options_that_contradict_each_other_are_all_named(tmp_path: Path) -> None:
    def problems(**options: Any) -> list[str]:
        found = run_module("target_info", fails=True, **options)["problems"]
        return [problem.partition(":")[0] for problem in found]

    assert problems(url="http://127.0.0.1:9/", socket=str(tmp_path / "rpc.sock")) == ["url"]
    assert problems(url="http://127.0.0.1:9/", url_username="u") == ["url_username"]
    assert problems(url_username="u", ca_path="/ca.pem") == ["url_username", "ca_path", "url_username"]


def test_a_password_in_the_url_is_refused_and_not_shown() -> None:
    failed = run_module("target_info", fails=True, url="http://operator:not-for-your-eyes@127.0.0.1:9/")
    assert "url_password" in failed["msg"]
    assert "not-for-your-eyes" not in json.dumps(failed)


PLAY = """
- hosts: localhost
  gather_facts: false
  vars_files: [login.yml]
  module_defaults:
    group/openlun.iscsi.target:
      url: "{{ url }}"
      url_username: "{{ user }}"
      url_password: "{{ word }}"
  tasks:
    - openlun.iscsi.bdev:
        name: Malloc0
        type: malloc
        size: 1MiB
    - openlun.iscsi.target_info:
"""


def test_a_play_does_not_show_the_password(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAY)
    (tmp_path / "login.yml").write_text(json.dumps({"url": serve(), "user": USER, "word": PASSWORD}))
    ended = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            *("-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}", "-vvv"),
            tmp_path / "play.yml",
        ],
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_HOME": str(tmp_path / "home"),
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
            "ANSIBLE_REMOTE_TMP": str(tmp_path / "remote"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "changed=1" in ended.stdout
    # Ansible's output may escape what is not ASCII: look for the words after it, too.
    assert PASSWORD.partition(": ")[2] not in ended.stdout + ended.stderr
