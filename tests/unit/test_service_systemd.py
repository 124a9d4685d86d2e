# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd service: its unit as text, and the commands that a play makes of it, recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._service import procfs, users
from ansible_collections.openlun.iscsi.plugins.module_utils._service.errors import ServiceError
from ansible_collections.openlun.iscsi.plugins.module_utils._service.installed import Installed, read
from ansible_collections.openlun.iscsi.plugins.module_utils._service.layout import Layout, layout
from ansible_collections.openlun.iscsi.plugins.module_utils._service.manager import Completed, Step
from ansible_collections.openlun.iscsi.plugins.module_utils._service.options import StartOptions
from ansible_collections.openlun.iscsi.plugins.module_utils._service.service import Outcome, Request, Service
from ansible_collections.openlun.iscsi.plugins.module_utils._service.settings import Settings
from ansible_collections.openlun.iscsi.plugins.module_utils._service.systemd import UNIT, SystemdManager
from ansible_collections.openlun.iscsi.plugins.module_utils._service.unit import unit_text
from ansible_collections.openlun.iscsi.plugins.module_utils._service.web import CredentialsFile, Web

OWN = Settings(layout(None, None, 0, "/root"), "/usr/bin/python3")


def directives(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def test_the_unit_runs_the_engine_as_its_own_user_and_waits_until_it_is_ready() -> None:
    unit = directives(unit_text(OWN))
    assert unit["Type"] == "notify"
    assert unit["User"] == unit["Group"] == "openlun-iscsi"
    assert unit["Restart"] == "on-failure"
    assert unit["KillMode"] == "mixed"
    assert unit["ExecStart"] == (
        "/usr/bin/python3 -I /opt/openlun-iscsi/openlun-iscsi.pyz serve"
        " -r /run/openlun-iscsi/rpc.sock --state-dir /var/lib/openlun-iscsi"
    )


def test_the_unit_is_hardened() -> None:
    unit = directives(unit_text(OWN))
    assert unit["NoNewPrivileges"] == "yes"
    assert unit["ProtectSystem"] == "full"
    assert unit["CapabilityBoundingSet"] == "CAP_NET_BIND_SERVICE"


def test_systemd_makes_the_directories_of_the_system_but_not_those_of_a_home() -> None:
    assert directives(unit_text(OWN))["RuntimeDirectory"] == "openlun-iscsi"
    assert directives(unit_text(OWN))["StateDirectory"] == "openlun-iscsi"
    gathered = directives(unit_text(OWN._replace(layout=layout("/srv/t", None, 0, "/root"))))
    assert "RuntimeDirectory" not in gathered
    assert "StateDirectory" not in gathered


def test_groups_and_cores_come_into_the_unit() -> None:
    unit = directives(unit_text(OWN._replace(groups=("disk", "kvm"), cpumask="0xF0", spin=50, log_level="DEBUG")))
    assert unit["SupplementaryGroups"] == "disk kvm"
    assert unit["ExecStart"].endswith("-m 0xF0 --spin 50 --log-level DEBUG")


def test_management_over_http_comes_into_the_unit_without_its_credentials() -> None:
    web = Web("0.0.0.0:8260", "/etc/target.pem", credentials=("a-long-token",))
    text = unit_text(OWN._replace(http=web, drain_seconds=300))
    assert "--drain-seconds 300 --http 0.0.0.0:8260 --http-credentials /var/lib/openlun-iscsi/http-credentials" in text
    assert "a-long-token" not in text + repr(web)
    # systemd waits for the initiators, too.
    assert int(directives(text)["TimeoutStopSec"]) > 300


def test_a_running_engine_reads_new_credentials_again(play: Play) -> None:
    play.settings = play.settings._replace(http=Web("127.0.0.1:8260", credentials=("first-token",)))
    play.bring("started")
    play.host.taken()
    manager = SystemdManager(play.settings, play.host.ask, 1, play.host.run, unit_file=str(play.unit_file))
    file = CredentialsFile(play.paths, ("second-token",), None)
    service = Service(play.settings, manager, play.host.ask, apply=True, credentials=file)
    assert [each["action"] for each in service.bring(Request("present")).actions] == ["write", "reload"]
    assert play.host.taken() == [f"systemctl reload {UNIT}"]
    assert Path(file.path).read_text() == "second-token\n"
    assert service.bring(Request("started")).actions == []


@pytest.mark.parametrize(
    ("home", "word"),
    [
        ("/srv/a b", '"/srv/a b/state"'),
        ("/srv/100%", "/srv/100%%/state"),
        ("/srv/$HOME", "/srv/$$HOME/state"),
        ('/srv/"x"', '"/srv/\\"x\\"/state"'),
    ],
)
def test_what_systemd_would_expand_or_split_is_quoted(home: str, word: str) -> None:
    unit = directives(unit_text(OWN._replace(layout=layout(home, None, 0, "/root"))))
    assert unit["ExecStart"].endswith(word)


class Host:
    """Plays systemctl: keeps a unit's state and records every command that changes something."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.active = False
        self.enabled = False
        self.failing = ""
        self.checksum = "aa"
        self.user = users.USER

    def run(self, command: list[str]) -> Completed:
        verb = command[1]
        if verb == "show":
            state = ("active", "4711") if self.active else ("inactive", "0")
            shown = f"ActiveState={state[0]}\nMainPID={state[1]}\nNeedDaemonReload=no\n"
            return Completed(0, shown + f"UnitFileState={'enabled' if self.enabled else ''}\n", "")
        if command[0] == "journalctl":
            return Completed(0, "openlun-iscsi: no room\n", "")
        self.commands.append(" ".join(command))
        if verb == self.failing:
            return Completed(1, "", "Job failed.")
        self.active = {"start": True, "restart": True, "stop": False}.get(verb, self.active)
        self.enabled = {"enable": True, "disable": False}.get(verb, self.enabled)
        return Completed(0, "", "")

    def ask(self) -> Mapping[str, Any] | None:
        return {"pid": 4711, "version": "1", "checksum": self.checksum} if self.active else None

    def taken(self) -> list[str]:
        commands, self.commands = self.commands, []
        return commands


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()

    def no_user(*_arguments: object) -> Iterator[Step]:
        return iter(())

    monkeypatch.setattr(users, "create_missing", no_user)
    monkeypatch.setattr(users, "remove_existing", no_user)
    monkeypatch.setattr(procfs, "start_time", lambda _pid: 1)
    monkeypatch.setattr(procfs, "user_of", lambda _pid: host.user)
    return host


@pytest.fixture
def paths(tmp_path: Path) -> Layout:
    """The system's layout, below a directory of the test."""
    return Layout(
        home="",
        archive=str(tmp_path / "opt/openlun-iscsi.pyz"),
        state_dir=str(tmp_path / "state"),
        run_dir=str(tmp_path / "run"),
        log_file=str(tmp_path / "log/engine.log"),
        socket=str(tmp_path / "run/rpc.sock"),
    )


class Play:
    """Runs the service on the host as the module does, the archive in place."""

    def __init__(self, host: Host, paths: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = host
        self.paths = paths
        self.settings = Settings(paths, "/usr/bin/python3")
        self.unit_file = Path(paths.archive).parents[1] / UNIT
        self._patch = monkeypatch

    def bring(self, state: str, *, check: bool = False, purge: bool = False) -> Outcome:
        manager = SystemdManager(self.settings, self.host.ask, 1, self.host.run, unit_file=str(self.unit_file))
        self._patch.setattr(procfs, "command_of", lambda _pid: self.settings.command())
        found = read(self.paths.archive)
        if found is not None:
            self.host.checksum = self.host.checksum if self.host.active else found.checksum
        service = Service(self.settings, manager, self.host.ask, apply=not check)
        return service.bring(Request(state, found, purge=purge, timeout=1))


@pytest.fixture
def play(host: Host, paths: Layout, monkeypatch: pytest.MonkeyPatch) -> Play:
    Path(paths.archive).parent.mkdir()
    Path(paths.archive).write_bytes(b"an engine")
    return Play(host, paths, monkeypatch)


def test_a_first_run_defines_enables_and_starts(play: Play) -> None:
    outcome = play.bring("started")
    assert play.host.taken() == ["systemctl daemon-reload", f"systemctl enable {UNIT}", f"systemctl start {UNIT}"]
    assert play.unit_file.read_text() == unit_text(play.settings)
    assert outcome.pid == 4711
    assert not outcome.restarted


def test_a_second_run_changes_nothing(play: Play) -> None:
    play.bring("started")
    play.host.taken()
    assert play.bring("started").actions == []
    assert play.host.taken() == []


def test_check_mode_tells_what_a_run_does_and_does_nothing(play: Play) -> None:
    predicted = play.bring("started", check=True)
    assert play.host.taken() == []
    assert not play.unit_file.exists()
    done = play.bring("started")
    assert predicted.actions == done.actions
    assert predicted.after == done.after


def test_changed_options_reload_and_restart(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play.bring("started")
    play.host.taken()
    running = play.settings.command()
    play.settings = play.settings._replace(cpumask="0x1")
    manager = SystemdManager(play.settings, play.host.ask, 1, play.host.run, unit_file=str(play.unit_file))
    monkeypatch.setattr(procfs, "command_of", lambda _pid: running)
    outcome = Service(play.settings, manager, play.host.ask, apply=True).bring(Request("started"))
    assert play.host.taken() == ["systemctl daemon-reload", f"systemctl restart {UNIT}"]
    assert outcome.restarted
    assert outcome.reason == "its options changed"


def test_another_archive_restarts_without_a_reload_and_says_why(play: Play) -> None:
    play.bring("started")
    play.host.taken()
    Path(play.paths.archive).write_bytes(b"another engine")
    outcome = play.bring("started")
    assert play.host.taken() == [f"systemctl restart {UNIT}"]
    assert "content changed from 1 (sha256" in outcome.reason


def test_an_engine_that_shall_run_as_root_is_restarted_as_root(play: Play) -> None:
    play.bring("started")
    play.host.taken()
    play.settings = play.settings._replace(privileged=True)
    assert play.bring("started").reason == f"it runs as {users.USER}, and shall run as root"
    assert play.host.taken() == ["systemctl daemon-reload", f"systemctl restart {UNIT}"]


def test_present_leaves_the_process_alone(play: Play) -> None:
    play.bring("present")
    assert play.host.taken() == ["systemctl daemon-reload"]
    assert not play.host.active


def test_stopped_does_not_come_back_at_boot(play: Play) -> None:
    play.bring("started")
    play.host.taken()
    play.bring("stopped")
    assert play.host.taken() == [f"systemctl disable {UNIT}", f"systemctl stop {UNIT}"]
    assert play.bring("stopped").actions == []


def test_absent_takes_everything_but_the_saved_state(play: Play) -> None:
    play.bring("started")
    state = Path(play.paths.state_dir)
    state.mkdir()
    (state / "config.json").touch()
    play.host.taken()
    play.bring("absent")
    assert play.host.taken() == [
        f"systemctl disable {UNIT}",
        f"systemctl stop {UNIT}",
        "systemctl daemon-reload",
    ]
    assert not play.unit_file.exists()
    assert not Path(play.paths.archive).exists()
    assert (state / "config.json").exists()
    play.bring("absent", purge=True)
    assert not state.exists()
    assert play.bring("absent", purge=True).actions == []


def test_a_service_that_does_not_start_tells_its_last_words(play: Play) -> None:
    play.host.failing = "start"
    with pytest.raises(ServiceError, match="openlun-iscsi: no room"):
        play.bring("started")


def test_an_archive_that_is_not_there_is_asked_for(play: Play) -> None:
    Path(play.paths.archive).unlink()
    manager = SystemdManager(play.settings, play.host.ask, 1, play.host.run, unit_file=str(play.unit_file))
    wanted = Request("started", Installed("1", "aa"))
    assert Service(play.settings, manager, play.host.ask, apply=True).bring(wanted).needs_archive
    assert play.host.taken() == []


def test_an_unknown_group_is_named() -> None:
    with pytest.raises(ServiceError, match="group no-such-group: this host has no such group"):
        list(users.create_missing(Host().run, ("no-such-group",), "/nowhere"))


def test_options_of_the_target_are_saved_while_the_engine_does_not_run(play: Play) -> None:
    play.bring("started")
    play.host.taken()
    options = StartOptions({"max_sessions": 9}, play.paths.state_dir, None, lambda: {"max_sessions": 128})
    manager = SystemdManager(play.settings, play.host.ask, 1, play.host.run, unit_file=str(play.unit_file))
    outcome = Service(play.settings, manager, play.host.ask, apply=True, options=options).bring(Request("started"))
    assert play.host.taken() == [f"systemctl stop {UNIT}", f"systemctl start {UNIT}"]
    assert outcome.reason == "its target options changed: max_sessions 128 → 9"
    assert list(options.saving()) == []
