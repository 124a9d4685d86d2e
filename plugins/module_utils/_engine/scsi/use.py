# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses a logical unit how much: what each initiator did with each LUN of a target node."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from ..bdev.statistics import Tally, add_to_both
from .sense import GOOD, TASK_ABORTED

if TYPE_CHECKING:
    from .device import Task
    from .unit import LogicalUnit

READS: Final = frozenset({0x08, 0x28, 0x88, 0xA8})
"""Operation codes of READ; what these move is read from the bdev as it is."""
WRITES: Final = frozenset({0x0A, 0x2A, 0x8A, 0xAA})
"""Of WRITE, likewise."""
OTHERS: Final = ""
"""In the place of an initiator's name: those that are too many to tell apart."""


class Use:
    """What one initiator does with one LUN.

    Nobody looks at the clock for a command that is carried out at once: who carries them out counts them here, knows
    when they began, and says in the end with :meth:`settle` how long all of them took.
    """

    __slots__ = (
        *("bytes_read", "bytes_written", "errors", "initiator", "lun", "other", "others", "read", "reads", "write"),
        "writes",
    )

    def __init__(self, lun: LogicalUnit, initiator: str) -> None:
        self.lun = lun
        self.initiator = initiator
        self.read = Tally()
        self.write = Tally()
        self.other = Tally()
        """Of all commands but READs and WRITEs."""
        self.errors: Counter[tuple[int, int]] = Counter()
        """Commands that failed by SCSI status and, where there are sense data, sense key."""
        # What is not settled yet.
        self.reads = 0
        self.bytes_read = 0
        self.writes = 0
        self.bytes_written = 0
        self.others = 0

    def settle(self, took: int) -> int:
        """The commands that were counted since the last time took so long, nanoseconds; gives how many they are."""
        lun = self.lun
        count = self.reads + self.writes + self.others
        histogram = lun.device.histogram
        if histogram is not None:
            histogram.tally(took, count)
        if self.reads:
            add_to_both(self.read, lun.bdev.stats.read, took, self.reads, self.bytes_read)
            self.reads = self.bytes_read = 0
        if self.writes:
            add_to_both(self.write, lun.bdev.stats.write, took, self.writes, self.bytes_written)
            self.writes = self.bytes_written = 0
        if self.others:
            self.other.add(took, self.others)
            self.others = 0
        return count

    def count(self, task: Task, took: int) -> None:
        """A command that took its own time, or did not end well."""
        opcode, stats = task.cdb[0], self.lun.bdev.stats
        failed = task.aborted or task.status != GOOD
        if failed:
            self.errors[(TASK_ABORTED, 0) if task.aborted else (task.status, _sense_key(task.sense))] += 1
        if opcode in READS:
            self._add(self.read, stats.read, took, len(task.data_in or b""), failed)
        elif opcode in WRITES:
            self._add(self.write, stats.write, took, len(task.data_out), failed)
        else:
            self.other.add(took)
        if self.lun.device.histogram is not None:
            self.lun.device.histogram.tally(took)

    @staticmethod
    def _add(own: Tally, of_bdev: Tally, took: int, length: int, failed: bool) -> None:
        if failed:
            own.add(took)
        else:
            add_to_both(own, of_bdev, took, 1, length)


def _sense_key(sense: bytes) -> int:
    """SPC-4 §4.5: in descriptor and in fixed format."""
    if len(sense) < 3:
        return 0
    return sense[1 if sense[0] & 0x7F >= 0x72 else 2] & 0x0F
