# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process around the engine: core masks, the pid file, the service manager, the log."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import EngineError, Invalid
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.process import (
    LEVELS,
    NOTICE,
    Logs,
    PidFile,
    parse_cpumask,
    pin,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.systemd import notify_systemd
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("mask", "cores"),
    [
        ("0xF", {0, 1, 2, 3}),
        ("F", {0, 1, 2, 3}),
        ("10", {4}),
        ("0xF000000", {24, 25, 26, 27}),
        ("[0,2-4]", {0, 2, 3, 4}),
        ("[ 7 ]", {7}),
        ("[3-3]", {3}),
    ],
)
def test_a_mask_in_spdks_forms(mask: str, cores: set[int]) -> None:
    assert parse_cpumask(mask) == cores


@given(st.sets(st.integers(0, 300), min_size=1))
def test_mask_and_list_say_the_same(cores: set[int]) -> None:
    assert parse_cpumask(hex(sum(1 << core for core in cores))) == cores
    assert parse_cpumask(f"[{','.join(map(str, cores))}]") == cores


@pytest.mark.parametrize(
    "mask", ["", "0", "0x0", "-1", "zz", "[", "[]", "[a]", "[1", "1]", "[4-2]", "[1-]", "[-1]", "[1.5]"]
)
def test_what_is_no_mask_is_told(mask: str) -> None:
    with pytest.raises(Invalid, match="CPU mask"):
        parse_cpumask(mask)


def test_a_core_that_is_not_there_is_named() -> None:
    before = os.sched_getaffinity(0)
    try:
        with pytest.raises(Invalid, match="core 900 is not available here"):
            pin({900})
        with pytest.raises(Invalid, match="core 900 is not available here"):
            pin({min(before), 900})
    finally:
        os.sched_setaffinity(0, before)


def test_a_pid_file_that_was_not_written_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("77\n")
    pid_file = PidFile(str(path))
    pid_file.remove()
    assert path.read_text() == "77\n"
    pid_file.write()
    assert path.read_text() == f"{os.getpid()}\n"
    pid_file.remove()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(EngineError, match="nowhere"):
        PidFile(str(tmp_path / "nowhere" / "pid")).write()


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"openlun-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if abstract else name)
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        notify_systemd("READY=1")
        assert manager.recv(100) == b"READY=1"
    notify_systemd("STOPPING=1")  # nobody listens any more: that must not matter
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify_systemd("STOPPING=1")


def test_levels_and_flags_choose_what_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs = Logs()
    logs.open("NOTICE")
    name = Logs.__module__.rpartition(".")[0]
    iscsi, bdev = logging.getLogger(f"{name}.iscsi.login"), logging.getLogger(f"{name}.bdev.aio")
    try:
        assert logs.flags == dict.fromkeys(Logs.FLAGS, False)
        bdev.log(NOTICE, "one")
        bdev.info("two")
        logs.set_flag("iscsi", True)
        iscsi.debug("three")
        bdev.debug("four")
        logs.set_flag("all", True)
        bdev.debug("five")
        logs.set_flag("all", False)
        logs.level = "ERROR"
        iscsi.warning("six")
        assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == ["one", "three", "five"]
        for level in LEVELS:
            logs.level = level
            assert logs.level == level
        with pytest.raises(Invalid, match="nope"):
            logs.set_flag("nope", True)
    finally:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(logging.NOTSET)
        logging.getLogger("asyncio").handlers.clear()
        logging.getLogger("asyncio").propagate = True
