# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process manager with a stand-in for the engine: what it starts, what it ends, and what it never touches."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._service import procfs
from ansible_collections.openlun.iscsi.plugins.module_utils._service.errors import ServiceError
from ansible_collections.openlun.iscsi.plugins.module_utils._service.layout import Layout, layout
from ansible_collections.openlun.iscsi.plugins.module_utils._service.process import ProcessManager
from ansible_collections.openlun.iscsi.plugins.module_utils._service.readiness import ask_engine
from ansible_collections.openlun.iscsi.plugins.module_utils._service.settings import Settings
from engine_process import eventually

ANSWERS = """
import json, os, signal, socket, sys
path = sys.argv[sys.argv.index("-r") + 1]
if os.path.exists(path):
    os.unlink(path)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
while True:
    client = server.accept()[0]
    request = json.loads(client.recv(65536))
    info = {"pid": os.getpid(), "version": "1", "checksum": "aa"}
    client.sendall(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": info}).encode() + b"\\n")
    client.close()
"""
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + ANSWERS
DIES = "import sys\nsys.exit('no room for the state directory')\n"
NEVER_ANSWERS = "import signal\nsignal.pause()\n"


class Stand:
    """A home with a stand-in archive, and a manager for it."""

    def __init__(self, paths: Layout) -> None:
        self.paths = paths
        self.settings = Settings(paths, sys.executable)

    def manager(self, timeout: float = 20.0) -> ProcessManager:
        return ProcessManager(self.settings, lambda: ask_engine(self.paths.socket), timeout)

    def started(self, program: str) -> int:
        Path(self.paths.archive).write_text(program)
        manager = self.manager()
        manager.start()
        pid = manager.running()
        assert pid is not None
        return pid


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    stand = Stand(layout(str(tmp_path), None, os.geteuid(), "/nowhere"))
    yield stand
    pid = stand.manager().running()
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def gone(pid: int) -> bool:
    return procfs.start_time(pid) is None


def test_it_runs_in_a_session_of_its_own_with_a_private_log(stand: Stand) -> None:
    pid = stand.started(ANSWERS)
    assert os.getsid(pid) == pid
    assert procfs.command_of(pid) == stand.settings.command()
    assert stat.S_IMODE(Path(stand.paths.log_file).stat().st_mode) == 0o600


def test_stop_ends_it_and_forgets_it(stand: Stand) -> None:
    pid = stand.started(ANSWERS)
    stand.manager().stop(force=False)
    assert gone(pid)
    assert not Path(stand.paths.pid_file).exists()


def test_an_engine_that_dies_at_start_tells_its_last_words(stand: Stand) -> None:
    Path(stand.paths.log_file).write_text("words of an earlier run\n")
    Path(stand.paths.archive).write_text(DIES)
    with pytest.raises(ServiceError, match=r"status 1.*no room for the state directory") as error:
        stand.manager().start()
    assert "earlier" not in str(error.value)


def test_an_engine_that_does_not_answer_in_time_is_named_and_left(stand: Stand) -> None:
    Path(stand.paths.archive).write_text(NEVER_ANSWERS)
    with pytest.raises(ServiceError, match=r"did not answer on .* within 0\.2 s"):
        stand.manager(timeout=0.2).start()
    assert stand.manager().running() is not None


def test_a_recycled_pid_is_nobody_and_never_killed(stand: Stand) -> None:
    with subprocess.Popen(["sleep", "600"]) as innocent:
        began = procfs.start_time(innocent.pid)
        assert began is not None
        Path(stand.paths.pid_file).write_text(f"{innocent.pid}\n{began - 1}\n")
        assert stand.manager().running() is None
        stand.manager().stop(force=True)
        assert innocent.poll() is None
        innocent.kill()


@pytest.mark.parametrize("content", ["", "x\n", "1\n", "1\n2\n3\n"])
def test_a_damaged_pid_file_is_nobody(stand: Stand, content: str) -> None:
    Path(stand.paths.pid_file).write_text(content)
    assert stand.manager().running() is None


def test_an_engine_without_a_pid_file_is_found_by_its_socket(stand: Stand) -> None:
    pid = stand.started(ANSWERS)
    Path(stand.paths.pid_file).unlink()
    assert stand.manager().running() == pid
    stand.manager().stop(force=False)
    assert gone(pid)


def test_an_engine_that_was_killed_is_started_again(stand: Stand) -> None:
    first = stand.started(ANSWERS)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: gone(first), "the end of the engine")
    assert stand.manager().running() is None
    assert stand.started(ANSWERS) != first


def test_an_engine_that_does_not_end_is_killed_only_with_force(stand: Stand) -> None:
    pid = stand.started(DEAF)
    with pytest.raises(ServiceError, match=f"engine .pid {pid}.: still runs"):
        stand.manager(timeout=0.2).stop(force=False)
    assert not gone(pid)
    stand.manager(timeout=0.2).stop(force=True)
    assert gone(pid)


def test_absent_leaves_files_of_others_and_purge_takes_the_state(stand: Stand) -> None:
    stand.started(ANSWERS)
    disk = Path(stand.paths.home, "disk.img")
    disk.touch()
    state = Path(stand.paths.state_dir)
    state.mkdir()
    (state / "config.json").touch()
    stand.manager().stop(force=False)
    for purge, left in ((False, {"disk.img", "engine.log", "state"}), (True, {"disk.img"})):
        for step in stand.manager().remove(purge):
            step.do()
        assert {path.name for path in Path(stand.paths.home).iterdir()} == left
    disk.unlink()
    for step in stand.manager().remove(True):
        step.do()
    assert not Path(stand.paths.home).exists()
