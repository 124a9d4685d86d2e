# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SPDK's target as a service: its unit, its command line, what it needs before a start, and the engine as root."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._service import procfs
from ansible_collections.openlun.iscsi.plugins.module_utils._service.errors import ServiceError
from ansible_collections.openlun.iscsi.plugins.module_utils._service.free_hugepages import check_free
from ansible_collections.openlun.iscsi.plugins.module_utils._service.layout import Layout, layout
from ansible_collections.openlun.iscsi.plugins.module_utils._service.manager import Completed
from ansible_collections.openlun.iscsi.plugins.module_utils._service.options import StartOptions
from ansible_collections.openlun.iscsi.plugins.module_utils._service.service import Outcome, Request
from ansible_collections.openlun.iscsi.plugins.module_utils._service.settings import Settings
from ansible_collections.openlun.iscsi.plugins.module_utils._service.spdk import (
    SpdkSettings,
    check_config,
    find_program,
    not_found,
    spdk_layout,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._service.spdk_manager import UNIT, SpdkSystemdManager
from ansible_collections.openlun.iscsi.plugins.module_utils._service.spdk_service import SpdkService
from ansible_collections.openlun.iscsi.plugins.module_utils._service.spdk_unit import spdk_unit_text
from ansible_collections.openlun.iscsi.plugins.module_utils._service.unit import unit_text

PROGRAM = "/opt/spdk/build/bin/iscsi_tgt"
SPDK = SpdkSettings(spdk_layout(None, None, 0, "/root"), PROGRAM)


def directives(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def test_the_unit_starts_spdk_with_what_was_saved_once_there_are_hugepages() -> None:
    unit = directives(spdk_unit_text(SPDK._replace(cpumask="[4-5]", memory=1024)))
    assert unit["ExecStart"] == (
        f"{PROGRAM} -r /run/openlun-iscsi-spdk/rpc.sock -c /var/lib/openlun-iscsi-spdk/config.json"
        " --json-ignore-init-errors -m [4-5] -s 1024"
    )
    assert "systemd-sysctl.service" in unit["After"].split()
    assert "dev-hugepages.mount" in unit["After"].split()
    assert "dev-hugepages.mount" in unit["Wants"].split()
    assert unit["LimitMEMLOCK"] == "infinity"
    assert "User" not in unit


def test_the_socket_is_for_root_unless_a_group_may_use_it() -> None:
    assert directives(spdk_unit_text(SPDK))["UMask"] == "0077"
    unit = directives(spdk_unit_text(SPDK._replace(group="storage")))
    assert (unit["Group"], unit["UMask"], unit["RuntimeDirectoryMode"]) == ("storage", "0007", "0750")


def test_without_hugepages_nothing_waits_for_them() -> None:
    unit = directives(spdk_unit_text(SPDK._replace(hugepages=False, memory=512, arguments=("--no-pci",))))
    assert "hugepages" not in unit["After"] + unit["Wants"]
    assert unit["ExecStart"].endswith("-s 512 --no-huge --no-pci")


@pytest.mark.parametrize("place", ["bin", "build/bin"])
def test_the_program_is_found_where_spdk_was_installed_or_built(tmp_path: Path, place: str) -> None:
    program = tmp_path / place / "iscsi_tgt"
    program.parent.mkdir(parents=True)
    program.write_text("")
    assert find_program(None, str(tmp_path)) is None
    program.chmod(0o755)
    assert find_program(None, str(tmp_path)) == str(program)
    assert find_program(None, None, [str(program)]) == str(program)
    assert find_program(str(program), None) == str(program)


def test_a_program_that_is_missing_is_told_with_the_next_step() -> None:
    assert "prefix /srv/spdk: no iscsi_tgt in its bin, build/bin" in str(not_found(None, "/srv/spdk"))
    assert "set prefix or program" in str(not_found(None, None))


@pytest.mark.parametrize("text", ["{}", '{"subsystems": []}', '// by hand\n{"subsystems": []}'])
def test_what_spdk_can_load_is_left_to_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    check_config(str(tmp_path / "config.json"))
    check_config(str(tmp_path / "missing.json"))


@pytest.mark.parametrize("text", ['{"subsystems": [{"secret": "hidden"', "[]", '{"subsystems": {}}', "\udcff"])
def test_a_damaged_configuration_is_refused_without_its_secrets(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ServiceError, match="It was left untouched") as refused:
        check_config(str(path))
    assert "hidden" not in str(refused.value)


def pages(root: Path, **free: int) -> str:
    for size, count in free.items():
        directory = root / f"hugepages-{size[1:]}kB"
        directory.mkdir()
        (directory / "free_hugepages").write_text(f"{count}\n")
        (directory / "resv_hugepages").write_text("1\n")
    return str(root)


def test_a_start_needs_as_many_free_hugepages_as_it_takes(tmp_path: Path) -> None:
    sys = pages(tmp_path, _2048=257, _1048576=1)
    check_free(512, sys)
    check_free(None, sys)
    with pytest.raises(ServiceError, match="shall have 513 MiB of them, and 512 MiB are free") as refused:
        check_free(513, sys)
    assert "256 of 2 MiB, 0 of 1 GiB" in str(refused.value)
    with pytest.raises(ServiceError, match="the kernel has none"):
        check_free(None, str(tmp_path / "none"))


class Host:
    """Plays systemctl and SPDK: keeps a unit's state and records every command that changes something."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.active = self.enabled = False

    def run(self, command: list[str]) -> Completed:
        verb = command[1]
        assert UNIT in command or verb == "daemon-reload"
        if verb == "show":
            state = ("active", "4711") if self.active else ("inactive", "0")
            shown = f"ActiveState={state[0]}\nMainPID={state[1]}\nNeedDaemonReload=no\n"
            return Completed(0, shown + f"UnitFileState={'enabled' if self.enabled else ''}\n", "")
        self.commands.append(verb)
        self.active = {"start": True, "restart": True, "stop": False}.get(verb, self.active)
        self.enabled = {"enable": True, "disable": False}.get(verb, self.enabled)
        return Completed(0, "", "")

    def ask(self) -> Mapping[str, Any] | None:
        return {"pid": 4711, "version": "SPDK v26.05"} if self.active else None

    def taken(self) -> list[str]:
        commands, self.commands = self.commands, []
        return commands


class Play:
    """Runs the service as the module does."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.host = Host()
        run, state = root / "run", root / "state"
        self.settings = SpdkSettings(Layout("", "", str(state), str(run), str(root / "log"), str(run / "s")), PROGRAM)
        self.running = self.settings
        self.unit_file = root / UNIT
        self.missing = ""
        patch.setattr(procfs, "start_time", lambda _pid: 1)
        patch.setattr(procfs, "command_of", lambda _pid: ["/usr/bin/env", *self.running.command()])

    def bring(self, state: str, *, check: bool = False, purge: bool = False, **options: Any) -> Outcome:
        host = self.host
        manager = SpdkSystemdManager(self.settings, host.ask, 1, host.run, unit_file=str(self.unit_file))
        start = StartOptions(options, self.settings.layout.state_dir, None, lambda: {"max_sessions": 128})
        service = SpdkService(self.settings, manager, host.ask, not check, start, self.ready)
        outcome = service.bring(Request(state, purge=purge, timeout=1))
        self.running = self.settings
        return outcome

    def ready(self) -> None:
        if self.missing:
            raise ServiceError(self.missing)


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    return Play(tmp_path, monkeypatch)


def test_a_first_run_is_foretold_and_a_second_one_changes_nothing(play: Play) -> None:
    foretold = play.bring("started", check=True)
    assert play.host.taken() == []
    assert not play.unit_file.exists()
    done = play.bring("started")
    assert play.host.taken() == ["daemon-reload", "enable", "start"]
    assert (foretold.actions, foretold.after) == (done.actions, done.after)
    assert json.loads(Path(play.settings.config).read_text()) == {"subsystems": []}
    assert Path(play.settings.config).stat().st_mode & 0o777 == 0o600
    assert play.bring("started").actions == []


def test_what_is_missing_for_a_start_stops_before_anything_is_changed(play: Play) -> None:
    play.missing = "hugepages: none"
    with pytest.raises(ServiceError, match="hugepages: none"):
        play.bring("started")
    assert play.host.taken() == []
    assert not Path(play.settings.config).exists()
    play.missing = ""
    play.bring("started")
    play.missing = "hugepages: none"  # the running one has them
    assert play.bring("started").actions == []


def test_other_options_restart_it_and_what_was_saved_stays(play: Play) -> None:
    play.bring("started")
    Path(play.settings.config).write_text('{"subsystems": [{"subsystem": "bdev", "config": []}]}')
    play.host.taken()
    play.settings = play.settings._replace(memory=512)
    assert play.bring("started").reason == "its options changed"
    assert play.host.taken() == ["daemon-reload", "restart"]
    outcome = play.bring("started", max_sessions=64)
    assert outcome.reason == "its target options changed: max_sessions 128 → 64"
    assert play.host.taken() == ["stop", "start"]
    saved = json.loads(Path(play.settings.config).read_text())["subsystems"]
    assert saved[0] == {"subsystem": "bdev", "config": []}
    assert saved[1]["config"] == [{"method": "iscsi_set_options", "params": {"max_sessions": 64}}]


def test_absent_keeps_what_was_saved_unless_it_is_purged(play: Play) -> None:
    play.bring("started")
    play.host.taken()
    play.bring("absent")
    assert play.host.taken() == ["disable", "stop", "daemon-reload"]
    assert not play.unit_file.exists()
    assert Path(play.settings.config).exists()
    play.bring("absent", purge=True)
    assert not Path(play.settings.layout.state_dir).exists()
    assert play.bring("absent", purge=True).actions == []


def test_the_engine_is_root_only_with_a_driver_of_its_own() -> None:
    own = Settings(layout(None, None, 0, "/root"), "/usr/bin/python3")
    unit, root = directives(unit_text(own)), directives(unit_text(own._replace(privileged=True)))
    assert (unit["User"], root["User"], root["Group"]) == ("openlun-iscsi", "root", "root")
    assert root["LimitMEMLOCK"] == "infinity"
    gone = {"ProtectKernelTunables", "ProtectKernelModules", "ProtectProc", "CapabilityBoundingSet"}
    assert gone <= set(unit)
    assert not gone & set(root)
    assert root["NoNewPrivileges"] == "yes"
