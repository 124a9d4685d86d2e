# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main process's view of a worker that is played by a test."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.channel import Channel, Message
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.host import Call
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.member import Member


class Process(subprocess.Popen[Any]):
    """One that nothing ends as long as ``stage.disk_hangs``, as if it slept without being interruptible."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(("sleep", "100"))
        self._stage = stage

    def kill(self) -> None:
        if not self._stage.disk_hangs:
            super().kill()


class Stage:
    """The main process, and workers that are played by the test: processes that do nothing, and ends of channels."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.reports: list[Mapping[str, Any]] = []
        self.processes: list[Process] = []
        self.worker: Channel | None = None
        self.obeys = True
        self.lives = True
        """It gives signs of life."""
        self.disk_hangs = False
        self.error: str | None = None
        self.member = Member(1, 0, self, self)  # type: ignore[arg-type]

    # what launches

    def launch(self) -> tuple[subprocess.Popen[Any], socket.socket]:
        ours, its = socket.socketpair()
        process = Process(self)
        self.processes.append(process)
        if self.worker is not None:
            self.worker.close()
        self.worker = Channel(its, self._on_message, lambda: None)
        return process, ours

    def _on_message(self, message: Message) -> None:
        words = message.words
        if words["op"] == "ping":
            if self.lives and self.worker is not None:
                self.worker.send({"answer": words["id"], "result": True})
            return
        self.heard.append(words)
        if not self.obeys or self.worker is None:
            return
        if words["op"] in ("call", "take_over"):
            self.worker.send({"done": words["id"], "error": self.error})
        elif words["op"] == "begin":
            self.worker.send({"event": "ready"})
        elif words["op"] == "ask":
            self.worker.send({"answer": words["id"], "result": words["method"]})
        elif words["op"] == "stop":
            self.processes[-1].terminate()
            self.worker.close()

    # what the member needs

    def introduction(self, number: int) -> dict[str, Any]:
        return {"number": number}

    async def may_configure(self) -> None:
        pass

    def configuration(self) -> Iterable[Call]:
        return [Call("first", {}), Call("second", None)]

    def luggage(self, number: int) -> tuple[list[str], dict[str, Any]]:
        return [f"node of {number}"], {"units": {}, "access": {}}

    def is_ready(self, _member: Member) -> None:
        pass

    def counted(self) -> None:
        pass

    def reported(self, _member: Member, words: Mapping[str, Any]) -> None:
        self.reports.append(words)

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            # A worker that is killed closes its end.
            if self.worker is not None and self.processes[-1].poll() is not None:
                self.worker.close()
            await asyncio.sleep(0.001)


def on_stage(play: Callable[[Stage], Awaitable[None]]) -> None:
    async def run() -> None:
        stage = Stage()
        stage.member.start()
        try:
            await asyncio.wait_for(play(stage), 20)
        finally:
            stage.obeys, stage.lives, stage.disk_hangs = True, True, False
            await stage.member.stop(0)
            for process in stage.processes:
                process.kill()
                process.wait()

    asyncio.run(run())
