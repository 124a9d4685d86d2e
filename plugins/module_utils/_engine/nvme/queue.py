# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A submission queue, its completion queue, and the commands in flight between them (NVMe Base 2.0, §3.3.1)."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from typing import Final

from .registers import Capabilities

_LOG = logging.getLogger(__name__)

SUBMISSION_BYTES: Final = 64
COMPLETION_BYTES: Final = 16

_SUBMISSION: Final = struct.Struct("<BBHI16xQQIIIIII")
"""Opcode, flags, command identifier, namespace, two PRP entries, command dwords 10 to 15 (§3.3.3.1)."""
_COMPLETION: Final = struct.Struct("<I4xHHHH")
"""Dword 0, submission queue head and number, command identifier, status with the phase bit (§3.3.3.2)."""


class Command:
    """What is put into a submission queue; ``finish`` is called once, when its completion is there.

    The defaults are the class's, so that making one, which happens for every read and write, sets only what differs.
    """

    prp1: int = 0
    prp2: int = 0
    cid: int = -1
    deadline: float = 0.0

    def __init__(self, opcode: int, nsid: int, cdw10: int = 0, cdw11: int = 0, cdw12: int = 0) -> None:
        self.opcode = opcode
        self.nsid = nsid
        self.cdw10 = cdw10
        self.cdw11 = cdw11
        self.cdw12 = cdw12

    def finish(self, outcome: int, result: int) -> None:
        """``outcome``, the status without the phase bit, is 0 for success, ``result`` is dword 0 of the completion."""
        raise NotImplementedError


class QueuePair:
    """Both rings lie in DMA memory of ``depth`` entries each; one entry of a ring always stays empty."""

    def __init__(
        self,
        number: int,
        depth: int,
        submission: memoryview,
        completion: memoryview,
        words: memoryview,
        capabilities: Capabilities,
    ) -> None:
        self.number = number
        self.depth = depth
        submission[:] = bytes(len(submission))
        completion[:] = bytes(len(completion))
        self._submission = submission
        self._completion = completion
        self._halves = completion.cast("H")
        self._words = words
        self._tail_doorbell = capabilities.doorbell(number, completion=False)
        self._head_doorbell = capabilities.doorbell(number, completion=True)
        self._tail = self._rung = 0
        self._head = 0
        self._phase = 1
        self._commands: list[Command | None] = [None] * (depth - 1)
        self.most = depth - 1
        """Commands that may be in flight."""
        self.free = list(range(depth - 2, -1, -1))
        """Command identifiers that are not in use; as many commands may be started."""

    @property
    def outstanding(self) -> int:
        return self.most - len(self.free)

    def commands(self) -> Iterator[Command]:
        """Those in flight."""
        return (command for command in self._commands if command is not None)

    def start(self, command: Command) -> None:
        """Put a command into the submission queue; the controller sees it after :meth:`ring`."""
        cid = self.free.pop()
        self._commands[cid] = command
        command.cid = cid
        tail = self._tail
        _SUBMISSION.pack_into(
            self._submission,
            tail * SUBMISSION_BYTES,
            command.opcode,
            0,
            cid,
            command.nsid,
            command.prp1,
            command.prp2,
            command.cdw10,
            command.cdw11,
            command.cdw12,
            0,
            0,
            0,
        )
        tail += 1
        self._tail = tail if tail < self.depth else 0

    def ring(self) -> None:
        """Tell the controller of what was started."""
        if self._tail != self._rung:
            self._rung = self._tail
            self._words[self._tail_doorbell] = self._tail

    def reap(self) -> int:
        """Take all completions there are, and finish their commands; gives how many there were."""
        halves = self._halves
        at, phase = self._head, self._phase
        # The phase bit is looked at before the rest, which the controller wrote earlier or together with it.
        if halves[at * 8 + 7] & 1 != phase:
            return 0
        commands, free, most = self._commands, self.free, self.most
        completion, unpack = self._completion, _COMPLETION.unpack_from
        finished: list[tuple[Command, int, int]] = []
        while halves[at * 8 + 7] & 1 == phase:
            result, _head, _number, cid, status = unpack(completion, at * COMPLETION_BYTES)
            at += 1
            if at == self.depth:
                at = 0
                phase ^= 1
            command = commands[cid] if cid < most else None
            if command is None:
                _LOG.error("NVMe queue %d: a completion of command %d, which is not in flight", self.number, cid)
                continue
            commands[cid] = None
            free.append(cid)
            finished.append((command, status >> 1, result))
        self._head, self._phase = at, phase
        # Before they finish: what starts then needs room in the ring for its own completions.
        self._words[self._head_doorbell] = at
        for command, status, result in finished:
            command.finish(status, result)
        return len(finished)

    def abandon(self) -> list[Command]:
        """The commands in flight, oldest first, which this queue will never finish: the controller was disabled."""
        left = sorted(self.commands(), key=lambda command: command.deadline)
        self._commands = [None] * (self.depth - 1)
        self.free = list(range(self.depth - 2, -1, -1))
        return left
