# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of a connection: begun, waited for, answered, given up."""

from __future__ import annotations

import asyncio
import socket
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from ..loop import Loop
from ..scsi.dispatch import execute
from ..scsi.use import READS, WRITES, Use
from . import answers, pdu
from .buffers import SharedBuffer
from .command import IscsiTask
from .keys import Parameters
from .receiving import Handlers, Receiver
from .session import SERIAL_MASK, Session
from .settling import wait_for

if TYPE_CHECKING:
    from .target import IscsiTarget
    from .transfer import Incoming

_WORK_LIMIT: Final = 64 * 1024 * 1024
"""Bytes that READs may be about to give back; what comes then waits in the socket."""
_WORKING: Final = "its READs take much memory"


class Worker(Receiver):
    """Knows which commands belong to the connection (allegiance, RFC 7143 §4.2.2.1) and where they are."""

    __slots__ = (
        *("_idle", "_transfer_tag", "_used", "_used_before", "_working", "careful", "data_in_limit", "immediate_limit"),
        *("incoming", "outstanding", "parameters", "peer_receive_limit", "plain_limit", "running", "solicited"),
        *("stat_sn", "target", "waiting_writes"),
    )

    def __init__(self, sock: socket.socket, target: IscsiTarget, shared: SharedBuffer, handlers: Handlers) -> None:
        super().__init__(sock, shared, handlers)
        self.target = target
        self.stat_sn = 0
        self.parameters = Parameters()
        self.peer_receive_limit = self.parameters.peer_receive_limit
        self.data_in_limit = self.peer_receive_limit
        """Bytes of READ data that one Data-In PDU may have: it is never more than a sequence (MaxBurstLength) has."""
        self.plain_limit = self.data_in_limit
        """The same where no digests are used, else 0."""
        self.immediate_limit = 0
        """Bytes of data that a command may bring along: FirstBurstLength, or 0 where ImmediateData=No."""
        self._transfer_tag = 0
        self.incoming: dict[int, Incoming] = {}
        """WRITEs waiting for data, by initiator task tag."""
        self.running: dict[int, IscsiTask] = {}
        """Commands that a bdev is working on, by initiator task tag."""
        self.waiting_writes: list[Incoming] = []
        self.solicited = 0
        self._working = 0
        self._used: Use | None = None
        """Where the last command was counted."""
        self._used_before: list[Use] = []
        """Where other commands of this wake-up were."""
        self.outstanding = 0
        """Commands that the initiator had sent and not seen an answer to, as one of this wake-up says; 0: none did."""
        self.careful = False
        """Commands wait for what the initiator left behind."""
        self._idle: list[asyncio.Future[None]] = []

    @property
    def open_session(self) -> Session:
        """The session, for what only happens in full feature phase."""
        if self.session is None:
            raise AssertionError("not in full feature phase")
        return self.session

    def new_transfer_tag(self) -> int:
        """Target transfer tags count up and never take the reserved value."""
        self._transfer_tag = (self._transfer_tag + 1) % pdu.RESERVED_TAG
        return self._transfer_tag

    def next_stat_sn(self) -> int:
        number = self.stat_sn
        self.stat_sn = (number + 1) & SERIAL_MASK
        return number

    def limit_output(self, peer_receive_limit: int) -> None:
        """The initiator declared its MaxRecvDataSegmentLength, at login or later."""
        self.peer_receive_limit = peer_receive_limit
        self.data_in_limit = min(peer_receive_limit, self.parameters.number("MaxBurstLength"))
        self.plain_limit = 0 if self.digests else self.data_in_limit

    def is_shared(self, data: memoryview) -> bool:
        """``data`` lies in the shared receive buffer, so it is gone with the next wake-up."""
        return data.obj is self.buffers.memory

    def has_task(self, itt: int) -> bool:
        """Is a command of this initiator task tag unfinished?"""
        return itt in self.incoming or itt in self.running

    def run(self, task: IscsiTask) -> None:
        if self.careful:
            self._run_behind(task)
        else:
            self._run(task)

    def _run(self, task: IscsiTask) -> None:
        execute(task, self.finish)
        if not task.finished:
            task.begun = self.woken
            self.running[task.itt] = task
            self._working += task.expected
            if self._working > _WORK_LIMIT:
                self.pause(_WORKING)

    def note_use(self, use: Use) -> None:
        """Commands of this wake-up are counted there; how long they took is told when it ends."""
        if use is self._used:
            return
        if self._used is not None:
            self._used_before.append(self._used)
        self._used = use

    def settle(self) -> None:
        if self._used is not None:
            took = monotonic_ns() - self.woken
            count = self._used.settle(took)
            self._used = None
            if self._used_before:
                for use in self._used_before:
                    count += use.settle(took)
                self._used_before.clear()
            if count and not self.running and isinstance(self._loop, Loop):
                self._loop.answered(count, self.outstanding)
            self.outstanding = 0

    def be_careful(self) -> None:
        """While commands that the initiator left behind are still being carried out, nothing overtakes them."""
        session = self.open_session
        left = self.target.settling.left_by(session.who)
        if left and not self.closed:
            self.careful = True
            wait_for(left, self._stop_being_careful)

    def _stop_being_careful(self) -> None:
        if not self.target.settling.left_by(self.open_session.who):
            self.careful = False

    def _run_behind(self, task: IscsiTask) -> None:
        """Run the command when nothing that was left behind on its logical unit is on its way."""
        left = self.target.settling.left_by(self.open_session.who, task.lun) if task.lun is not None else []
        if left:
            task.own_data_out()
            task.begun = monotonic_ns()
            self.running[task.itt] = task
        wait_for(left, lambda: self._run_at_last(task))

    def _run_at_last(self, task: IscsiTask) -> None:
        self.running.pop(task.itt, None)
        waited_since = task.begun
        if waited_since:
            self.woken = waited_since
        if task.aborted:
            self.finish(task)
        else:
            self._run(task)
        if waited_since:
            self.settle()
        if not self.running:
            self._tell_idle()

    def finish(self, task: IscsiTask) -> None:
        """Answer a command that is done."""
        task.finished = True
        use, data, unusual = task.use, task.data_in, task.unusual
        if self.running and self.running.pop(task.itt, None) is not None:
            self._worked(task)
        elif use is not None:
            if unusual:
                use.count(task, monotonic_ns() - self.woken)
            else:
                if use is not self._used:
                    self.note_use(use)
                opcode = task.cdb[0]
                if opcode in READS:
                    use.reads += 1
                    if data is not None:
                        use.bytes_read += len(data)
                elif opcode in WRITES:
                    use.writes += 1
                    use.bytes_written += len(task.data_out)
                else:
                    use.others += 1
        if task.buffer is not None:
            self._use_again(task)
        if unusual:
            self._finish_unusual(task)
        elif self.closed:
            return
        elif data is not None:
            answers.send_data_in(self, task)
        else:
            answers.send_status(self, task)

    def _finish_unusual(self, task: IscsiTask) -> None:
        if task.aborted:
            self.target.settling.settled(task)
        elif self.closed:
            return
        elif task.read_length >= 0:
            answers.send_both_ways(self, task)
        else:
            answers.send_status(self, task)

    def _worked(self, task: IscsiTask) -> None:
        if not self.running:
            self._tell_idle()
        if task.use is not None:
            task.use.count(task, monotonic_ns() - task.begun)
        self._working -= task.expected
        if self._working <= _WORK_LIMIT:
            self.resume(_WORKING)

    def _use_again(self, task: IscsiTask) -> None:
        if task.buffer is not None:
            task.data_out = b""
            self.buffers.give_back(task.buffer)
            task.buffer = None

    def unfinished(self) -> list[IscsiTask]:
        """Commands that belong to this connection (allegiance, RFC 7143 §4.2.2.1) and are not answered yet."""
        return [each.task for each in self.incoming.values()] + list(self.running.values())

    def when_idle(self) -> asyncio.Future[None]:
        """A future that is done when no bdev works for this connection."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._idle.append(future)
        if not self.running:
            self._tell_idle()
        return future

    def _tell_idle(self) -> None:
        idle, self._idle = self._idle, []
        for future in idle:
            if not future.done():
                future.set_result(None)
