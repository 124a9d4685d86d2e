# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine module through its action plugin: bare host, again, upgrade, options, absent."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._service.procfs import start_time
from ansible_collections.openlun.iscsi.plugins.plugin_utils._archive import build, write
from engine_process import DEADLINE, eventually, free_port

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / "build" / "collections"
ANSIBLE = Path(sys.executable).with_name("ansible")

Result = dict[str, Any]
Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home that does not exist yet; an engine left in it ends with the test."""
    home = tmp_path / "home"
    yield home
    pid_file = home / "engine.pid"
    if pid_file.exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)


@pytest.fixture
def on_host(home: Path) -> Run:
    """Run the module alone, as on a host that got the archive: quicker, and enough where nothing is sent."""

    def run_module(*, check: bool = False, fails: bool = False, **options: Any) -> Result:
        archive = build()
        if home.is_dir():
            write(archive, home / "openlun-iscsi.pyz")
        known = {"version": archive.version, "checksum": archive.checksum}
        arguments = {
            "home": str(home),
            "manager": "process",
            "archive": known,
            "_ansible_check_mode": check,
            **options,
        }
        done = subprocess.run(
            [sys.executable, "-m", "ansible_collections.openlun.iscsi.plugins.modules.engine"],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == ""
        result: Result = json.loads(done.stdout)
        assert bool(result.get("failed")) == fails, result
        return result

    return run_module


@pytest.fixture
def run(tmp_path: Path, home: Path) -> Run:
    """Run the module on this host as Ansible does, in a process of its own."""

    def run_engine(*flags: str, collections: Path = COLLECTIONS, fails: bool = False, **options: Any) -> Result:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHONPATH"))},
            "ANSIBLE_HOME": str(tmp_path / "ansible"),
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
            "ANSIBLE_REMOTE_TMP": str(tmp_path / "remote"),
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
        }
        arguments = json.dumps({"home": str(home), "manager": "process", **options})
        interpreter = f"ansible_python_interpreter={sys.executable}"
        command = [str(ANSIBLE), "-i", "localhost,", "-c", "local", "-e", interpreter, "localhost"]
        command += ["-m", "openlun.iscsi.engine", "-a", arguments, *flags]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        found = re.search(r"^localhost \| (\w+)!? => (\{.*)", done.stdout, re.MULTILINE | re.DOTALL)
        assert found is not None, done.stdout + done.stderr
        assert (found[1] == "FAILED") == fails, done.stdout
        assert list((tmp_path / "remote").glob("*")) == []
        result: Result = json.loads(found[2])
        return {**result, "stdout": done.stdout}

    return run_engine


def told(result: Result) -> list[str]:
    return [f"{each['action']} {each['object'].split()[0]}" for each in result["actions"]]


def another(directory: Path, major: str) -> Path:
    """A collection with an engine of another version; gives the path to look for collections."""
    copy = directory / "ansible_collections" / "openlun" / "iscsi"
    for name in ("plugins", "meta"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    init = copy / "plugins/module_utils/_engine/__init__.py"
    init.write_text(init.read_text().replace('__version__ = "', f'__version__ = "{major}.'))
    return directory


def test_from_a_bare_host_to_an_upgrade(run: Run, home: Path, tmp_path: Path) -> None:
    old, new = (another(tmp_path / name, name) for name in ("8", "9"))

    predicted = run("--check", "--diff", collections=old)
    assert predicted["changed"]
    assert predicted["pid"] is None
    assert not home.exists()
    shown = predicted["stdout"].replace('"', "")
    assert re.search(rf"^\+ +checksum: {predicted['checksum']}", shown, re.MULTILINE)
    assert re.search(r"^\+ +version: 8\.", shown, re.MULTILINE)

    first = run(collections=old)
    assert first["actions"] == predicted["actions"]
    assert (first["version"], first["checksum"]) == (predicted["version"], predicted["checksum"])
    assert os.access(home / "openlun-iscsi.pyz", os.X_OK)

    again = run(collections=old)
    assert not again["changed"]
    assert again["pid"] == first["pid"]

    installed = run(collections=new, state="present")
    assert told(installed) == ["replace engine"]
    assert installed["pid"] == first["pid"]

    upgraded = run(collections=new)
    assert told(upgraded) == ["restart engine"]
    assert upgraded["restarted"]
    assert re.fullmatch(r"the archive's content changed from 8\..* to 9\..*", upgraded["reason"])
    assert upgraded["pid"] != first["pid"]


def test_an_upgrade_in_one_run_is_predicted(run: Run, tmp_path: Path) -> None:
    old, new = (another(tmp_path / name, name) for name in ("8", "9"))
    run(collections=old)
    predicted, done = run("--check", collections=new), run(collections=new)
    assert told(done) == told(predicted) == ["replace engine", "restart engine"]
    assert predicted["restarted"]
    assert done["restarted"]


def test_other_options_restart_it(on_host: Run, home: Path) -> None:
    home.mkdir()
    on_host()
    result = on_host(log_level="DEBUG")
    assert told(result) == ["restart engine"]
    assert result["reason"] == "its options changed"
    assert not on_host(log_level="DEBUG")["changed"]


def test_management_over_http_takes_new_credentials_without_a_restart(on_host: Run, home: Path) -> None:
    """The token is in one file, which only its user can read, and in nothing that anybody is told."""
    home.mkdir()
    address = f"127.0.0.1:{free_port()}"
    for token, actions in (
        ("first-token", ["write file", "start engine"]),
        ("second-token", ["write file", "reload engine"]),
    ):
        options: Result = {"http": {"address": address, "credentials": [token]}, "drain_seconds": 1}
        assert told(on_host(check=True, **options))[-2:] == actions
        done = on_host(**options)
        assert told(done)[-2:] == actions
        assert not done["restarted"]
        assert token not in json.dumps(done["actions"]) + json.dumps(done["diff"])
        eventually(partial(allowed, address, token), "calls with the token")
        assert not on_host(**options)["changed"]
    file = home / "state" / "http-credentials"
    assert (stat.S_IMODE(file.stat().st_mode), file.read_text()) == (0o600, "second-token\n")
    assert not allowed(address, "first-token")
    assert told(on_host()) == ["remove file", "restart engine"]


def allowed(address: str, token: str) -> bool:
    with contextlib.closing(http.client.HTTPConnection(address, timeout=DEADLINE)) as connection:
        call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "spdk_get_version"})
        connection.request("POST", "/rpc", call, {"Authorization": f"Bearer {token}"})
        return connection.getresponse().status == 200


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ({"address": "0.0.0.0:8260"}, "http.address 0.0.0.0:8260: others may reach it."),
        ({"address": "8260"}, "http.address 8260: not an address and a port."),
        ({"address": "127.0.0.1:8260", "key": "/k"}, "http.key: of no use without http.certificate."),
        ({"address": "[::1]:8260", "credentials": ["u:short"]}, "http.credentials[0]: a password has at least 8"),
    ],
    ids=str,
)
def test_http_that_the_engine_would_not_start_with_is_refused_first(
    on_host: Run, home: Path, option: Result, why: str
) -> None:
    failed = on_host(fails=True, http=option)
    assert failed["msg"].startswith(why)
    assert not home.exists()


def test_restarted_restarts_every_time(on_host: Run, home: Path) -> None:
    home.mkdir()
    first, second = on_host(state="restarted"), on_host(state="restarted")
    assert not first["restarted"]
    assert second["restarted"]
    assert second["pid"] != first["pid"]


def test_a_killed_engine_is_started_again(on_host: Run, home: Path) -> None:
    home.mkdir()
    os.kill(on_host()["pid"], signal.SIGKILL)
    assert told(on_host()) == ["start engine"]


def test_stopped_and_absent_are_idempotent(on_host: Run, home: Path) -> None:
    assert not on_host(state="stopped")["changed"]
    assert not on_host(state="absent")["changed"]
    home.mkdir()
    pid = on_host(directories=[str(home / "disks")])["pid"]
    assert told(on_host(check=True, state="stopped")) == ["stop engine"]
    assert told(on_host(state="stopped")) == ["stop engine"]
    assert start_time(pid) is None
    assert not on_host(state="stopped")["changed"]
    predicted = on_host(state="absent", purge=True, check=True)
    assert on_host(state="absent", purge=True)["actions"] == predicted["actions"]
    assert [path.name for path in home.iterdir()] == ["disks"]


def test_a_socket_that_is_too_long_is_one_sentence(on_host: Run, home: Path) -> None:
    result = on_host(socket="/tmp/" + "x" * 103, fails=True)
    assert "108 bytes, and a Unix socket's path may have 107" in result["msg"]
    assert not home.exists()


def test_spinning_has_a_limit(on_host: Run, home: Path) -> None:
    assert on_host(spin=1001, fails=True)["msg"] == "spin: not between 0 and 1000."
    assert not home.exists()


def test_an_engine_that_cannot_start_tells_why(on_host: Run, home: Path) -> None:
    home.mkdir()
    assert "CPU mask '0x0'" in on_host(cpumask="0x0", fails=True)["msg"]
    assert not (home / "engine.pid").exists()


def test_an_old_python_is_refused_before_anything_is_made(on_host: Run, tmp_path: Path, home: Path) -> None:
    old = tmp_path / "python3.8"
    old.write_text("#!/bin/sh\necho 3 8\n")
    old.chmod(0o755)
    assert "is Python 3.8, and the engine needs 3.9 or newer" in on_host(python=str(old), fails=True)["msg"]
    assert not home.exists()


def test_a_home_that_cannot_be_made_is_named(on_host: Run, home: Path) -> None:
    home.touch()
    assert on_host(fails=True)["msg"].startswith(f"{home}")


def test_options_of_the_target_are_there_from_the_first_start(on_host: Run, home: Path) -> None:
    home.mkdir()
    wanted = {"max_queue_depth": 128, "first_burst_length": 8192}
    predicted = on_host(target_options=wanted, check=True)
    assert list(home.iterdir()) == [home / "openlun-iscsi.pyz"]
    first = on_host(target_options=wanted)
    assert told(first) == ["create directory", "write file", "start engine"]
    assert first["actions"] == predicted["actions"]
    assert not on_host(target_options=wanted)["changed"]
    assert not on_host()["changed"]
    predicted = on_host(target_options={"max_queue_depth": 256}, check=True)
    assert predicted["reason"] == "its target options changed: max_queue_depth 128 → 256"
    assert on_host(target_options={"max_queue_depth": 256})["actions"] == predicted["actions"]
    assert not on_host(target_options={"max_queue_depth": 256, "first_burst_length": 8192})["changed"]


def test_an_option_of_the_target_that_is_wrong_is_refused(on_host: Run, home: Path) -> None:
    result = on_host(target_options={"max_queue_depth": 0}, fails=True)
    assert result["msg"].startswith("target_options.max_queue_depth: max_queue_depth 0 is not between")
    assert not home.exists()
