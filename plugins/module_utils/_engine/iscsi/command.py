# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A SCSI command with what iSCSI knows of it."""

from __future__ import annotations

from ..scsi.device import Nexus, Task
from ..scsi.sense import CommandFailed
from ..scsi.use import Use


class IscsiTask(Task):
    """A SCSI command with what iSCSI knows of it."""

    wanted: int = 0
    """Data-Out bytes the command itself asks for."""
    buffer: bytearray | None = None
    """Where the data was received, to be used again."""
    begun: int = 0
    """When it was run, nanoseconds of the monotonic clock; only of one that is not carried out at once."""
    finished: bool = False
    unusual: bool = False
    """It failed, is aborted or moves data both ways: only then somebody looks which of these."""
    expected: int
    read_length: int = -1
    """Bytes that the initiator has room for, of a command that moves data both ways; ``expected`` is what it gives.
    Not of any other."""

    def __init__(
        self,
        nexus: Nexus,
        use: Use | None,
        cdb: bytes,
        itt: int,
        lun_field: int,
        expected: int,
        immediate: bool,
    ) -> None:
        # Task.__init__() written out, as this runs for every command.
        self.nexus = nexus
        self.use = use
        if use is None:
            self.lun = None
        else:
            self.lun = self.unit = use.lun
        self.cdb = cdb
        self.itt = itt
        self.lun_field = lun_field
        self.expected = expected
        """Expected data transfer length, bytes: what the initiator has room for or has to give."""
        self.immediate = immediate

    def fail(self, error: CommandFailed) -> None:
        self.unusual = True
        super().fail(error)

    def abort(self) -> None:
        """Never answer it."""
        self.unusual = self.aborted = True
        if self.give_up is not None:
            self.give_up()
